"""The comparison of a sweep: cells side by side, paired over seeds and over problems."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from r1_jax.metrics import jsonl
from r1_jax.reports import paired, runs
from r1_jax.text import reflection


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number of a finished run."""

    name: str
    key: str  # of the rows
    source: str = "evals"  # the last evaluation; "rows": mean of the last tenth of the rollouts
    of_sample: Callable[[Mapping[str, Any]], float] | None = None  # its mean is the metric


METRICS = (
    Metric("pass@1", "pass@1", of_sample=lambda row: float(row["outcome"] == "right")),
    Metric("cons@16", "cons@16"),
    Metric("length, tokens", "length/mean", of_sample=lambda row: float(row["length"])),
    Metric("cut off", "length/clipped_share", of_sample=lambda row: float(row["stop"] == "length")),
    Metric(
        "reflection words",
        "reflection/per_completion",
        of_sample=lambda row: float(reflection.count(row["completion"])),
    ),
    Metric("format", "reward/format", of_sample=lambda row: float(row["parts"]["format"])),
    Metric("KL, nats", "kl/reference", source="rows"),
    Metric("entropy, nats", "entropy", source="rows"),
)
ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep's directory, read."""

    path: pathlib.Path
    record: Mapping[str, Any]  # sweep.json
    groups: tuple[runs.Group, ...]  # one per cell with rows, the baseline first
    baseline: str
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One metric of one cell, or of one setting's value, against the reference."""

    metric: str
    what: str  # the cell, or "key=value"
    against: str
    mean: float | None  # over seeds; None for a setting
    spread: float | None  # standard deviation over seeds, n - 1; None below 2
    seeds: paired.Paired | None  # None: no common seed
    problems: paired.Paired | None  # None: not a mean over samples, or no common problem
    adjusted: float | None = None  # seeds.p, Holm over its table

    @property
    def verdict(self) -> str:
        """What may be said at 5%: "moved", "perhaps" (before Holm), "not told apart" or "n = 1".

        "same in every seed": a difference, 0 or another, without any spread; no test applies.
        """
        if self.seeds is None or self.seeds.num < 2:
            return "n = 1" if self.seeds else "-"
        if self.seeds.p is None or self.seeds.low == self.seeds.high:
            return "same in every seed"
        if self.seeds.p >= ALPHA:
            return "not told apart"
        others = self.problems
        is_elsewhere = others is None or not _holds_zero(others)
        is_sure = self.adjusted is not None and self.adjusted < ALPHA and is_elsewhere
        return "moved" if is_sure else "perhaps"


def _holds_zero(interval: paired.Paired) -> bool:
    return interval.low is None or interval.high is None or interval.low <= 0.0 <= interval.high


def is_sweep(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is the --workdir of a sweep."""
    return (pathlib.Path(path) / "sweep.json").is_file()


def read(path: str | os.PathLike[str], baseline: str | None = None) -> Sweep:
    """Returns the sweep at `path`, its runs as far as they are.

    baseline: a cell's name; default: the one that the sweep recorded. Raises ValueError for an
    unknown one, and for a sweep in which no run of the baseline has begun.
    """
    path = pathlib.Path(path)
    record = json.loads((path / "sweep.json").read_text())
    names = [cell["cell"] for cell in record["grid"]]
    baseline = str(baseline or record["baseline"])
    if baseline not in names:
        raise ValueError(f"--baseline={baseline} is no cell of {path}; it has {', '.join(names)}")
    groups, notes = [], []
    for name in [baseline, *(name for name in names if name != baseline)]:
        members = []
        for seed in record["seeds"]:
            try:
                (run,) = runs.read([path / name / f"seed{seed}"])
            except ValueError:
                notes.append(f"{name}, seed {seed}: no rows; left out")
                continue
            run = dataclasses.replace(run, name=f"{name} seed{seed}")
            members.append(run)
            notes += [f"{run.name}: {note}" for note in run.notes]
            if final_row(run) is None:
                notes.append(f"{run.name}: not finished; in the curves, not in the tables")
        if members:
            groups.append(runs.Group(name, tuple(members)))
    if not groups or groups[0].label != baseline:
        raise ValueError(f"{path}: no run of the baseline {baseline} has a row yet")
    for group in groups:
        if len(runs.group(group.runs)) > 1:
            notes.append(f"{group.label}: its runs differ in more than their seed; not one cell")
    notes += _doubts([run for group in groups for run in group.runs])
    return Sweep(path, record, tuple(groups), baseline, tuple(notes))


def _doubts(members: Sequence[runs.Run]) -> list[str]:
    """Returns notes on what else than the settings may differ between runs."""
    notes = []
    commits = {str(run.manifest.get("commit", "unknown"))[:12] for run in members}
    if len(commits) > 1:
        notes.append(f"runs of several commits: {', '.join(sorted(commits))}")
    if any(run.manifest.get("dirty") for run in members):
        notes.append("some runs were made with changes that no commit holds (see Provenance)")
    starts: dict[Any, set[Any]] = {}
    for run in members:
        if run.task_evals and run.task_evals[0]["step"] == 0:
            starts.setdefault(seed_of(run), set()).add(run.task_evals[0].get("pass@1"))
    if any(len(scores) > 1 for scores in starts.values()):
        notes.append(
            "runs of one seed differ before the first update: base, task or sampling is among the "
            "settings, so part of a difference was there from the start"
        )
    return notes


def seed_of(run: runs.Run) -> Any:
    """Returns the run's seed."""
    return run.config.get("seed", run.manifest.get("seed"))


def final_row(run: runs.Run) -> dict[str, Any] | None:
    """Returns the evaluation after the run's last update; None while it is not finished."""
    num_steps = run.config.get("grpo", {}).get("num_steps")
    rows = [row for row in run.task_evals if num_steps is not None and row["step"] >= num_steps]
    return rows[-1] if rows else None


def value(run: runs.Run, metric: Metric) -> float | None:
    """Returns the metric of a finished run; None where it was not measured."""
    last = final_row(run)
    if last is None:
        return None
    if metric.source == "evals":
        return _number(last.get(metric.key))
    tail = run.rows[-max(1, len(run.rows) // 10) :]
    values = [_number(row.get(metric.key)) for row in tail]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _number(x: Any) -> float | None:
    is_number = isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
    return float(x) if is_number else None


def by_problem(run: runs.Run) -> dict[str, dict[Any, float]]:
    """Returns {metric: {uid: mean over samples}} of a finished run's last evaluation."""
    last = final_row(run)
    if last is None:
        return {}
    rows, _ = jsonl.read(run.path / "samples" / f"eval_step_{last['step']:06d}.jsonl")
    found: dict[str, dict[Any, float]] = {}
    for metric in METRICS:
        if metric.of_sample is None:
            continue
        values: dict[Any, list[float]] = {}
        for row in rows:
            values.setdefault(row["uid"], []).append(metric.of_sample(row))
        found[metric.name] = {uid: float(np.mean(of_uid)) for uid, of_uid in values.items()}
    return found


def compare(sweep: Sweep) -> list[Comparison]:
    """Returns every metric of every cell against the baseline; the baseline's own come first."""
    finished = {
        group.label: {seed_of(run): run for run in group.runs if final_row(run) is not None}
        for group in sweep.groups
    }
    problems = {
        name: {seed: by_problem(run) for seed, run in members.items()}
        for name, members in finished.items()
    }
    found = []
    for metric in METRICS:
        values = {
            name: {
                seed: x for seed, run in members.items() if (x := value(run, metric)) is not None
            }
            for name, members in finished.items()
        }
        base = values[sweep.baseline]
        for name, mine in values.items():
            if not mine and not base:
                continue
            listed = list(mine.values())
            mean = float(np.mean(listed)) if listed else None
            spread = float(np.std(listed, ddof=1)) if len(listed) > 1 else None
            if spread and min(listed) == max(listed):
                spread = 0.0  # and not what rounding the mean left
            over_seeds = over_problems = None
            if name != sweep.baseline and (common := [seed for seed in base if seed in mine]):
                over_seeds = paired.t_test([mine[seed] - base[seed] for seed in common])
                over_problems = _over_problems(
                    [
                        (
                            problems[name][seed].get(metric.name, {}),
                            problems[sweep.baseline][seed].get(metric.name, {}),
                        )
                        for seed in common
                    ]
                )
            found.append(
                Comparison(
                    metric.name, name, sweep.baseline, mean, spread, over_seeds, over_problems
                )
            )
    return _adjusted(found)


def _over_problems(pairs: Sequence[tuple[Mapping, Mapping]]) -> paired.Paired | None:
    """Returns the bootstrap over the problems that all of `pairs`, one per seed, share."""
    uids = set.intersection(*(mine.keys() & base.keys() for mine, base in pairs))
    if not uids:
        return None
    return paired.bootstrap(
        [float(np.mean([mine[u] - base[u] for mine, base in pairs])) for u in sorted(uids)]
    )


def compare_settings(sweep: Sweep) -> list[Comparison]:
    """Returns, for grids of several keys, each value against the baseline's, over the other keys.

    Per seed the mean over the other keys' combinations, of those in which both values have a
    finished run; then the paired t over seeds. Empty for a grid of one key.
    """
    settings = {cell["cell"]: cell["settings"] for cell in sweep.record["grid"]}
    keys = list(settings[sweep.baseline])
    if len(keys) < 2:
        return []
    finished = {
        (group.label, seed_of(run)): run
        for group in sweep.groups
        for run in group.runs
        if final_row(run) is not None
    }
    cell_of = {tuple(chosen.items()): name for name, chosen in settings.items()}
    found = []
    for metric in METRICS:
        values = {at: value(run, metric) for at, run in finished.items()}
        for key in keys:
            usual = settings[sweep.baseline][key]
            for other in dict.fromkeys(chosen[key] for chosen in settings.values()):
                if other == usual:
                    continue
                by_seed: dict[Any, list[float]] = {}
                for name, chosen in settings.items():
                    if chosen[key] != other:
                        continue
                    twin = cell_of[tuple((chosen | {key: usual}).items())]
                    for seed in sweep.record["seeds"]:
                        mine, base = values.get((name, seed)), values.get((twin, seed))
                        if mine is not None and base is not None:
                            by_seed.setdefault(seed, []).append(mine - base)
                if not by_seed:
                    continue
                most = max(map(len, by_seed.values()))  # a seed that lacks a pair would differ
                whole = [float(np.mean(x)) for x in by_seed.values() if len(x) == most]
                found.append(
                    Comparison(
                        metric.name, f"{key}={other}", f"{key}={usual}", None, None,
                        paired.t_test(whole), None,
                    )
                )  # fmt: skip
    return _adjusted(found)


def _adjusted(found: list[Comparison]) -> list[Comparison]:
    adjusted = paired.holm([c.seeds.p if c.seeds else None for c in found])
    return [dataclasses.replace(c, adjusted=p) for c, p in zip(found, adjusted, strict=True)]
