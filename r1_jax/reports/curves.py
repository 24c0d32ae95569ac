"""Numbers of runs -> curves: smoothed over steps, averaged over seeds."""

import dataclasses
import fnmatch
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from r1_jax.reports import runs


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a plot over N steps."""

    step_N: np.ndarray
    value_N: np.ndarray  # smoothed, averaged over runs; NaN where a row had no value
    low_N: np.ndarray | None = None  # band: the interval of one run, or the range over runs
    high_N: np.ndarray | None = None
    raw_N: np.ndarray | None = None  # one run's values where value_N is a smoothing of them


def keys(groups: Sequence[runs.Group], source: str, pattern: str) -> list[str]:
    """Returns the keys matching the glob `pattern` that hold a number in some row.

    source: "rows" (metrics.jsonl) or "evals" (eval.jsonl, the run's task). In order of appearance.
    """
    found: dict[str, None] = {}
    for group in groups:
        for run in group.runs:
            for row in _rows(run, source):
                found.update((key, None) for key, value in row.items() if _is_number(value))
    return [key for key in found if fnmatch.fnmatchcase(key, pattern)]


def curve(
    group: runs.Group, source: str, key: str, band: tuple[str, str] | None = None
) -> Curve | None:
    """Returns the curve of `key` in `group`, or None where no run has a value.

    One run: its values, smoothed if they are of training steps; band: keys of an interval's ends.
    Several runs: their mean with their range as the band, at the steps that all of them reached;
    a run without any value of `key` does not count.
    """
    members = [(run, *_series(run, source, key)) for run in group.runs]
    members = [member for member in members if np.isfinite(member[2]).any()]
    if not members:
        return None
    if len(members) == 1:
        run, step_N, raw_N = members[0]
        width = window(len(raw_N)) if source == "rows" else 1
        low_N, high_N = (_series(run, source, end)[1] for end in band) if band else (None, None)
        if width == 1:
            return Curve(step_N, raw_N, low_N, high_N)
        return Curve(step_N, smoothed(raw_N, width), low_N, high_N, raw_N)
    step_N = functools.reduce(np.intersect1d, [steps for _, steps, _ in members])
    width = window(len(step_N)) if source == "rows" else 1
    value_RN = np.stack(
        [smoothed(value[np.isin(steps, step_N)], width) for _, steps, value in members]
    )
    is_whole_N = np.isfinite(value_RN).all(axis=0)
    step_N, value_RN = step_N[is_whole_N], value_RN[:, is_whole_N]
    if not step_N.size:
        return None
    return Curve(step_N, value_RN.mean(axis=0), value_RN.min(axis=0), value_RN.max(axis=0))


def window(num_rows: int) -> int:
    """Returns the odd number of rows a curve is smoothed over: about a 25th; 1 below 40 rows."""
    return 1 if num_rows < 40 else 2 * (num_rows // 50) + 1


def smoothed(value_N: np.ndarray, width: int) -> np.ndarray:
    """Returns [N] centred moving means over `width` values (odd), fewer at the ends.

    NaN where the value is NaN; a NaN does not count in its neighbours' means.
    """
    is_value_N = np.isfinite(value_N)
    half = width // 2

    def totals(x_N):
        sums = np.concatenate([[0.0], np.cumsum(x_N)])
        index_N = np.arange(len(x_N))
        return sums[np.minimum(index_N + half + 1, len(x_N))] - sums[np.maximum(index_N - half, 0)]

    total_N = totals(np.where(is_value_N, value_N, 0.0))
    count_N = totals(is_value_N.astype(np.float64))
    return np.where(is_value_N, total_N / np.maximum(count_N, 1), np.nan)


def _rows(run: runs.Run, source: str) -> list[dict[str, Any]]:
    return {"rows": run.rows, "evals": run.task_evals}[source]


def _series(run: runs.Run, source: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns ([N] steps, [N] values) of the rows; NaN where `key` is absent or no number."""
    rows = _rows(run, source)
    step_N = np.array([row["step"] for row in rows], np.int64)
    values = [row.get(key) for row in rows]
    return step_N, np.array([v if _is_number(v) else np.nan for v in values], np.float64)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
