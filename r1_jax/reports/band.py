"""The band in which a fresh seed's curves should lie, and whether a run's curves do."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from r1_jax.reports import runs

MIN_RUNS = 5
LEVEL = 0.95
WINDOWS = 10  # of the training rows, each averaged
METRICS = {  # where the rows are -> their keys
    "evals": (
        "pass@1",
        "length/mean",
        "length/clipped_share",
        "reflection/per_completion",
    ),
    "rows": (
        "reward/accuracy",
        "length/mean",
        "length/clipped_share",
        "reflection/per_completion",
        "entropy",
        "kl/reference",
    ),
}
_FLOOR = 0.25  # of a metric's median standard deviation over steps
FORMULA = (
    "mean -+ t(n - 1, 1 - (1 - level) / (2 points)) max(s, s_floor) sqrt(1 + 1/n), with n runs, s "
    "their standard deviation (n - 1) at that point and s_floor a quarter of the metric's median s "
    "over steps. Assumed: seeds are independent, and a point's value is about normal over seeds. "
    "By Bonferroni over all points a fresh seed of the same code, configuration and kind of device "
    "then leaves the band anywhere with a chance of at most 1 - level; points are correlated, so "
    "the chance is smaller and the band wider than need be."
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One metric of a run against its band."""

    source: str  # "evals" or "rows"
    key: str
    num_inside: int  # points
    num_points: int  # that the run has reached
    num_reference: int
    left_at: int | None  # the first step outside; None if inside
    remark: str  # value and band there

    def line(self) -> str:
        """Returns what is found, for a terminal."""
        where = "held-out" if self.source == "evals" else "training"
        verdict = "inside" if self.left_at is None else f"leaves the band at step {self.left_at}"
        if not self.num_points:
            verdict = "not reached"
        count = f"{self.num_inside} of {self.num_points} points inside"
        if 0 < self.num_points < self.num_reference:
            count += f", {self.num_reference - self.num_points} not reached"
        return f"{where} {self.key}: {verdict} ({count}){self.remark}"


def make(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """Returns the reference of the runs at `paths`, ready for JSON.

    Raises ValueError for fewer than MIN_RUNS runs, runs of several configurations, a seed that
    comes twice, and runs that are not finished or lack a value at some point.
    """
    found = runs.read(paths)
    if len(found) < MIN_RUNS:
        raise ValueError(f"{len(found)} runs; a band needs at least {MIN_RUNS} of different seeds")
    for run in found:
        if not run.config or not run.manifest:
            raise ValueError(f"{run.path} lacks config.json or manifest.json; whose run is it?")
    groups = runs.group(found)
    if len(groups) > 1:
        keys = [key for key, _ in runs.differences(groups)]
        raise ValueError(f"runs of several configurations, which differ in {', '.join(keys)}")
    seeds = [run.config["seed"] for run in found]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {seeds}: a seed that comes twice tells nothing new")
    num_steps = found[0].config["grpo"]["num_steps"]
    for run in found:
        if not run.task_evals or run.task_evals[-1]["step"] < num_steps:
            raise ValueError(f"{run.path} has not been evaluated at its last step, {num_steps}")
    width = max(1, len(found[0].rows) // WINDOWS)
    points: list[dict[str, Any]] = []
    for source, keys in METRICS.items():
        for key in keys:
            series = [_points(run, source, key, width) for run in found]
            if all(value is None for values in series for value in values.values()):
                continue  # measured in no run: KL without a coefficient
            points += [
                {
                    "source": source,
                    "key": key,
                    "step": step,
                    "values": [s.get(step) for s in series],
                }
                for step in series[0]
            ]
            for run, values in zip(found, series, strict=True):
                if values.keys() != series[0].keys() or None in values.values():
                    raise ValueError(f"{run.path} lacks values of {key} that others have")
    _enclose(points, len(found))
    config = {key: value for key, value in found[0].config.items() if key != "seed"}
    return {
        "format": 1,
        "level": LEVEL,
        "formula": FORMULA,
        "num_runs": len(found),
        "window_rows": width,
        "num_problems": {str(row["step"]): row.get("num_problems") for row in found[0].task_evals},
        "runs": [
            {
                "seed": run.config["seed"],
                "commit": run.manifest.get("commit"),
                "dirty": run.manifest.get("dirty"),
                "config_digest": run.manifest.get("config_digest"),
                "parents": run.manifest.get("parents"),
                "devices": run.manifest.get("devices"),
                "versions": run.manifest.get("versions"),
            }
            for run in found
        ],
        "config": config,
        "points": points,
    }


def _enclose(points: list[dict[str, Any]], num_runs: int) -> None:
    """Adds mean, low and high to every point, which holds one value per run."""
    spread = {id(p): float(np.std(p["values"], ddof=1)) for p in points}
    medians = {}
    for p in points:
        of_metric = [
            spread[id(q)] for q in points if (q["source"], q["key"]) == (p["source"], p["key"])
        ]
        medians[id(p)] = float(np.median(of_metric))
    quantile = float(special.stdtrit(num_runs - 1, 1 - (1 - LEVEL) / (2 * len(points))))
    for p in points:
        mean = float(np.mean(p["values"]))
        s = max(spread[id(p)], _FLOOR * medians[id(p)])
        half = quantile * s * math.sqrt(1 + 1 / num_runs)
        p |= {"mean": mean, "low": mean - half, "high": mean + half}


def _points(run: runs.Run, source: str, key: str, width: int) -> dict[int, float | None]:
    """Returns {step: value}; of training rows means over whole windows, at their first step."""
    if source == "evals":
        return {row["step"]: _number(row.get(key)) for row in run.task_evals}
    found = {}
    for start in range(0, len(run.rows) - width + 1, width):
        rows = run.rows[start : start + width]
        values = [_number(row.get(key)) for row in rows]
        known = [value for value in values if value is not None]
        is_whole = len(known) == len(values)
        found[rows[0]["step"]] = float(np.mean(known)) if is_whole else None
    return found


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the reference at `path`; raises ValueError if it is none."""
    try:
        reference = json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} is not there; `python -m r1_jax band` makes references") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    if not isinstance(reference, dict) or reference.get("format") != 1:
        raise ValueError(f"{path} is no reference of `python -m r1_jax band` (format 1)")
    return reference


def check(run: runs.Run, reference: Mapping[str, Any]) -> tuple[list[Finding], list[str]]:
    """Returns a finding per metric, and notes on what makes the comparison less than fair.

    A point that the run has reached but has no number for (NaN, null) is outside. Raises
    ValueError when the run has reached no point at all.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in reference["points"]:
        groups.setdefault((point["source"], point["key"]), []).append(point)
    findings = []
    for (source, key), points in groups.items():
        values = _points(run, source, key, reference["window_rows"])
        reached = [point for point in points if point["step"] in values]
        outside = [point for point in reached if not _is_inside(values[point["step"]], point)]
        remark = ""
        if outside:
            first, value = outside[0], values[outside[0]["step"]]
            shown = "no value" if value is None else f"{value:.4g}"
            remark = f": {shown}, band [{first['low']:.4g}, {first['high']:.4g}]"
        left_at = outside[0]["step"] if outside else None
        num_inside = len(reached) - len(outside)
        findings.append(
            Finding(source, key, num_inside, len(reached), len(points), left_at, remark)
        )
    if not any(finding.num_points for finding in findings):
        raise ValueError(f"{run.path} and the reference have no step in common")
    return findings, _doubts(run, reference)


def _is_inside(value: float | None, point: Mapping[str, Any]) -> bool:
    slack = 1e-9 * max(abs(point["low"]), abs(point["high"]))  # all runs equal: no width
    return value is not None and point["low"] - slack <= value <= point["high"] + slack


def is_outside(findings: Sequence[Finding]) -> bool:
    """Whether any metric leaves its band."""
    return any(finding.left_at is not None for finding in findings)


def _doubts(run: runs.Run, reference: Mapping[str, Any]) -> list[str]:
    notes = []
    mine = dict(runs.flatten({k: v for k, v in run.config.items() if k != "seed"}))
    theirs = dict(runs.flatten(reference["config"]))
    keys = [key for key in theirs if mine.get(key) != theirs[key]]
    notes += [f"{key} is {mine.get(key)} here, {theirs[key]} in the reference" for key in keys]
    newer = sorted(mine.keys() - theirs.keys())
    if newer:
        notes.append(f"settings that the reference's code did not have yet: {', '.join(newer)}")
    if run.config.get("seed") in [made_of["seed"] for made_of in reference["runs"]] and not keys:
        notes.append(f"seed {run.config['seed']} is one of the reference's own: no fresh seed")
    commits = sorted({str(made_of["commit"])[:12] for made_of in reference["runs"]})
    notes.append(
        f"reference: {reference['num_runs']} seeds, commit {', '.join(commits)}; this run: seed "
        f"{run.config.get('seed')}, commit {str(run.manifest.get('commit', 'unknown'))[:12]}"
    )
    for row in run.task_evals:
        num = reference["num_problems"].get(str(row["step"]))
        if num is not None and row.get("num_problems") != num:
            notes.append(
                f"step {row['step']}: {row.get('num_problems')} problems, {num} in the reference"
            )
    return notes
