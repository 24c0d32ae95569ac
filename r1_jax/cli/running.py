"""What surrounds every command that trains: the hosts it runs on, and the end a signal asks for."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

from r1_jax.core import interrupt
from r1_jax.sharding import hosts, mesh


@contextlib.contextmanager
def guarded(
    *, on_several: bool = False, silence_seconds: float = hosts.SILENCE_SECONDS
) -> Iterator[None]:
    """Joins the other hosts (R1_JAX_DISTRIBUTED) and runs the block; all leave it together.

    Exits with 75 on SIGTERM, once the block has saved, and with 76, at once, when another process
    is lost, which silence_seconds without a sign of life make it. Raises ValueError for several
    hosts unless on_several.
    """
    mesh.enough_threads()
    try:
        hosts.start(os.environ.get(hosts.VARIABLE, ""), silence_seconds=silence_seconds)
        if jax.process_count() > 1 and not on_several:
            raise ValueError(
                f"this command is for one process, not for {jax.process_count()}; unset "
                f"{hosts.VARIABLE} and start it on one host (train and sft run on several)"
            )
        with interrupt.heeded():
            yield
        hosts.finish()
    except interrupt.Interrupted as end:
        if hosts.is_first():
            print(f"interrupted: {end}; the same command goes on", file=sys.stderr)
        hosts.finish()
        sys.exit(interrupt.EXIT_CODE)
    except hosts.LostError as error:
        hosts.give_up(error)
    except jax.errors.JaxRuntimeError:
        hosts.await_loss(silence_seconds=silence_seconds)
        raise
