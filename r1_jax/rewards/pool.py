"""Graders in child processes that can be killed: no text can hang, crash or fill the run.

A `GraderPool` calls one function with each item's arguments. Every item ends: with the function's
value, with TIMEOUT when its deadline passed (the child is killed from outside, whatever it is
doing), or with CRASH and what was raised (or the signal that ended the child). Nothing that a
child does is trusted: its answers are lines of JSON.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import math
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from r1_jax.rewards import verdict, worker

START_SECONDS = 120.0  # for a child to import its function
MAX_BATCH = 64  # items in one message; each has its own deadline all the same


@dataclasses.dataclass(frozen=True)
class GraderConfig:
    """The child processes that grade."""

    workers: int = 1  # child processes beside the training process
    deadline_seconds: float = 10.0  # wall clock, per item
    memory_mb: int = 1024  # MiB that grading may add to what a child's imports take
    recycle_after: int = 10_000  # items, then a fresh child takes over
    network: bool = False  # whether they may open sockets, for a custom reward that asks a server
    processes: bool = False  # whether they may start some; those of a task of programs may
    # Of a step's completions; a run with more timeouts, crashes and bad references stops.
    max_failure_share: float = 0.1

    def __post_init__(self):
        for name in ("workers", "memory_mb", "recycle_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.deadline_seconds < math.inf:
            raise ValueError(
                f"deadline_seconds={self.deadline_seconds} must be positive and finite"
            )
        if not 0 <= self.max_failure_share <= 1:
            raise ValueError(f"max_failure_share={self.max_failure_share} must lie in 0..1")


class Result(NamedTuple):
    """How one item ended."""

    value: Any  # what the function returned; None if it failed
    failure: verdict.Outcome | None  # TIMEOUT or CRASH, where the function returned nothing
    error: str  # what was raised, or how the child ended; "" without failure


class StartError(ValueError):
    """A child cannot begin to grade."""


class FailureShareError(ValueError):
    """Too many of a step's gradings failed to learn from the others."""


def check_failures(
    outcomes: Sequence[verdict.Outcome], errors: Iterable[str], config: GraderConfig, what: str
) -> None:
    """Raises FailureShareError if more than config.max_failure_share of `outcomes` are failures.

    errors: what was raised, "" where nothing was; the most frequent is named. what: whose outcomes.
    """
    failed = collections.Counter(outcome.name for outcome in outcomes if outcome.is_failure)
    share = failed.total() / max(len(outcomes), 1)
    if share <= config.max_failure_share:
        return
    kinds = ", ".join(f"{num} {name.lower()}" for name, num in failed.most_common())
    common = collections.Counter(error for error in errors if error).most_common(1)
    cause = f"; most frequent: {common[0][0]} ({common[0][1]} times)" if common else ""
    raise FailureShareError(
        f"{what}: graders failed on {share:.0%} of {len(outcomes)} completions ({kinds}), more "
        f"than graders.max_failure_share={config.max_failure_share}{cause}; "
        "mend the reward or the data, or raise graders.deadline_seconds or the share"
    )


class _GarbledError(Exception):
    """A child wrote what its worker never writes; never leaves this file."""


class _Job:
    """The items of one `submit`, and what became of them."""

    def __init__(self, items: Sequence[tuple]):
        self.items = items
        self._results: list[Result | None] = [None] * len(items)
        self._left = len(items)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._error: Exception | None = None
        if not items:
            self._done.set()

    def deliver(self, indices: Sequence[int], results: Sequence[Result]) -> None:
        with self._lock:
            for i, result in zip(indices, results, strict=True):
                self._results[i] = result
            self._left -= len(indices)
            if not self._left:
                self._done.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> list[Result]:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return [result for result in self._results if result is not None]


class _Batch(NamedTuple):
    job: _Job
    indices: Sequence[int]


class GraderPool:
    """Child processes that call `function` with each item's arguments.

    function: picklable by name (a function of a module, a dataclass instance, a partial of them)
    with a return value that JSON can write; it runs in children alone, which import its module.
    busy: a context that each of a child's batches is graded in, such as a clock's phase. Children
    start at once, in the background. Raises ValueError for a function that cannot be pickled.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        config: GraderConfig,
        *,
        busy: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        try:
            pickled = pickle.dumps(function)
            if b"__main__" in pickled:  # a child has another one
                raise TypeError("it stands in the file that was started")
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"graders run in child processes, to which {function!r} cannot be sent ({error}); "
                "use functions at the top level of a module, or instances of classes there"
            ) from error
        self._config = config
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        setup = worker.Setup(
            pickled,
            config.deadline_seconds,
            config.memory_mb << 20,
            config.network,
            config.processes,
        )
        children = [_Child(setup, config.recycle_after) for _ in range(config.workers)]
        for i, child in enumerate(children):
            threading.Thread(
                target=_serve, args=(self._batches, child, busy), name=f"grader-{i}", daemon=True
            ).start()
        self._close = weakref.finalize(self, _close, self._batches, children)

    def submit(self, items: Sequence[tuple]) -> Callable[[], list[Result]]:
        """Starts to grade; the function returned waits, and gives one Result an item, in order.

        Raises StartError, when waited for, if the children cannot import the function.
        """
        if not self._close.alive:
            raise ValueError("this GraderPool is closed")
        job, workers = _Job(items), self._config.workers
        size = max(1, min(MAX_BATCH, math.ceil(len(items) / (4 * workers))))
        for start in range(0, len(items), size):
            self._batches.put(_Batch(job, range(start, min(start + size, len(items)))))
        return functools.partial(self._wait, job)

    def _wait(self, job: _Job) -> list[Result]:  # ours, so that a waiter keeps the pool alive
        return job.wait()

    def close(self) -> None:
        """Kills the children. Work not yet done is lost: whoever waits for it gets StartError."""
        self._close()


def _close(batches: queue.SimpleQueue, children: Sequence["_Child"]) -> None:
    for child in children:
        child.close()
        batches.put(None)


def _serve(batches: queue.SimpleQueue, child: "_Child", busy) -> None:
    """One thread a child: takes batches, and gives back what it had not reached when it died."""
    with contextlib.suppress(StartError, OSError):  # raised again, for the first batch
        child.start()
    while (batch := batches.get()) is not None:
        try:
            with busy():
                results = child.grade([batch.job.items[i] for i in batch.indices])
        except Exception as error:  # whoever waits must hear of it, a bug of ours included
            batch.job.fail(error)
            continue
        done, rest = batch.indices[: len(results)], batch.indices[len(results) :]
        for i in rest:  # singly, so that other children share what may be as slow
            batches.put(_Batch(batch.job, [i]))
        batch.job.deliver(done, results)
    child.kill()


class _Child:
    """One child process, started again when it dies or has done its share."""

    def __init__(self, setup: worker.Setup, recycle_after: int):
        self._setup, self._recycle_after = setup, recycle_after
        self._process: subprocess.Popen | None = None
        self._num_graded = 0
        self._is_closed = False
        self._lock = threading.Lock()  # between start, kill and close

    def start(self) -> None:
        """Makes it ready for items. Raises StartError."""
        with self._lock:
            if self._is_closed:
                raise StartError("the graders were closed")
            ours, theirs = socket.socketpair()
            words = ["-P", "-m", "r1_jax.rewards.worker", str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *words],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=_environment(),
                    start_new_session=True,  # one group to kill; no Ctrl-C of the terminal's
                )
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
        self._channel, self._unread, self._num_graded = ours, b"", 0
        try:
            self._send(pickle.dumps(self._setup), START_SECONDS)
            lines = self._lines(START_SECONDS)
        except (OSError, _GarbledError):
            lines = []
        if not lines or lines[0][1]:
            end = self.kill()
            raise StartError(
                f"a grader cannot start: {lines[0][1]}"
                if lines
                else f"a grader cannot start: its process {end or 'did not answer'} (see above)"
            )

    def grade(self, items: Sequence[tuple]) -> list[Result]:
        """Results of the first items, all of them unless the child died at the last one given."""
        if self._process is None or self._num_graded >= self._recycle_after:
            self.kill()
            self.start()
        deadline, results, why = self._setup.deadline_seconds, [], ""
        try:
            self._send(pickle.dumps(list(items)), deadline)
            while len(results) < len(items):
                lines = self._lines(deadline)
                if not lines:
                    break
                if len(results) + len(lines) > len(items):
                    raise _GarbledError
                for value, error in lines:
                    failure = verdict.Outcome.CRASH if error else None
                    results.append(Result(value, failure, error))
        except _GarbledError:
            why = "wrote to its channel"
        except OSError:  # it died while we wrote, and kill() says how
            pass
        if len(results) < len(items):
            why = self.kill() or why
            if self._is_closed:
                raise StartError("the graders were closed")
            results.append(
                Result(None, verdict.Outcome.CRASH, f"grader {why}")
                if why
                else Result(None, verdict.Outcome.TIMEOUT, f"no verdict within {deadline:g} s")
            )
        elif any(result.error.startswith("MemoryError") for result in results):
            self.kill()  # what filled it may still be there
        self._num_graded += len(results)
        return results

    def kill(self) -> str:
        """Ends it and all its processes; says how it had ended already, "" if it was alive."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return ""
            # What closed the channel has ended, or is about to.
            has_ended = _has_ended(process, 1.0 if self._has_hung_up() else 0.0)
            _kill_group(process)
            code = process.wait()
            self._channel.close()
        if not has_ended:
            return ""
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    def close(self) -> None:
        """Kills it for good; its thread, if it waits for an answer, hears of it."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                _kill_group(self._process)

    def _has_hung_up(self) -> bool:
        try:
            self._channel.settimeout(0)
            return self._channel.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _send(self, message: bytes, seconds: float) -> None:
        self._channel.settimeout(seconds)
        self._channel.sendall(worker.LENGTH.pack(len(message)) + message)

    def _lines(self, seconds: float) -> list[tuple[Any, str]]:
        """The answers that are there, waiting for one up to `seconds`; [] if none came."""
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            # Never less than a look: our own process may have slept while the child worked.
            self._channel.settimeout(max(until - time.monotonic(), 0.001))
            try:
                data = self._channel.recv(1 << 16)
            except OSError:  # the time is up, or the child is gone
                return []
            if not data:
                return []
            self._unread += data
            if len(self._unread) > 2 * worker.MAX_REPLY:
                raise _GarbledError
        *lines, self._unread = self._unread.split(b"\n")
        try:
            return [(value, str(error)) for value, error in map(json.loads, lines)]
        except (ValueError, TypeError, RecursionError) as error:
            raise _GarbledError from error


def _has_ended(process: subprocess.Popen, seconds: float) -> bool:
    """Whether it ends within `seconds`; it is not reaped, so that its id stays its own."""
    until = time.monotonic() + seconds
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, process.pid, flags) is None:
        if time.monotonic() >= until:
            return False
        time.sleep(0.005)
    return True


def _kill_group(process: subprocess.Popen) -> None:
    if process.returncode is None:  # not reaped: the id is still its own
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """A child's: our import path, one thread, no accelerator, one order of sets."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    fixed = {
        "PYTHONPATH": path,
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    return {**os.environ, **fixed}
