"""The paid sum: its weights, its coin, the user's own reward, and what happens when that fails."""

import math
import pickle
from types import SimpleNamespace

import pytest

from r1_jax.rewards import combine, countdown, verdict
from r1_jax.text import chat

TAGS = SimpleNamespace(
    think_open="<think>",
    think_close="</think>",
    answer_open="<answer>",
    answer_close="</answer>",
)
GOOD = "<think>a</think><answer>1</answer>"
DRAW = (0, 1, 2, 3)


def is_one(answer):
    return verdict.RIGHT if answer == "1" else verdict.WRONG


def grade(completion, *, function=None, accuracy=is_one, draw=DRAW, **config):
    return combine.grade(
        completion,
        "what is 1?",
        "one",
        accuracy,
        TAGS,
        config=combine.RewardConfig(**config),
        custom=function,
        draw=draw,
    )


def test_accuracy_and_format_are_paid_alike():
    wrong = "<think>a</think><answer>2</answer>"
    assert grade(GOOD) == (2.0, {"accuracy": 1.0, "format": 1.0}, verdict.Outcome.RIGHT)
    assert grade("so " + GOOD) == (1.0, {"accuracy": 1.0, "format": 0.0}, verdict.Outcome.RIGHT)
    assert grade(wrong) == (1.0, {"accuracy": 0.0, "format": 1.0}, verdict.Outcome.WRONG)
    assert grade("junk") == (0.0, {"accuracy": 0.0, "format": 0.0}, verdict.Outcome.WRONG)


def test_the_ideal_completion_of_the_template_earns_everything():
    ideal = chat.completion("3*5 is 15, and 7 more is 22", "3*5+7", chat.Tags())
    found = grade(ideal, accuracy=lambda answer: countdown.verdict(answer, (3, 5, 7), 22))
    assert found.total == 2.0


def test_each_weight_changes_the_total_and_leaves_the_parts():
    def three(completion, question, reference):
        return 3

    base = grade(GOOD, function=three, custom_weight=1.0, custom="m:f")
    assert base.total == 2.0 + 3.0
    assert base.parts == {"accuracy": 1.0, "format": 1.0, "custom": 3.0}
    for weights, total in (
        ({"accuracy_weight": 5.0}, 6.0),
        ({"format_weight": -0.5}, 0.5),
        ({"custom": "m:f", "custom_weight": 0.0}, 2.0),
        ({"custom": "m:f", "custom_weight": 2.0}, 8.0),
    ):
        found = grade(GOOD, function=three, **weights)
        assert (found.total, found.parts) == (total, base.parts)


def test_the_coin_is_paid_when_it_has_a_weight():
    draws = [(0, 1, 2, sample) for sample in range(32)]
    control = {"accuracy_weight": 0.0, "format_weight": 0.0, "random_weight": 1.0}
    found = [grade(GOOD, draw=draw, **control) for draw in draws]
    assert [grade.total for grade in found] == [combine.coin(*draw) for draw in draws]
    assert {grade.total for grade in found} == {0.0, 1.0}
    assert all(grade.parts["accuracy"] == 1.0 for grade in found)
    assert "random" not in grade(GOOD).parts


def test_the_coin_depends_on_all_of_its_arguments_and_is_fair():
    num_draws = 4096
    streams = [
        [combine.coin(*(7,) * place, i, *(7,) * (3 - place)) for i in range(num_draws)]
        for place in range(4)
    ]
    for stream in streams:
        # 5 standard deviations of a fair coin's mean: 5 * 0.5 / sqrt(4096) = 0.04
        assert abs(sum(stream) / num_draws - 0.5) < 0.04
    for i, first in enumerate(streams):
        for second in streams[i + 1 :]:
            agreement = sum(a == b for a, b in zip(first, second, strict=True)) / num_draws
            assert abs(agreement - 0.5) < 0.04


def test_the_coin_is_the_same_in_every_process_and_version():
    # written down once: a change here breaks the reproducibility of published control runs
    assert [int(combine.coin(0, 0, 0, i)) for i in range(12)] == COIN


COIN = [1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 1]


def test_a_tasks_facts_are_kept_beside_the_parts():
    found = grade(
        GOOD, accuracy=lambda answer: verdict.Verdict(0.5, verdict.Outcome.WRONG, {"close": 0.9})
    )
    assert found.parts == {"accuracy": 0.5, "format": 1.0, "accuracy/close": 0.9}
    assert found.total == 1.5


def test_the_grader_gets_the_extracted_answer():
    seen = []

    def accuracy(answer):
        seen.append(answer)
        return verdict.WRONG

    grade("<think><answer>0</answer></think><answer> 7 </answer>", accuracy=accuracy)
    grade("7", accuracy=accuracy)
    assert seen == ["7", None]


def test_custom_gets_completion_question_and_reference():
    seen = []

    def custom(completion, prompt_question, reference):
        seen.append((completion, prompt_question, reference))
        return True

    assert grade(GOOD, function=custom).parts["custom"] == 1.0
    assert seen == [(GOOD, "what is 1?", "one")]


def raises(completion, question, reference):
    raise KeyError(reference)


@pytest.mark.parametrize(
    "custom",
    [
        raises,
        lambda c, q, r: math.nan,
        lambda c, q, r: math.inf,
        lambda c, q, r: None,
        lambda c, q, r: "high",
        lambda c: 1.0,
    ],
)
def test_a_custom_reward_that_fails_is_a_crash_and_never_a_zero(custom):
    found = grade(GOOD, function=custom)
    assert found.outcome == verdict.Outcome.CRASH
    assert not found.is_valid
    assert found.parts["accuracy"] == 1.0
    honest_zero = grade(GOOD, function=lambda c, q, r: 0.0)
    assert honest_zero.outcome == verdict.Outcome.RIGHT
    assert honest_zero.is_valid


def test_only_the_custom_reward_is_guarded():
    def accuracy(answer):
        raise KeyError(answer)

    with pytest.raises(KeyError):
        grade(GOOD, accuracy=accuracy)
    with pytest.raises(KeyboardInterrupt):

        def interrupted(completion, question, reference):
            raise KeyboardInterrupt

        grade(GOOD, function=interrupted)


@pytest.mark.parametrize("outcome", list(verdict.Outcome))
def test_a_row_is_valid_unless_its_grader_failed(outcome):
    found = grade(GOOD, accuracy=lambda answer: verdict.Verdict(0.0, outcome))
    failed = outcome.name in ("BAD_REFERENCE", "TIMEOUT", "CRASH")
    assert found.is_valid is not failed
    assert found.total == (0.0 if failed else 1.0)


def test_resolve_imports_the_named_function(tmp_path, monkeypatch):
    (tmp_path / "my_reward.py").write_text("def brief(c, q, r):\n    return -len(c)\nTEN = 10\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert combine.resolve("") is None
    brief = combine.resolve("my_reward:brief")
    assert grade(GOOD, function=brief).parts["custom"] == -float(len(GOOD))
    with pytest.raises(ValueError, match="'TEN'; it has brief"):
        combine.resolve("my_reward:TEN")
    with pytest.raises(ValueError, match="'long'; it has brief"):
        combine.resolve("my_reward:long")


@pytest.mark.parametrize("path", ["brief", "my_reward:", ":brief", ":", ".my:brief", "..:brief"])
def test_resolve_names_the_form_it_wants(path):
    with pytest.raises(ValueError, match='form "module:function"'):
        combine.resolve(path)


@pytest.mark.parametrize("path", ["no_such_module_here:f", "r1_jax.rewards.nothing:f", "a..b:f"])
def test_resolve_says_what_it_cannot_import(path):
    with pytest.raises(ValueError, match="cannot import"):
        combine.resolve(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"accuracy_weight": math.nan}, "accuracy_weight=nan"),
        ({"format_weight": math.inf}, "format_weight=inf"),
        ({"accuracy_weight": 0.0, "format_weight": 0.0}, "every reward weight is 0"),
        ({"custom_weight": 1.0}, "custom_weight=1.0 pays nothing"),
    ],
)
def test_a_config_that_cannot_be_meant_is_an_error(config, message):
    with pytest.raises(ValueError, match=message):
        combine.RewardConfig(**config)


def test_a_grade_crosses_processes():
    found = grade(GOOD)
    assert pickle.loads(pickle.dumps(found)) == found
