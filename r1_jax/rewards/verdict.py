"""The words in which graders speak: a value, an outcome, further facts."""

import dataclasses
import enum
from collections.abc import Mapping


class Outcome(enum.IntEnum):
    """How grading ended. Kept apart in data and metrics: a failed grader is never a silent 0."""

    RIGHT = 0  # read and right
    WRONG = 1  # read and not right
    UNPARSED = 2  # the completion holds no answer of the asked form
    BAD_REFERENCE = 3  # the problem's own reference cannot be graded against
    TIMEOUT = 4  # the grader was stopped
    CRASH = 5  # the grader raised

    @property
    def is_failure(self) -> bool:
        """True when the grader failed, not the completion: the row leaves baseline and loss."""
        return self in (Outcome.BAD_REFERENCE, Outcome.TIMEOUT, Outcome.CRASH)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One grader's word on one completion."""

    value: float  # the reward, unweighted; 0.0 and meaningless when outcome.is_failure
    outcome: Outcome
    parts: Mapping[str, float] = dataclasses.field(default_factory=dict)  # facts that pay nothing


RIGHT = Verdict(1.0, Outcome.RIGHT)
WRONG = Verdict(0.0, Outcome.WRONG)
UNPARSED = Verdict(0.0, Outcome.UNPARSED)
BAD_REFERENCE = Verdict(0.0, Outcome.BAD_REFERENCE)
