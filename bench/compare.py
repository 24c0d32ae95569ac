"""Ours and the peers in turn on one machine: lines of JSON, and a table in the end.

    python -m bench.compare S M [--peers] [--kinds=step,tail] [--steps=5]
    python -m bench.compare --accelerator [--tiny] [--kinds=step,decode64,decode256] [--steps=5]

All entrants of one work are started one after the other, each up to the end of its warm-up. Then
they take turns, a step each, round after round: what disturbs the machine disturbs all of them.
Who is not in turn waits for a line on its standard input. Compilation caches start empty; JAX
entrants are started a second time, with what the first time left in them. Peers live in
environments of their own, .venvs/NAME (`make bench-peers` makes them).

With --accelerator it is 1.5B, ours alone, one process at a time on the first device that jax has,
what that device can do is beside it, and its kernels are compared with plain code (bench.kernels);
--tiny does the same of a model for a CPU, to see it run.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import table, work
from r1_jax.__main__ import LARGE_PAGES

ROOT = pathlib.Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venvs"


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A process to be timed."""

    module: str  # of bench
    options: tuple[str, ...] = ()
    environment: str = ""  # its folder in .venvs; "" is ours

    def command(self, *more: str) -> list[str]:
        python = ENVIRONMENTS / self.environment / "bin" / "python"
        return [
            str(python) if self.environment else sys.executable,
            *("-m", f"bench.{self.module}", *self.options, *more),
        ]


# Settings are the fastest of those tried on two cores (README.md).
STEP = (
    Entrant("grpo", ("--microbatches=8",)),
    Entrant("peers.trl", ("--rows=16",), "trl"),
    Entrant("peers.tunix", ("--kind=grpo",), "tunix"),
)
TAIL = (
    Entrant("rollout", ("--slots=16",)),
    Entrant("rollout", ("--slots=0",)),
    Entrant("peers.transformers", (), "trl"),
    Entrant("peers.transformers", ("--cache=paged",), "trl"),
    Entrant("peers.tunix", ("--kind=rollout",), "tunix"),
)
KINDS = {"step": STEP, "tail": TAIL}
ACCELERATOR = {
    "step": (Entrant("grpo", ("--microbatches=8",)),),
    "decode64": (Entrant("decode", ("--batch=64",)),),
    "decode256": (Entrant("decode", ("--batch=256",)),),
}
ON_CPU = {"JAX_PLATFORMS": "cpu"}
# What `python -m r1_jax` sets for itself everybody gets: small programs are kept too, of all who
# use jax, and memory comes in large pages.
ENVIRONMENT = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **LARGE_PAGES}


class Process:
    """An entrant that is running."""

    def __init__(
        self,
        entrant: Entrant,
        shape: str,
        num_steps: int,
        cache: str,
        log: pathlib.Path,
        where: Mapping[str, str],
    ):
        self.entrant, self.log = entrant, log
        self._out = log.open("w")
        self.process = subprocess.Popen(
            entrant.command(shape, f"--steps={num_steps}", "--driven"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._out,
            text=True,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | {"JAX_COMPILATION_CACHE_DIR": cache, **where},
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what was said to one that has ended
            self.process.stdin.close()
        self.process.stdout.close()
        self._out.close()

    def turn(self) -> dict[str, Any]:
        """One step: the line it wrote."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `line` says so
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self.line()

    def line(self) -> dict[str, Any]:
        """Its next line. Raises RuntimeError with the end of its log where none comes."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            said = self.log.read_text()[-2000:]
            raise RuntimeError(f"{' '.join(self.entrant.command())} ended early:\n{said}")
        return json.loads(text)


def session(
    shape: str,
    kind: str,
    entrants: Sequence[Entrant],
    num_steps: int,
    where: Mapping[str, str] = ON_CPU,
) -> Iterator[dict[str, Any]]:
    """Readings of the entrants' turns on one work, one each. where: environment variables."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        logs = [pathlib.Path(folder, f"{i}.log") for i in range(len(entrants))]
        caches = [str(pathlib.Path(folder, f"{i}.jit")) for i in range(len(entrants))]
        processes = []
        for entrant, cache, log in zip(entrants, caches, logs, strict=True):
            processes.append(
                stack.enter_context(Process(entrant, shape, num_steps, cache, log, where))
            )
            say(f"{shape} {kind}: {' '.join(entrant.command())}: {processes[-1].turn()}")
        loads = []
        for _ in range(num_steps):
            loads.append(os.getloadavg()[0])
            for process in processes:
                say(f"{shape} {kind}: {process.entrant.module}: {process.turn()}")
        rows = [process.line() for process in processes]
        stack.close()
        for entrant, cache, log, row in zip(entrants, caches, logs, rows, strict=True):
            row |= {"work": f"{shape} {kind}", "load": loads, "options": entrant.options}
            if kind == "step" and pathlib.Path(cache).exists():
                with Process(entrant, shape, 0, cache, log, where) as process:
                    process.turn()
                    row["warm_start_seconds"] = process.line()["start_seconds"]
            yield row


def say(text: str) -> None:
    """A line for those who wait."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def machine(*options: str, where: Mapping[str, str] = ON_CPU) -> dict[str, Any]:
    """The line of bench.machine."""
    return {"machine": json.loads(_output("bench.machine", *options, where=where))}


def _output(module: str, *options: str, where: Mapping[str, str]) -> str:
    """What a script writes on standard output. Raises subprocess.CalledProcessError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        env=os.environ | where,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def accelerator(is_tiny: bool, kinds: Sequence[str], num_steps: int) -> None:
    """Prints readings of ours on the first device, then the table and that of its ceilings.

    Exits with an error on a CPU, but for the tiny model.
    """
    ceilings, rows = [machine("--device", where={})], []
    if ceilings[0]["machine"]["platform"] == "cpu" and not is_tiny:
        raise SystemExit(
            "error: --accelerator measures a GPU or TPU, and jax has none here but "
            f"{ceilings[0]['machine']['device']!r}; install jax for the one there is "
            "(bench/README.md) and see that JAX_PLATFORMS does not say cpu, or add --tiny to see "
            "the path run"
        )
    write(ceilings[0])
    write(json.loads(_output("bench.kernels", where={})))
    for kind in kinds:
        for row in session(
            "1.5B-tiny" if is_tiny else "1.5B", kind, ACCELERATOR[kind], num_steps, {}
        ):
            rows.append(row)
            write(row)
    ceilings.append(machine("--device", where={}))
    write(ceilings[1])
    sys.stdout.write("\n" + table.table(rows) + "\n" + table.shares(rows, ceilings))


def write(row: dict[str, Any]) -> None:
    """A line of JSON on standard output."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def main(words: Sequence[str] | None = None) -> None:
    """Prints readings, then the table."""
    parser = argparse.ArgumentParser(description="ours and the peers in turn")
    parser.add_argument("shapes", nargs="*", default=["S", "M"], help=", ".join(work.WORK))
    parser.add_argument("--peers", action="store_true", help="with the peers")
    parser.add_argument("--accelerator", action="store_true", help="1.5B, on a GPU or TPU")
    parser.add_argument("--tiny", action="store_true", help="of --accelerator, wherever it is")
    parser.add_argument("--kinds", default="")
    parser.add_argument("--steps", type=int, default=5)
    given = parser.parse_args(words)
    if unknown := set(given.shapes) - set(work.WORK):  # argparse's choices do not go with a default
        parser.error(f"no work is called {', '.join(sorted(unknown))}; use {', '.join(work.WORK)}")
    kinds = given.kinds.split(",") if given.kinds else None
    if given.accelerator:
        return accelerator(given.tiny, kinds or list(ACCELERATOR), given.steps)
    write(machine())
    rows = []
    for shape in given.shapes:
        for kind in kinds or KINDS:
            entrants = [e for e in KINDS[kind] if given.peers or not e.environment]
            for row in session(shape, kind, entrants, given.steps):
                rows.append(row)
                write(row)
    write(machine())
    sys.stdout.write("\n" + table.table(rows))


if __name__ == "__main__":
    main()
