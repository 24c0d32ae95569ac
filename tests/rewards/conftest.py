"""What the tests of programs share."""

import pathlib


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
