"""What surrounds every command that trains: the end that a signal asks for."""

import contextlib
import sys
from collections.abc import Iterator

from r1_jax.core import interrupt


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Runs the block; on SIGTERM it is left once it has saved, and the process exits with 75."""
    try:
        with interrupt.heeded():
            yield
    except interrupt.Interrupted as end:
        print(f"interrupted: {end}; the same command goes on", file=sys.stderr)
        sys.exit(interrupt.EXIT_CODE)
