"""The scorer: the right problem for each completion, parts apart, failures never a silent 0."""

import contextlib
import dataclasses
import time

import numpy as np
import pytest

from r1_jax.core import types
from r1_jax.data.tasks import task as tasks
from r1_jax.metrics import clock as metrics_clock
from r1_jax.pipeline import score
from r1_jax.rewards import combine, pool, verdict
from r1_jax.text import chat, tokenizer
from tests import toy_rewards

TAGS = chat.Tags()
TOKENS = tokenizer.ByteTokenizer()
PROMPTS = [tasks.Prompt(uid, f"q{uid}", str(uid)) for uid in (7, 8, 9)]
Outcome = verdict.Outcome


TASK = tasks.Task(
    "toy", {}, toy_rewards.own_uid, lambda p: p.reference, toy_rewards.tagged, ("maybe",)
)
ANSWERS = [["7", "8", None], ["8", "crash", "8"], ["7", "9", "9"]]


def _rollouts(answers=ANSWERS):
    """Completions of three problems, three each; those with answer None do not end."""
    texts = [
        " wait, but <think>" if a is None else chat.completion("maybe", a, TAGS)
        for group in answers
        for a in group
    ]
    num_rows, width = len(texts), 80
    tokens_BT = np.full((num_rows, width), TOKENS.pad_id, np.int32)
    prompt_length_B = np.arange(num_rows, dtype=np.int32) % 4 + 1
    length_B, stop_B = np.zeros(num_rows, np.int32), np.full(num_rows, -1, np.int32)
    for row, text in enumerate(texts):
        ids = TOKENS.encode(text)
        if "answer" in text:
            ids, stop_B[row] = [*ids, TOKENS.stop_ids[0]], TOKENS.stop_ids[0]
        start, length_B[row] = prompt_length_B[row], len(ids)
        tokens_BT[row, start : start + len(ids)] = ids
    uid_B = np.repeat([p.uid for p in PROMPTS], 3)
    sample_B = np.tile(np.arange(3), 3)
    return types.Rollouts(
        tokens_BT, prompt_length_B, length_B, np.zeros((num_rows, width), np.float32), stop_B,
        uid_B, sample_B, np.int32(0), np.int32(1),
    )  # fmt: skip


@pytest.fixture
def scorer():
    """Makes scorers, whose graders end with the test."""
    with contextlib.ExitStack() as stack:

        def make(
            clock=None, seed=0, accuracy=toy_rewards.own_uid, vote=toy_rewards.tagged, equal=None,
            graders=(), **reward,
        ):  # fmt: skip
            return stack.enter_context(
                score.Scorer(
                    dataclasses.replace(TASK, accuracy=accuracy, vote=vote, equal=equal),
                    combine.RewardConfig(**reward),
                    TOKENS,
                    TAGS,
                    seed=seed,
                    clock=clock or metrics_clock.Clock(),
                    graders=pool.GraderConfig(**{"max_failure_share": 1.0, **dict(graders)}),
                )
            )

        yield make


def test_each_completion_is_graded_against_its_own_problem(scorer):
    scored = scorer().start(PROMPTS, _rollouts(), 3)()
    expected = [
        Outcome.RIGHT, Outcome.WRONG, Outcome.UNPARSED,
        Outcome.RIGHT, Outcome.CRASH, Outcome.RIGHT,
        Outcome.WRONG, Outcome.RIGHT, Outcome.RIGHT,
    ]  # fmt: skip
    assert scored.scores.outcome_B.tolist() == expected
    assert scored.scores.reward_B.tolist() == [2, 1, 0, 2, 0, 2, 1, 2, 2]
    assert scored.scores.parts["accuracy"].tolist() == [1, 0, 0, 1, 0, 1, 0, 1, 1]
    assert scored.scores.parts["format"].tolist() == [1, 1, 0, 1, 1, 1, 1, 1, 1]


def test_a_failed_grader_leaves_its_row_and_every_mean(scorer):
    scored = scorer().start(PROMPTS, _rollouts(), 3)()
    assert scored.scores.valid_B.tolist() == [i != 4 for i in range(9)]
    facts = scored.facts
    assert facts["reward/mean"] == pytest.approx(12 / 8)
    assert facts["reward/accuracy"] == pytest.approx(5 / 8)
    assert facts["reward/format"] == pytest.approx(7 / 8)
    assert facts["outcome/crash"] == pytest.approx(1 / 9)
    assert facts["outcome/right"] == pytest.approx(5 / 9)
    assert sum(v for k, v in facts.items() if k.startswith("outcome/")) == pytest.approx(1)


def test_the_same_facts_are_measured_whatever_the_graders_say(scorer):
    """A crash on the first completion once added a column that other rollouts did not have."""
    crash_first = [["crash", "7", "7"], ["8"] * 3, ["9"] * 3]
    one = scorer().start(PROMPTS, _rollouts(crash_first), 0)()
    other = scorer().start(PROMPTS, _rollouts(), 0)()
    assert one.facts.keys() == other.facts.keys()
    assert one.scores.parts.keys() == other.scores.parts.keys()
    assert one.samples[0]["parts"]["accuracy/ValueError"] == 1.0  # kept with the completion


def test_reflection_is_counted_per_completion(scorer):
    facts = scorer().start(PROMPTS, _rollouts(), 0)().facts
    assert facts["reflection/per_completion"] == pytest.approx(2 / 9)  # one says "wait" and "but"
    assert facts["reflection/markers"] == pytest.approx(8 / 9)  # "maybe", the task's own


def test_samples_hold_all_of_a_completion(scorer):
    rollouts = _rollouts()
    samples = scorer().start(PROMPTS, rollouts, 0)().samples
    assert [(s["uid"], s["sample"]) for s in samples] == [
        (u, i) for u in (7, 8, 9) for i in range(3)
    ]
    assert samples[0]["completion"] == chat.completion("maybe", "7", TAGS)
    assert [s["question"] for s in samples[::3]] == ["q7", "q8", "q9"]
    assert [s["stop"] for s in samples] == ["stop"] * 2 + ["length"] + ["stop"] * 6
    assert [s["length"] for s in samples] == rollouts.length_B.tolist()
    assert samples[4]["outcome"] == "crash" and samples[4]["reward"] == 0.0


def test_a_random_reward_is_drawn_anew_each_step_and_known_again_for_the_same(scorer):
    def rewards(seed, step):
        coin = scorer(seed=seed, accuracy_weight=0, format_weight=0, random_weight=1)
        return coin.start(PROMPTS, _rollouts([["7"] * 3] * 3), step)().scores.reward_B.tolist()

    assert rewards(0, 1) == rewards(0, 1)
    assert len({tuple(rewards(*at)) for at in ((0, 1), (0, 2), (1, 1), (1, 2))}) == 4
    assert set(rewards(0, 1)) == {0.0, 1.0}


@pytest.mark.parametrize("workers", [1, 3])
def test_graders_share_the_work_without_mixing_it_up(scorer, workers):
    found = scorer(graders={"workers": workers}).start(PROMPTS, _rollouts(), 0)()
    assert found.scores.reward_B.tolist() == [2, 1, 0, 2, 0, 2, 1, 2, 2]


def test_grading_goes_on_while_the_caller_does_something_else(scorer, tmp_path):
    clock, go_on = metrics_clock.Clock(), tmp_path / "go_on"
    prompts = [dataclasses.replace(p, reference=str(go_on)) for p in PROMPTS]
    finish = scorer(clock, accuracy=toy_rewards.waits_for_file).start(prompts, _rollouts(), 0)
    go_on.touch()  # and we are here, not waiting for it
    assert finish().facts["reward/accuracy"] == 1.0
    assert clock.lap()["seconds/score"] > 0


def test_two_graders_work_at_one_time(scorer, tmp_path):
    prompts = [dataclasses.replace(p, reference=str(tmp_path)) for p in PROMPTS]
    both = scorer(accuracy=toy_rewards.meets_another, graders={"workers": 2})
    assert both.start(prompts, _rollouts(), 0)().facts["reward/accuracy"] == 1


def test_an_error_in_a_grader_is_counted_and_too_many_are_raised_by_name(scorer):
    found = scorer(accuracy=toy_rewards.raising).start(PROMPTS, _rollouts(), 0)()
    assert found.facts["outcome/crash"] == 1.0 and not found.scores.valid_B.any()
    with pytest.raises(pool.FailureShareError, match=r"step 5: .*100% of 9.*KeyError: 'a bug'"):
        scorer(accuracy=toy_rewards.raising, graders={"max_failure_share": 0.9}).start(
            PROMPTS, _rollouts(), 5
        )()


def test_a_custom_reward_that_raises_is_named_when_it_does_too_often(scorer):
    custom = {"custom": "tests.toy_rewards:half_fails", "custom_weight": 1.0}
    rollouts = _rollouts([["7", "8", "7"], ["8"] * 3, ["9"] * 3])
    found = scorer(**custom).start(PROMPTS, rollouts, 0)()
    assert found.scores.valid_B.tolist() == [i not in (0, 2) for i in range(9)]
    assert found.scores.parts["custom"][1] == 1.0
    with pytest.raises(pool.FailureShareError, match=r"ZeroDivisionError: seven .*\(2 times\)"):
        scorer(graders={"max_failure_share": 0.2}, **custom).start(PROMPTS, rollouts, 0)()


def test_a_function_without_a_name_is_refused_at_once(scorer):
    with pytest.raises(ValueError, match="top level of a module"):
        scorer(accuracy=lambda answer, prompt: verdict.RIGHT)


def test_a_single_grade_that_does_not_come_is_an_error(scorer):
    assert scorer().grade(PROMPTS[0], chat.completion("", "7", TAGS), step=0, sample=0).total == 2
    with pytest.raises(pool.FailureShareError, match="KeyError: 'a bug'"):
        scorer(accuracy=toy_rewards.raising).grade(PROMPTS[0], "7", step=0, sample=0)


def test_judge_adds_votes_and_knows_what_is_right(scorer):
    judged = scorer().judge(PROMPTS, _rollouts(), 0)
    assert judged.is_right == [True, False, False, True, False, True, False, True, True]
    assert judged.votes == ["v7", "v8", None, "v8", "vcrash", "v8", "v7", "v9", "v9"]
    assert judged.facts["reward/accuracy"] == pytest.approx(5 / 8)


def test_votes_are_compared_in_children_that_a_hostile_answer_cannot_hold(scorer):
    graders = {"deadline_seconds": 0.5, "workers": 2}
    compare = scorer(equal=toy_rewards.hostile_equal, graders=graders).compare
    pairs = [("7", " 7"), ("7", "hang"), ("8", "7"), ("die", "7"), ("raise", "7"), ("8", "8 ")]
    start = time.monotonic()
    assert compare(pairs) == [
        Outcome.RIGHT, Outcome.TIMEOUT, Outcome.WRONG,
        Outcome.CRASH, Outcome.CRASH, Outcome.RIGHT,
    ]  # fmt: skip
    assert time.monotonic() - start < 30  # and not for ever
    assert scorer().compare is None


def test_a_task_without_votes_has_none_to_compare(scorer):
    assert scorer(vote=None).judge(PROMPTS, _rollouts(), 0).votes is None


def test_a_custom_reward_that_does_not_exist_is_an_error_at_once(scorer):
    with pytest.raises(ValueError, match="custom reward 'nowhere:f'"):
        scorer(custom="nowhere:f", custom_weight=1.0)
