"""A sweep: settings x paired seeds, a child process and a run directory each; resumable."""

import collections
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from r1_jax.checkpoints import atomic, manifest
from r1_jax.metrics import jsonl

VARIANT = "variant"  # a grid key that is no setting: FILE:TEXT, the config file's own variants
LOG, DONE = "train.log", "done.json"  # in each run directory: its child's output; its end
ATTEMPTS = 2
_TAIL = 12  # lines of a failed run's log that are told
_PATIENCE = 20  # seconds a child has to end when asked


@dataclasses.dataclass(frozen=True)
class Cell:
    """One combination of the grid's values."""

    name: str  # of its directory
    settings: Mapping[str, str]  # dotted key -> value, as typed


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    cell: str
    seed: int
    workdir: pathlib.Path
    command: tuple[str, ...]
    config: Mapping[str, Any]  # resolved, as it will stand in config.json


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that failed every time."""

    job: Job
    status: int  # of its last process; negative: the signal that ended it
    tail: tuple[str, ...]  # last lines of its log


def cells(grids: Sequence[str], alone: str) -> list[Cell]:
    """Returns the product of `grids` ("dotted.key=value,value"), the first key varying slowest.

    Commas inside brackets or quotes belong to a value. No grid: one cell called `alone`. Raises
    ValueError for a grid without values, a key or value given twice, or names that collide.
    """
    axes: dict[str, list[str]] = {}
    for text in grids:
        key, equals, listed = text.partition("=")
        values = _split(listed)
        if not equals or not key or not all(values):
            raise ValueError(f'--grid="{text}" must read "dotted.key=value,value"')
        if key in axes or len(set(values)) < len(values):
            raise ValueError(f'--grid="{text}" names a key or a value twice')
        if key.rpartition(".")[2] == "seed":
            raise ValueError(f'--grid="{text}": seeds are not a setting; use --seeds')
        axes[key] = values
    last = [key.rpartition(".")[2] for key in axes]
    short = last if len(set(last)) == len(last) else list(axes)
    found = []
    for values in itertools.product(*axes.values()):
        parts = [f"{name}={_plain(value)}" for name, value in zip(short, values, strict=True)]
        name = ",".join(parts) or _plain(alone)
        found.append(Cell(name, dict(zip(axes, values, strict=True))))
    names = [cell.name for cell in found]
    if len(set(names)) < len(names):
        raise ValueError(f"the grid's values give one directory name to two cells: {names}")
    return found


def _split(text: str) -> list[str]:
    """Returns the pieces of `text` between commas that no bracket and no quote holds."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces]


def _plain(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "_"


def record(
    workdir: pathlib.Path,
    *,
    config_file: str,
    overrides: Sequence[tuple[str, str]],
    grid: Sequence[Cell],
    seeds: Sequence[int],
    base: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Writes workdir/sweep.json (grid, seeds, commit, baseline) and returns its content.

    base: the configuration without the grid; configs: resolved configuration by cell name. Seeds
    may be added by a later call and are kept; its commit is added. The baseline is the cell that
    equals `base`, or else the first. Raises ValueError when workdir holds a sweep of other
    configurations.
    """
    plain = {name: _seedless(config) for name, config in configs.items()}
    equal = [name for name, config in plain.items() if config == _seedless(base)]
    content = {
        "config": config_file,
        "overrides": dict(overrides),
        "grid": [{"cell": cell.name, "settings": dict(cell.settings)} for cell in grid],
        "baseline": equal[0] if equal else grid[0].name,
        "config_digests": {name: manifest.config_digest(config) for name, config in plain.items()},
        "seeds": sorted(seeds),
        "commits": [],
    }
    path = workdir / "sweep.json"
    if path.exists():
        old = json.loads(path.read_text())
        if old["config_digests"] != content["config_digests"]:
            raise ValueError(
                f"{path} is a sweep of other cells ({', '.join(old['config_digests'])}) or its "
                "configurations have changed since; use another --workdir"
            )
        content["seeds"] = sorted({*old["seeds"], *seeds})
        content["commits"] = old["commits"]
    commit, is_dirty = manifest.git_commit()
    made_by = {"commit": commit, "dirty": is_dirty}
    if made_by not in content["commits"]:
        content["commits"] = [*content["commits"], made_by]
    atomic.write(path, (json.dumps(content, indent=2) + "\n").encode())
    return content


def _seedless(config: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({k: v for k, v in config.items() if k != "seed"}))


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[int]:
    """Holds `workdir` for this process and for children that inherit the yielded descriptor.

    Raises ValueError while another sweep, or a child that outlived one, is at work there.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another sweep is at work in {workdir}, or a run that it left behind; wait for it"
            ) from None
        yield file.fileno()


def is_done(job: Job) -> bool:
    """Whether an earlier call of the sweep saw `job` of this very configuration end well."""
    path = job.workdir / DONE
    if not path.exists():
        return False
    rows, _ = jsonl.read(job.workdir / "eval.jsonl")
    digest = json.loads(path.read_text())["config_digest"]
    return digest == manifest.config_digest(job.config) and bool(rows)


@dataclasses.dataclass
class _Child:
    job: Job
    attempt: int
    process: subprocess.Popen[bytes]
    log_start: int  # bytes of the log that are of earlier attempts
    began: float


def run(
    jobs: Sequence[Job], *, workers: int, cores: int, held: int, say: Callable[[str], None]
) -> list[Failure]:
    """Runs `jobs` that are not done, `workers` at a time; returns those that failed.

    cores: processor cores of each worker, its own as far as there are enough; 0 pins none, and
    platforms without affinities pin none. held: the descriptor of `lock`, inherited. A failed job
    goes to the end of the queue for its second and last attempt. Children are asked to end, and
    waited for, when this process is interrupted.
    """
    waiting = collections.deque((job, 1) for job in jobs if not is_done(job))
    say(f"{len(jobs)} runs, {len(jobs) - len(waiting)} done already, {workers} at a time")
    running: dict[int, _Child] = {}
    failures = []
    try:
        while waiting or running:
            for slot in range(workers):
                if waiting and slot not in running:
                    job, attempt = waiting.popleft()
                    running[slot] = _start(job, attempt, _cores(slot, cores), held)
                    say(f"{job.cell} seed {job.seed}: started{_again(attempt)}")
            for slot, child in list(running.items()):
                status = child.process.poll()
                if status is None:
                    continue
                del running[slot]
                job, seconds = child.job, time.monotonic() - child.began
                if status == 0:
                    _mark(job, child.attempt)
                    say(f"{job.cell} seed {job.seed}: done in {seconds:.0f} s")
                elif child.attempt < ATTEMPTS:
                    waiting.append((job, child.attempt + 1))
                    say(f"{job.cell} seed {job.seed}: failed, {_ended(status)}; tried again later")
                else:
                    failures.append(Failure(job, status, _tail(child)))
                    say(f"{job.cell} seed {job.seed}: failed again, {_ended(status)}")
            time.sleep(0.05)
    finally:
        for child in running.values():
            child.process.terminate()
        for child in running.values():
            try:
                child.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
    return failures


def told(failures: Sequence[Failure]) -> list[str]:
    """Returns the lines that say which runs failed and how their logs end."""
    lines = []
    for failure in failures:
        job = failure.job
        lines.append(f"failed: {job.cell} seed {job.seed}, {_ended(failure.status)}; {job.workdir}")
        lines += [f"    {line}" for line in failure.tail]
    return lines


def _start(job: Job, attempt: int, pinned: set[int], held: int) -> _Child:
    job.workdir.mkdir(parents=True, exist_ok=True)
    (job.workdir / DONE).unlink(missing_ok=True)
    with open(job.workdir / LOG, "ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(held,)
        )
    if pinned:  # before the child has any thread but its first: those to come inherit it
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, pinned)
    return _Child(job, attempt, process, start, time.monotonic())


def _cores(slot: int, count: int) -> set[int]:
    """Returns the cores of worker `slot`, `count` of those that this process may use."""
    if not count or sys.platform != "linux":
        return set()
    mine = sorted(os.sched_getaffinity(0))
    return {mine[(slot * count + i) % len(mine)] for i in range(min(count, len(mine)))}


def _mark(job: Job, attempt: int) -> None:
    content = {"config_digest": manifest.config_digest(job.config), "attempts": attempt}
    atomic.write(job.workdir / DONE, (json.dumps(content) + "\n").encode())


def _tail(child: _Child) -> tuple[str, ...]:
    with open(child.job.workdir / LOG, "rb") as log:
        log.seek(child.log_start)
        text = log.read().decode("utf-8", "replace")
    lines = [line for line in re.split("[\r\n]+", text) if line.strip()]
    return tuple(lines[-_TAIL:])


def _again(attempt: int) -> str:
    return "" if attempt == 1 else f", attempt {attempt} of {ATTEMPTS}"


def _ended(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}"
