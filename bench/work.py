"""What is measured: shapes, prompts, lengths and reward; and how a process reports its turns.

Every entrant's environment reads this file: the standard library and NumPy, nothing else.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

NEVER = -1  # a stop token that no vocabulary has: every completion runs to its limit


@dataclasses.dataclass(frozen=True)
class Work:
    """A Qwen2-type decoder (biases on q, k, v; tied embeddings) and what it is to do."""

    vocab_size: int
    num_layers: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    mlp_dim: int
    num_prompts: int = 8  # of a whole step
    tail_prompts: int = 64  # of the long-tailed rollout
    group_size: int = 8
    prompt_length: int = 64  # tokens
    response_length: int = 192  # tokens: the equal length, and the long tail's cap
    tail_mean: int = 32  # tokens, of the geometric distribution
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    init_std: float = 0.02
    learning_rate: float = 1e-5
    kl_coef: float = 0.04  # of k3
    compute_dtype: str = "float32"

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    @property
    def num_rows(self) -> int:
        return self.num_prompts * self.group_size

    @property
    def tail_rows(self) -> int:
        return self.tail_prompts * self.group_size


WORK = {
    "S": Work(512, 4, 256, 4, 2, 1024),
    "M": Work(8192, 12, 512, 8, 2, 1536),
    "tiny": Work(64, 2, 32, 4, 2, 48, 2, 4, 4, 8, 12, 4),  # to see that everything runs
    # Qwen2.5-1.5B's shapes, 16 rows of 4,096 tokens, for one accelerator; and small, to see it run
    "1.5B": Work(
        *(151_936, 28, 1536, 12, 2, 8960, 2),
        prompt_length=512,
        response_length=3584,
        rope_theta=1_000_000.0,
        compute_dtype="bfloat16",
    ),
    "1.5B-tiny": Work(64, 2, 32, 4, 2, 48, 4, 4, 4, 8, 12, 4, compute_dtype="bfloat16"),
}


def doubled(work: Work) -> dict[str, Work]:
    """Name -> work with twice of it."""
    twice = {
        "rows": {"num_prompts": 2 * work.num_prompts},
        "length": {
            "prompt_length": 2 * work.prompt_length,
            "response_length": 2 * work.response_length,
        },
        "layers": {"num_layers": 2 * work.num_layers},
    }
    return {name: dataclasses.replace(work, **changes) for name, changes in twice.items()}


def prompts(work: Work, num: int) -> np.ndarray:
    """int32 [num, prompt_length]: ids drawn evenly from the vocabulary, the same for everybody."""
    return np.random.default_rng(7).integers(
        work.vocab_size, size=(num, work.prompt_length), dtype=np.int32
    )


def tail_lengths(work: Work) -> np.ndarray:
    """int32 [tail_rows]: tokens of every completion of the long tail, the same for everybody.

    A completion stops after each token with chance 1 / tail_mean: geometric, cut at the cap.
    """
    drawn = np.random.default_rng(11).geometric(1 / work.tail_mean, work.tail_rows)
    return np.minimum(drawn, work.response_length).astype(np.int32)


def text(ids: Sequence[int]) -> str:
    """Ids as decimal numbers."""
    return " ".join(str(int(i)) for i in ids)


def ids(text: str) -> list[int]:
    """The ids of `text`."""
    return [int(word) for word in text.split()]


def reward(completion: str) -> float:
    """The share of even ids: as cheap as a reward can be, and it differs within a group."""
    words = completion.split()
    return sum(int(word[-1]) % 2 == 0 for word in words) / max(len(words), 1)


def resident_bytes(name: str) -> int:
    """Memory of this process: what it has resident (VmRSS of /proc/self/status), or the most it
    has had (VmHWM)."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def age_seconds() -> float:
    """Seconds since this process was started, to 10 ms."""
    with open("/proc/self/stat") as stat:
        started = int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


class Turns:
    """The steps of one process, timed one by one; each may wait for the word to begin.

    Beside wall seconds those of the processor, all threads together: on a machine that others use,
    they say more.

    With `driven` a step begins when a line comes in on standard input, so that several processes
    can take turns on one machine. Each step, and then the whole, is a line of JSON on standard
    output; whatever libraries print there goes to standard error.
    """

    def __init__(self, name: str, driven: bool):
        self.name, self.driven = name, driven
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.tokens = 0
        self.start_seconds = 0.0
        self._began = self._spent = 0.0
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def begin(self) -> None:
        """Waits for the turn, if others take some, and starts the clock."""
        if self.driven and not sys.stdin.readline():
            raise SystemExit("nobody drives this process any more")
        self._began, self._spent = time.perf_counter(), time.process_time()

    def end(self, tokens: int, **facts: Any) -> None:
        """Stops the clock. tokens: those the completions really have. facts: for the record."""
        self.seconds.append(time.perf_counter() - self._began)
        self.cpu_seconds.append(time.process_time() - self._spent)
        if len(self.seconds) == 1:
            self.start_seconds = age_seconds()
        self.tokens = int(tokens)
        last = {"seconds": self.seconds[-1], "cpu_seconds": self.cpu_seconds[-1]}
        last["resident_bytes"] = resident_bytes("VmRSS")
        self._write({"step": len(self.seconds) - 1, **last, **facts})

    @contextlib.contextmanager
    def turn(self) -> Iterator[dict[str, Any]]:
        """begin, the block, end with what the block put into the dictionary: tokens, facts."""
        self.begin()
        found: dict[str, Any] = {}
        yield found
        self.end(**found)

    def finish(self, **facts: Any) -> None:
        """The line on the whole; the first step was the warm-up."""
        timed = self.seconds[1:]
        self._write(
            {
                "name": self.name,
                "step_seconds": timed,
                "cpu_seconds": self.cpu_seconds[1:],
                "median_seconds": statistics.median(timed) if timed else None,
                "tokens": self.tokens,
                "start_seconds": self.start_seconds,
                "peak_bytes": resident_bytes("VmHWM"),
                **facts,
            }
        )

    def _write(self, row: dict[str, Any]) -> None:
        self._out.write(json.dumps(row) + "\n")
        self._out.flush()


def arguments(words: Sequence[str] | None = None, **more: Any) -> argparse.Namespace:
    """SHAPE [--steps=N] [--driven], and options with a default each (`more`); `work` is added."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=WORK)
    parser.add_argument("--steps", type=int, default=5, help="timed ones, after a warm-up")
    parser.add_argument("--driven", action="store_true", help="a line on stdin begins a step")
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    found = parser.parse_args(words)
    found.work = WORK[found.shape]
    return found
