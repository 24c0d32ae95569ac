"""What the tests of programs share."""

import pathlib
import time


def programs_running() -> list[str]:
    """Process ids, on the host, of programs that a sandbox started."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if b"/program.py" in (path / "cmdline").read_bytes():
                found.append(path.name)
        except OSError:
            continue
    return found


def programs_left(seconds: float = 5.0) -> set[str]:
    """Of the programs running now, those that still run after `seconds`.

    Other workers' tests start programs as well: only what outlives its limit is left behind.
    """
    left, until = set(programs_running()), time.monotonic() + seconds
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left &= set(programs_running())
    return left
