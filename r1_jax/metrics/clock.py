"""Wall seconds by phase, and the seconds still to come."""

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping


class Clock:
    """Adds up the wall seconds of named phases.

    A phase ends when its block ends; whoever times device work calls block_until_ready inside.
    Phases may nest or run in several threads: each counts its own wall time, so they may add up to
    more than has passed. carried: totals of the processes before this one, of a resumed run.
    """

    def __init__(
        self,
        carried: Mapping[str, float] | None = None,
        *,
        now: Callable[[], float] = time.perf_counter,
    ):
        self._now = now
        self._totals = dict(carried or {})
        self._lap: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the block's wall seconds under `name`, also when the block raises."""
        start = self._now()
        try:
            yield
        finally:
            seconds = self._now() - start
            with self._lock:
                self._totals[name] = self._totals.get(name, 0.0) + seconds
                self._lap[name] = self._lap.get(name, 0.0) + seconds

    def lap(self) -> dict[str, float]:
        """Returns {"seconds/NAME": s} counted since the last call: a step's share of its row."""
        with self._lock:
            lap, self._lap = self._lap, {}
        return {f"seconds/{name}": seconds for name, seconds in lap.items()}

    def totals(self) -> dict[str, float]:
        """Returns {NAME: seconds} since the run began, earlier processes included."""
        with self._lock:
            return dict(self._totals)


class Eta:
    """How long the steps to come will take: the mean of the last 50, this process' first left out.

    The first step compiles. Evaluations and saves are in the mean as they occur.
    """

    def __init__(self, num_steps: int):
        self._num_steps = num_steps
        self._first: float | None = None
        self._recent: collections.deque[float] = collections.deque(maxlen=50)

    def update(self, steps_done: int, seconds: float) -> float:
        """Returns the seconds left once `steps_done` steps are done, the last one in `seconds`."""
        if self._first is None:
            self._first = seconds
            pace = seconds
        else:
            self._recent.append(seconds)
            pace = sum(self._recent) / len(self._recent)
        return max(self._num_steps - steps_done, 0) * pace


def duration(seconds: float) -> str:
    """Returns `seconds` as "45s", "3m10s" or "2h05m"; "?" where it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
