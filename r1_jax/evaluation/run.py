"""A task's held-out problems and a policy -> one row of scores, and every completion behind it."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from r1_jax.core import types
from r1_jax.evaluation import pass_at_k, votes
from r1_jax.rewards import verdict


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Held-out evaluation. Sampling is that of `sampling` in the experiment (T = 1 by default).

    The first and the last evaluation of a run take num_problems, those between them only
    num_problems_between: every row says its own n.
    """

    split: Literal["validation", "test"] = "test"
    num_problems: int = 512
    num_problems_between: int = 64
    num_samples: int = 16
    every: int = 20  # updates; 0: only before the first and after the last

    def __post_init__(self):
        if min(self.num_problems, self.num_problems_between, self.num_samples) < 1:
            raise ValueError("num_problems, num_problems_between and num_samples must be >= 1")


class Judged(NamedTuple):
    """Completions of one batch of problems, rows as in Rollouts."""

    is_right: Sequence[bool]
    votes: Sequence[str | None] | None  # None: answers of this task have no majority
    facts: dict[str, float]  # means over completions
    samples: list[dict[str, Any]]


def evaluate(
    problems: Sequence[Any],
    sample: Callable[[Sequence[Any]], types.Rollouts],
    judge: Callable[[Sequence[Any], types.Rollouts], Judged],
    *,
    task: str,
    num_samples: int,
    batch_size: int,
    compare: votes.Compare | None = None,
    ks: Sequence[int] = (),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(row of eval.jsonl, rows of samples/): pass@1 as the mean over num_samples a problem.

    sample: up to batch_size problems -> host-side Rollouts, num_samples each. cons@16 is null with
    fewer than 16 samples, every cons@k where answers do not vote. Intervals: 95%, bootstrap over
    problems. compare: whether two votes are one, for many pairs (see votes); None where they are
    spelt alike. The row counts what it was asked, and how many comparisons came to no end. ks:
    numbers of samples for pass@k and cons@k with intervals in the row.
    """
    rights, keys, samples, lengths, stops, facts = [], [], [], [], [], []
    compared: collections.Counter[verdict.Outcome] = collections.Counter()
    for start in range(0, len(problems), batch_size):
        batch = problems[start : start + batch_size]
        rollouts = sample(batch)
        judged = judge(batch, rollouts)
        rights.append(np.reshape(judged.is_right, (len(batch), num_samples)))
        if judged.votes is not None:
            rows = range(0, len(judged.votes), num_samples)
            found, outcomes = votes.vote_classes(
                [judged.votes[i : i + num_samples] for i in rows], compare
            )
            keys += found
            compared += outcomes
        samples += judged.samples
        facts.append((len(batch), judged.facts))
        lengths.append(np.asarray(rollouts.length_B))
        stops.append(np.asarray(rollouts.stop_B))
    correct_PG = np.concatenate(rights)
    length_B, ended_B = np.concatenate(lengths), np.concatenate(stops) >= 0
    low, high = pass_at_k.interval(pass_at_k.problem_pass_at_k(correct_PG, 1))
    weights = [n for n, _ in facts]
    row = {
        "task": task,
        "num_problems": len(problems),
        "num_samples": num_samples,
        "pass@1": pass_at_k.pass_at_k(correct_PG, 1),
        "pass@1_low": low,
        "pass@1_high": high,
        "cons@16": pass_at_k.cons_at_k(keys, correct_PG, 16)
        if keys and num_samples >= 16
        else None,
        f"pass@{num_samples}": pass_at_k.pass_at_k(correct_PG, num_samples),
        "length/mean": float(length_B.mean()),
        "length/terminated_mean": float(length_B[ended_B].mean()) if ended_B.any() else None,
        "length/clipped_share": float(1 - ended_B.mean()),
    }
    row |= {
        name: float(np.average([f[name] for _, f in facts], weights=weights))
        for name in facts[0][1]
    }
    if compare is not None:
        row |= {
            "votes/compared": compared.total(),
            "votes/timeout": compared[verdict.Outcome.TIMEOUT],
            "votes/crash": compared[verdict.Outcome.CRASH],
        }
    for k in ks:
        row |= _with_interval(f"pass@{k}", pass_at_k.problem_pass_at_k(correct_PG, k))
        scores = pass_at_k.problem_cons_at_k(keys, correct_PG, k) if keys else None
        row |= _with_interval(f"cons@{k}", scores)
    return row, samples


def _with_interval(name: str, score_P: np.ndarray | None) -> dict[str, float | None]:
    """A score's mean and the ends of its interval, as columns; null without a score."""
    if score_P is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    low, high = pass_at_k.interval(score_P)
    return {name: float(score_P.mean()), f"{name}_low": low, f"{name}_high": high}
