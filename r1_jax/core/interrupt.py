"""SIGTERM, the notice of a preemption: heard at once, heeded where a run can stop.

A loop calls `leave_if_asked()` where everything is saved, or asks `is_asked()` and saves first.
Outside of `heeded()` the signal does what it always does, and `is_asked()` is False.
"""

import contextlib
import contextvars
import os
import signal
import threading
from collections.abc import Iterator

EXIT_CODE = 75  # of a process that was interrupted: EX_TEMPFAIL of sysexits.h, "try again"

_asked: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar(
    "r1_interrupt", default=None
)


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """The run was asked to end, has saved what it had to, and can be started again."""


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """The first SIGTERM in the block is remembered, for is_asked(); a second one kills.

    For the main thread: Python runs handlers there, once the call under way has come back.
    """
    event = threading.Event()

    def ask(number, frame):
        event.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # not print: the signal may have come in the middle of one
        os.write(2, b"SIGTERM: this run saves and ends as soon as it can\n")

    before = signal.signal(signal.SIGTERM, ask)
    token = _asked.set(event)
    try:
        yield
    finally:
        _asked.reset(token)
        signal.signal(signal.SIGTERM, before)


def is_asked() -> bool:
    """Whether SIGTERM has come to this process since `heeded()` was entered."""
    event = _asked.get()
    return event is not None and event.is_set()


def leave_if_asked(kept: str = "what is written is kept") -> None:
    """Raises Interrupted if SIGTERM has come; kept: what it says is there to go on from."""
    if is_asked():
        raise Interrupted(kept)
