"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere."""

import math
import sys
import time
from collections.abc import Callable
from typing import TextIO

from r1_jax.metrics import clock


class Progress:
    """Shows step, reward, length and ETA on `stream` (default: standard error).

    On a terminal a tqdm bar. Elsewhere (a file, a pipe, CI) plain lines: the first step, the last
    one, and between them at most one every `every_seconds`. is_shown: False for silence.
    """

    def __init__(
        self,
        num_steps: int,
        *,
        first_step: int = 0,
        is_shown: bool = True,
        every_seconds: float = 60.0,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ):
        self._num_steps = num_steps
        self._every_seconds = every_seconds
        self._stream = stream or sys.stderr
        self._now = now
        self._eta = clock.Eta(num_steps)
        self._last_update = now()
        self._last_line = -math.inf
        self._bar = None
        self._is_shown = is_shown
        if is_shown and self._stream.isatty():
            import tqdm

            self._bar = tqdm.tqdm(
                total=num_steps,
                initial=first_step,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}",
            )

    def update(self, step: int, **shown: float) -> None:
        """Tells that step number `step` is done, with what to show: reward=0.5, length=41.2."""
        now = self._now()
        eta = self._eta.update(step + 1, now - self._last_update)
        self._last_update = now
        facts = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        facts += f"  ETA {clock.duration(eta)}"
        if self._bar is not None:
            self._bar.set_postfix_str(facts, refresh=False)
            self._bar.update(step + 1 - self._bar.n)
        elif now - self._last_line >= self._every_seconds or step + 1 == self._num_steps:
            self._last_line = now
            self.note(f"step {step + 1}/{self._num_steps}  {facts}")

    def note(self, text: str) -> None:
        """Prints `text` as a line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._is_shown:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the bar as it is and gives the terminal back."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()
