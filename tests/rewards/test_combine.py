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


def grade(completion, *, function=None, accuracy=is_one, draw=DRAW, num_tokens=None, **config):
    return combine.grade(
        completion,
        "what is 1?",
        "one",
        accuracy,
        TAGS,
        config=combine.RewardConfig(**config),
        custom=function,
        draw=draw,
        num_tokens=num_tokens,
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
        ({"tags_weight": math.nan}, "tags_weight=nan"),
        ({"language": "klingon"}, "language='klingon'"),
        ({"length_weight": 1.0}, "length_target=0"),
        ({"length_target": 100}, "length_weight=0.0"),
        ({"cosine_weight": 1.0}, "cosine_max_length=0"),
        ({"cosine_weight": 1.0, "cosine_max_length": -5}, "cosine_max_length=-5"),
        ({"repetition_weight": 1.0, "repetition_ngram": 0}, "repetition_ngram=0"),
        ({"gates": ("language",)}, "'language' is no part that is graded"),
        ({"gates": ("fromat",)}, "there are accuracy, format"),
        ({"composition": "product", "repetition_weight": 1.0}, "set repetition_weight to 0"),
    ],
)
def test_a_config_that_cannot_be_meant_is_an_error(config, message):
    with pytest.raises(ValueError, match=message):
        combine.RewardConfig(**config)


def test_a_grade_crosses_processes():
    found = grade(GOOD)
    assert pickle.loads(pickle.dumps(found)) == found


SPANISH = "<think>Vamos a sumar los números que tenemos.</think><answer>1</answer>"
ENGLISH = "<think>Let us add the numbers that we have.</think><answer>1</answer>"


def test_each_further_part_is_graded_and_paid_where_it_has_a_weight():
    for config, part, text, paid in (
        ({"tags_weight": 2.0}, "tags", "<think>", 0.5),
        ({"language_weight": 2.0}, "language", ENGLISH, 2.0),
        ({"language_weight": 2.0, "language": "es"}, "language", SPANISH, 2.0),
        ({"length_weight": 2.0, "length_target": 10}, "length", GOOD, -1.0),
        ({"cosine_weight": 2.0, "cosine_max_length": 5}, "cosine", GOOD, -20.0),
        ({"repetition_weight": 2.0, "repetition_ngram": 1}, "repetition", "a a", -1.0),
    ):
        plain, found = grade(text), grade(text, num_tokens=5, **config)
        assert found.total - plain.total == paid
        assert found.parts == plain.parts | {part: paid / 2}
        assert combine.parts_of(combine.RewardConfig(**config)) == ["accuracy", "format", part]


def test_language_is_that_of_the_thinking_and_of_everything_where_none_is_closed():
    paid = {"language_weight": 1.0}
    assert grade(SPANISH, **paid).parts["language"] == 0.0
    assert grade(ENGLISH.replace("1", "la casa de los niños"), **paid).parts["language"] == 1.0
    assert grade("Let us see what we have", **paid).parts["language"] == 1.0


@pytest.mark.parametrize("config", [
    {"length_weight": 1.0, "length_target": 10}, {"cosine_weight": 1.0, "cosine_max_length": 10},
])  # fmt: skip
def test_parts_that_count_tokens_refuse_to_guess_them(config):
    with pytest.raises(ValueError, match="need num_tokens"):
        grade(GOOD, **config)


def test_a_product_pays_only_for_everything_and_leaves_out_what_has_no_weight():
    product = {"composition": "product", "accuracy_weight": 3.0, "format_weight": 0.5}
    assert grade(GOOD, **product).total == 3.0 * 0.5
    assert grade("so " + GOOD, **product).total == 0.0
    product["format_weight"] = 0.0
    assert grade("so " + GOOD, **product).total == 3.0


def test_a_closed_gate_pays_nothing_and_is_no_way_around_a_penalty():
    gated = {"gates": ("format",), "repetition_weight": 1.5, "repetition_ngram": 1}
    assert grade(GOOD, gates=("format",)).total == 2.0
    assert grade("so " + GOOD, gates=("format",)).total == 0.0
    assert grade("so so", gates=("format",)).total == 0.0
    assert grade("so so", **gated).total == -0.75
    assert grade("junk", gates=("accuracy",), accuracy=lambda a: verdict.BAD_REFERENCE).total == 0.0


def test_defaults_add_in_the_order_they_always_had():
    config = combine.RewardConfig(
        accuracy_weight=0.1, format_weight=0.2, random_weight=0.3, custom="m:f", custom_weight=0.7
    )
    parts = {"accuracy": 0.3, "format": 0.7, "random": 0.9, "custom": 1.1}
    assert combine.total(parts, config) == 0.1 * 0.3 + 0.2 * 0.7 + 0.3 * 0.9 + 0.7 * 1.1


def test_a_grader_that_failed_leaves_the_row_out_whatever_else_is_paid():
    found = grade(
        GOOD,
        accuracy=lambda answer: verdict.BAD_REFERENCE,
        num_tokens=5,
        tags_weight=1.0,
        cosine_weight=1.0,
        cosine_max_length=10,
    )
    assert not found.is_valid
    assert found.total == 0.0


def test_language_may_be_that_of_the_question():
    config = combine.RewardConfig(language_weight=1.0, language="question")

    def paid(question, completion):
        return combine.grade(
            completion, question, "{}", lambda answer: verdict.WRONG, TAGS,
            config=config, custom=None, draw=(0, 0, 0, 0),
        ).parts["language"]  # fmt: skip

    assert paid("What is 3 + 4?", ENGLISH) == 1.0
    assert paid("用数字 [3, 4] 写出算式。", ENGLISH) == 0.0
    assert paid("用数字 [3, 4] 写出算式。", "<think> 我们试 3 + 4 = 7。 </think>") == 1.0
