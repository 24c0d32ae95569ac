"""What a child process does: a completion's reward by parts and its vote; votes compared.

A `Grader` is sent to the children of rewards.pool by the names of the functions in it, so those
must stand at the top level of a module (or be instances of a class that does).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from r1_jax.rewards import combine, extract, pool, verdict, worker


class Graded(NamedTuple):
    """One completion's grade, with what went wrong if anything did."""

    grade: combine.Grade
    vote: str | None
    error: str  # the exception of a failure; "" without one, or where none was raised


@dataclasses.dataclass(frozen=True)
class Grader:
    """Grades completions of one task under one reward configuration."""

    accuracy: Callable[[str | None, Any], verdict.Verdict]  # (answer, problem)
    vote: Callable[[str | None], str | None] | None
    tags: extract.Tags
    config: combine.RewardConfig
    seed: int  # of the random reward

    def __call__(
        self, problem: Any, completion: str, step: int, sample: int, num_tokens: int | None = None
    ) -> list[Any]:
        """[total, parts, outcome, vote, error] for JSON; see `read`.

        problem: has uid, question and reference.
        """
        errors = []
        custom = _resolve(self.config.custom)

        def watched(*arguments: str) -> float:
            assert custom is not None
            paid, error = worker.call(custom, arguments)
            if error:
                errors.append(error)
                raise RuntimeError(error)
            return paid

        grade = combine.grade(
            completion,
            problem.question,
            problem.reference,
            lambda answer: self.accuracy(answer, problem),
            self.tags,
            config=self.config,
            custom=None if custom is None else watched,
            draw=(self.seed, step, problem.uid, sample),
            num_tokens=num_tokens,
        )
        vote = self.vote(extract.answer(completion, self.tags)) if self.vote else None
        if grade.outcome == verdict.Outcome.CRASH and not errors:
            named = sorted(grade.parts.keys() - set(combine.PARTS))
            errors = named or [f"{self.config.custom} gave no finite number"]
        parts = {name: float(value) for name, value in grade.parts.items()}
        return [float(grade.total), parts, int(grade.outcome), vote, "".join(errors[:1])]


class Pair(NamedTuple):
    """Two votes, of which a child says whether they are one answer."""

    left: str
    right: str


@dataclasses.dataclass(frozen=True)
class Service:
    """What a pool's children are for: grading a completion, and comparing two votes."""

    grader: Grader
    equal: Callable[[str, str], bool] | None

    def __call__(self, *item: Any) -> Any:
        """The answer to a Pair alone: whether its votes are one; else the grader's."""
        if isinstance(item[0], Pair):
            assert self.equal is not None
            return bool(self.equal(*item[0]))
        return self.grader(*item)


def read_equal(result: pool.Result) -> verdict.Outcome:
    """What a pool's Result of a Pair says: RIGHT for one answer, WRONG for two, or the failure."""
    if result.failure is not None:
        return result.failure
    return verdict.Outcome.RIGHT if result.value else verdict.Outcome.WRONG


def read(result: pool.Result, parts: Sequence[str]) -> Graded:
    """What a pool's Result of a Grader says. parts: the names that a failure gives as 0.0."""
    if result.failure is not None:
        grade = combine.Grade(0.0, dict.fromkeys(parts, 0.0), result.failure)
        return Graded(grade, None, result.error)
    total, found, outcome, vote, error = result.value
    return Graded(combine.Grade(total, found, verdict.Outcome(outcome)), vote, error)


_resolve = functools.cache(combine.resolve)
