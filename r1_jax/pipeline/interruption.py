"""SIGTERM to one process of a program: all leave together, where each has saved."""

from r1_jax.core import interrupt
from r1_jax.sharding import hosts


def is_asked() -> bool:
    """Whether it has come to any process: the same answer on all. A barrier with several."""
    return any(hosts.gather("interrupted", interrupt.is_asked()))


def leave_if_asked(kept: str = "what is written is kept") -> None:
    """core.interrupt's, on all processes when one is asked."""
    if is_asked():
        raise interrupt.Interrupted(kept)
