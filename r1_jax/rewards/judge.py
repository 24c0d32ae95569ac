"""The judge of what rules cannot grade: one answer, or two answers against each other.

A `Judge` is called by rejection sampling (is this right?), by the preference data (which is
better?) and by the safety labels (is this safe?). `RuleJudge` asks plain functions; a language
model is asked by rewards.model_judge. A judge that could not be read says so: nothing is right,
better or safe by default.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from r1_jax.rewards import combine, verdict, worker

MAX_SCORE = 2.0  # of one comparison: much better; 1 is better, 0 equal


class Ruling(NamedTuple):
    """A judge's word on one answer."""

    is_right: bool | None  # None: the judge could not be read
    analysis: str  # its reasons, for people and for the samples on disk
    error: str = ""  # why it could not be read: one of a few kinds, so that they can be counted

    def verdict(self) -> verdict.Verdict:
        """The same as a reward: 1, 0, or CRASH, a failure of the grader that pays nobody."""
        if self.is_right is None:
            return verdict.Verdict(0.0, verdict.Outcome.CRASH)
        return verdict.RIGHT if self.is_right else verdict.WRONG


class Comparison(NamedTuple):
    """A judge's word on two answers."""

    score: float | None  # in [-2, 2]: above 0 the first is better; None: not read
    analysis: str
    error: str = ""


class Judge(Protocol):
    """draw: what a sampled judge's noise is a function of; a rule does not look at it."""

    def grade(self, question: str, reference: str | None, answer: str, draw: int) -> Ruling:
        """Whether `answer` is right; reference: the known answer, None where there is none."""
        ...

    def compare(self, question: str, first: str, second: str, draw: int) -> Comparison:
        """Which of two answers is better; a judge may be biased by their order."""
        ...


@dataclasses.dataclass(frozen=True)
class RuleJudge:
    """Judges by plain functions; either may be absent, and asking it then is a ValueError.

    right(question, reference, answer) -> bool, or (bool, analysis).
    better(question, first, second) -> number in [-2, 2], or (number, analysis).
    What raises, and what returns something else, is an error in the ruling and no verdict.
    """

    right: Callable[..., Any] | None = None
    better: Callable[..., Any] | None = None

    def grade(self, question: str, reference: str | None, answer: str, draw: int) -> Ruling:
        found, analysis, error = _call(self.right, "right", question, reference, answer)
        if error:
            return Ruling(None, analysis, error)
        if not isinstance(found, bool):
            return Ruling(None, analysis, "no bool")
        return Ruling(found, analysis)

    def compare(self, question: str, first: str, second: str, draw: int) -> Comparison:
        found, analysis, error = _call(self.better, "better", question, first, second)
        if error:
            return Comparison(None, analysis, error)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return Comparison(None, analysis, "no number")
        if not math.fabs(found) <= MAX_SCORE:  # NaN is not
            return Comparison(None, analysis, "not in [-2, 2]")
        return Comparison(float(found), analysis)


def named(right: str = "", better: str = "") -> RuleJudge:
    """The RuleJudge of functions named "module:function"; ValueError as combine.resolve raises."""
    return RuleJudge(combine.resolve(right, "judge"), combine.resolve(better, "judge"))


def _call(function, name: str, *arguments: str | None) -> tuple[Any, str, str]:
    """(what was found, analysis, error) of a user's function."""
    if function is None:
        raise ValueError(f"this judge has no function `{name}`; give it one: module:function")
    try:
        found = function(*arguments)
    except Exception as error:  # code of the user's: any failure is told and counted
        return None, worker.describe(error), "raised"
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], str):
        return found[0], found[1], ""
    return found, "", ""
