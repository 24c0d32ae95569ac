"""A run in five lines: base against trained."""

import dataclasses
import math
from typing import Any

from r1_jax.metrics import clock
from r1_jax.reports import runs


@dataclasses.dataclass(frozen=True)
class Fact:
    """One quantity before and after; "-" where it is not known."""

    name: str
    base: str
    trained: str
    remark: str


def facts(run: runs.Run) -> list[Fact]:
    """Returns pass@1, cons@k, mean length, reflection words and seconds of base and trained policy.

    Base is the first evaluation of the run's task, trained the last. Before any evaluation lengths
    and words are those of the first and the last training step.
    """
    rows = run.task_evals or run.rows
    first, last = rows[0], rows[-1] if len(rows) > 1 else {}
    juries = [key for key in first if key.startswith("cons@") and _number(first, key) is not None]
    votes = "cons@16" if "cons@16" in juries or not juries else juries[-1]
    steps = f"step {first['step']} -> {last.get('step', '-')}"
    total, phases = _seconds(run)
    size = _size(last or first)
    if last and size != _size(first):
        size = f"{size} (base {_size(first)})"
    remark = f"{_interval(last or first)}{size}, {steps}"
    return [
        _fact("pass@1", "pass@1", first, last, ".3f", remark),
        _fact(votes, votes, first, last, ".3f", ""),
        _fact("mean length", "length/mean", first, last, ".1f", "tokens", with_ratio=True),
        _fact(
            "reflection words",
            "reflection/per_completion",
            first,
            last,
            ".2f",
            _markers(first, last),
            with_ratio=True,
        ),
        Fact("seconds", "-", total, phases),
    ]


def lines(run: runs.Run) -> list[str]:
    """Returns the five facts as lines for a terminal."""
    return [
        f"{fact.name:<17} {fact.base:>8} -> {fact.trained:>8}   {fact.remark}".rstrip()
        for fact in facts(run)
    ]


_OVERLAPPED = "score"  # graders work beside the phases that wait for them


def _number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _fact(name, key, first, last, form, remark, with_ratio=False) -> Fact:
    base, trained = _number(first, key), _number(last, key)
    if with_ratio and base and trained is not None:
        remark = f"x{trained / base:.1f}{f'; {remark}' if remark else ''}"
    before, after = ("-" if value is None else format(value, form) for value in (base, trained))
    return Fact(name, before, after, remark)


def _interval(row) -> str:
    low, high = _number(row, "pass@1_low"), _number(row, "pass@1_high")
    return f"95% in [{low:.3f}, {high:.3f}], " if low is not None and high is not None else ""


def _size(row) -> str:
    problems, samples = _number(row, "num_problems"), _number(row, "num_samples")
    if problems is None or samples is None:
        return "not evaluated"
    return f"{problems:.0f} problems x {samples:.0f} samples"


def _markers(first, last) -> str:
    base, trained = _number(first, "reflection/markers"), _number(last, "reflection/markers")
    if not base or trained is None:
        return ""
    return f"task's markers {base:.2f} -> {trained:.2f}, x{trained / base:.1f}"


def _seconds(run: runs.Run) -> tuple[str, str]:
    """Returns the run's wall seconds and where they went."""
    phases = seconds(run)
    if not phases:
        return "-", ""
    longest = sorted(phases, key=lambda name: -phases[name])[:4]
    total = sum(value for name, value in phases.items() if name != _OVERLAPPED)
    parts = ", ".join(f"{name} {clock.duration(phases[name])}" for name in longest)
    return f"{total:.0f}", f"{clock.duration(total)}: {parts}"


def seconds(run: runs.Run) -> dict[str, float]:
    """Returns wall seconds per phase: the manifest's, or else the sum over the steps' rows."""
    listed = run.manifest.get("seconds")
    if isinstance(listed, dict) and listed:
        return {name: float(value) for name, value in listed.items()}
    found: dict[str, float] = {}
    for row in run.rows:
        for key in row:
            value = _number(row, key)
            if key.startswith("seconds/") and value is not None:
                name = key.removeprefix("seconds/")
                found[name] = found.get(name, 0.0) + value
    return found
