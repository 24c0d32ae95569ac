"""evaluate: every problem once, rows of a naive count, whatever the size of a batch."""

import dataclasses

import numpy as np
import pytest

from r1_jax.core import types
from r1_jax.evaluation import run
from r1_jax.rewards import verdict

G = 16
PROBLEMS = [f"problem {i}" for i in range(7)]
RNG = np.random.default_rng(0)
RIGHT_PG = RNG.random((7, G)) < np.linspace(0, 1, 7)[:, None]
LENGTH_PG = RNG.integers(1, 9, (7, G)).astype(np.int32)
ENDED_PG = RNG.random((7, G)) < 0.7


def _evaluate(batch_size, num_samples=G):
    asked = []

    def sample(batch):
        asked.append(list(batch))
        chosen = [PROBLEMS.index(problem) for problem in batch]
        stop_B = np.where(ENDED_PG[chosen, :num_samples].ravel(), 5, -1).astype(np.int32)
        blank_B = np.zeros(len(stop_B), np.int32)
        return types.Rollouts(
            np.zeros((len(stop_B), 1), np.int32), blank_B,
            LENGTH_PG[chosen, :num_samples].ravel(), np.zeros((len(stop_B), 1), np.float32),
            stop_B, blank_B, blank_B, np.int32(0), np.int32(1),
        )  # fmt: skip

    def judge(batch, rollouts):
        chosen = [PROBLEMS.index(problem) for problem in batch]
        right_B = RIGHT_PG[chosen, :num_samples].ravel()
        # Wrong samples agree on one answer, except that some say nothing.
        votes = ["right" if right else ("wrong", None)[i % 2] for i, right in enumerate(right_B)]
        samples = [{"question": p} for p in batch for _ in range(num_samples)]
        return run.Judged(right_B.tolist(), votes, {"reward/mean": float(chosen[0])}, samples)

    row, samples = run.evaluate(
        PROBLEMS, sample, judge, task="toy", num_samples=num_samples, batch_size=batch_size
    )
    return row, samples, asked


def test_the_row_is_a_naive_count():
    row, samples, _ = _evaluate(7)
    assert (row["task"], row["num_problems"], row["num_samples"]) == ("toy", 7, G)
    assert row["pass@1"] == pytest.approx(RIGHT_PG.mean())
    assert row["pass@16"] == pytest.approx(RIGHT_PG.any(axis=1).mean())
    assert row["length/mean"] == pytest.approx(LENGTH_PG.mean())
    assert row["length/terminated_mean"] == pytest.approx(LENGTH_PG[ENDED_PG].mean())
    assert row["length/clipped_share"] == pytest.approx(1 - ENDED_PG.mean())
    assert 0 <= row["pass@1_low"] < row["pass@1"] < row["pass@1_high"] <= 1
    assert len(samples) == 7 * G


def test_cons_is_the_majority_of_sixteen():
    # Every second wrong sample is silent: a problem is right as soon as right votes are the most.
    row, _, _ = _evaluate(7)
    num_right_P = RIGHT_PG.sum(axis=1)
    wins = []
    for p in range(7):
        num_wrong = sum(1 for g in range(G) if not RIGHT_PG[p, g] and (p * G + g) % 2 == 0)
        wins.append(float(num_right_P[p] > num_wrong) + 0.5 * float(num_right_P[p] == num_wrong))
    assert row["cons@16"] == pytest.approx(np.mean(wins))
    assert row["cons@16"] != row["pass@1"]


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_batches_change_nothing_and_no_problem_is_asked_twice(batch_size):
    whole, samples, _ = _evaluate(7)
    row, cut, asked = _evaluate(batch_size)
    assert [problem for batch in asked for problem in batch] == PROBLEMS
    assert max(len(batch) for batch in asked) <= batch_size
    assert cut == samples
    for name in set(whole) - {"reward/mean", "cons@16"}:  # those two depend on `judge`'s batches
        assert row[name] == pytest.approx(whole[name]), name


def test_facts_of_batches_weigh_as_many_problems_as_they_have():
    # Batches of 3, 3 and 1 problems, whose fact is the index of their first problem.
    assert _evaluate(3)[0]["reward/mean"] == pytest.approx((3 * 0 + 3 * 3 + 1 * 6) / 7)


def test_fewer_than_sixteen_samples_give_no_cons():
    row = _evaluate(7, num_samples=4)[0]
    assert row["cons@16"] is None
    assert row["pass@4"] == pytest.approx(RIGHT_PG[:, :4].any(axis=1).mean())


def test_a_rollout_in_which_nothing_ended_has_no_terminated_length(monkeypatch):
    monkeypatch.setattr(f"{__name__}.ENDED_PG", np.zeros((7, G), bool))
    row = _evaluate(7)[0]
    assert (row["length/terminated_mean"], row["length/clipped_share"]) == (None, 1.0)


@pytest.mark.parametrize("name", ["num_problems", "num_problems_between", "num_samples"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match="num_samples must be >= 1"):
        dataclasses.replace(run.EvalConfig(), **{name: 0})


def test_asked_for_ks_have_intervals_and_votes_are_taken_by_equality():
    def sample(batch):
        blank_B = np.zeros(4 * len(batch), np.int32)
        table_BT = np.zeros((4 * len(batch), 1), np.int32)
        return types.Rollouts(
            table_BT, blank_B, blank_B + 1, table_BT.astype(np.float32), blank_B, blank_B, blank_B,
            np.int32(0), np.int32(1),
        )  # fmt: skip

    def judge(batch, rollouts):
        # Right are a and A; a wrong x ties with either spelling, but not with both.
        votes = ["a", "A", "x", "x"] * len(batch)
        right = [True, True, False, False] * len(batch)
        return run.Judged(right, votes, {}, [{}] * len(votes))

    settings = {"task": "toy", "num_samples": 4, "batch_size": 2, "ks": (1, 3)}
    by_spelling, _ = run.evaluate(PROBLEMS, sample, judge, **settings)

    def compare(pairs):
        same = [a.lower() == b.lower() for a, b in pairs]
        return [verdict.Outcome.RIGHT if one else verdict.Outcome.WRONG for one in same]

    by_value, _ = run.evaluate(PROBLEMS, sample, judge, compare=compare, **settings)
    # The first three samples are a jury: a, A, x.
    assert by_spelling["cons@3"] == pytest.approx(2 / 3)  # a tie of three
    assert by_value["cons@3"] == 1.0
    for row in (by_spelling, by_value):
        assert row["pass@1"] == row["cons@1"] == 0.5
        assert row["pass@3"] == 1.0  # of four samples two are wrong: three hold a right one
        # All seven right: what is left is a share of others of up to 1 - 0.025^(1/7).
        assert row["pass@3_low"] == pytest.approx(0.025 ** (1 / 7)) and row["pass@3_high"] == 1.0
    # A is compared with a, x with a (A's class), in each of seven problems.
    counts = {name: by_value[f"votes/{name}"] for name in ("compared", "timeout", "crash")}
    assert counts == {"compared": 14, "timeout": 0, "crash": 0}
    assert not any(name.startswith("votes/") for name in by_spelling)

    def failing(pairs):
        return [(verdict.Outcome.TIMEOUT, verdict.Outcome.CRASH)["x" in pair] for pair in pairs]

    failed, _ = run.evaluate(PROBLEMS, sample, judge, compare=failing, **settings)
    assert failed["cons@3"] == by_spelling["cons@3"]  # a comparison that failed joins nothing
    assert (failed["votes/timeout"], failed["votes/crash"]) == (7, 14)


def test_answers_without_a_majority_have_no_cons():
    def judge(batch, rollouts):
        return run.Judged([True] * 16 * len(batch), None, {}, [{}] * 16 * len(batch))

    def sample(batch):
        blank_B = np.zeros(16 * len(batch), np.int32)
        table_BT = blank_B[:, None]
        return types.Rollouts(
            table_BT, blank_B, blank_B + 1, table_BT.astype(np.float32), blank_B, blank_B, blank_B,
            np.int32(0), np.int32(1),
        )  # fmt: skip

    row, _ = run.evaluate(
        PROBLEMS, sample, judge, task="toy", num_samples=16, batch_size=2, ks=(1, 4)
    )
    assert row["pass@4"] == 1.0
    assert {name: row[name] for name in row if name.startswith("cons")} == dict.fromkeys(
        ("cons@16", "cons@1", "cons@1_low", "cons@1_high", "cons@4", "cons@4_low", "cons@4_high")
    )


def test_a_run_s_own_interval_is_that_of_its_problems():
    row, _, _ = _evaluate(7)
    low, high = run.pass_at_k.interval(RIGHT_PG.mean(axis=1))
    assert (row["pass@1_low"], row["pass@1_high"]) == (low, high)
