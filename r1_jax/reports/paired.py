"""Paired differences: one per seed, or one per problem -> interval and test."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

ROUNDING = 1e-9  # of differences, relative: what is less apart is equal


class Paired(NamedTuple):
    """A mean difference; what n pairs cannot give is None."""

    mean: float
    low: float | None
    high: float | None
    p: float | None  # two-sided, of no difference
    num: int  # pairs


def t_test(difference_S, *, level: float = 0.95) -> Paired:
    """Student's paired t over seeds: mean -+ t(n - 1) s / sqrt(n), and p of a mean of 0.

    difference_S: one difference per seed. It assumes independent seeds and differences that are
    about normal: with three seeds nothing can check that. One pair gives the mean alone; pairs
    that are all equal (but for rounding) give an interval without width and p only where they are
    0. Raises ValueError without a pair.
    """
    difference_S = np.asarray(difference_S, np.float64)
    num = difference_S.size
    if difference_S.ndim != 1 or not num:
        raise ValueError(f"difference_S has the shape {difference_S.shape}; it needs [S], S >= 1")
    mean = float(difference_S.mean())
    if num == 1:
        return Paired(mean, None, None, None, 1)
    error = float(difference_S.std(ddof=1)) / math.sqrt(num)
    largest = float(np.abs(difference_S).max())
    if float(np.ptp(difference_S)) <= ROUNDING * largest:  # 0.3 - 0.2 is not 0.4 - 0.3 in floats
        error = 0.0
    half = float(special.stdtrit(num - 1, (1 + level) / 2)) * error
    if error:
        p = 2 * float(special.stdtr(num - 1, -abs(mean) / error))
    else:
        p = None if mean else 1.0
    return Paired(mean, mean - half, mean + half, p, num)


def needed(num: int, alpha: float) -> float:
    """Returns how many standard deviations of its pairs a mean of num needs for t_test's p < alpha.

    t(n - 1) / sqrt(n): what a test of so few pairs is blind to. Raises ValueError below two pairs.
    """
    if num < 2:
        raise ValueError(f"num={num}: a test needs two pairs")
    return float(special.stdtrit(num - 1, 1 - alpha / 2)) / math.sqrt(num)


def bootstrap(
    difference_P, *, level: float = 0.95, num_resamples: int = 4000, seed: int = 0
) -> Paired:
    """Percentile bootstrap of the mean difference over problems, resampled whole; p is None.

    difference_P: one per problem, averaged over seeds and samples. What it answers: how the
    difference between these very policies would vary with other problems. The same for one seed.
    """
    difference_P = np.asarray(difference_P, np.float64)
    num = difference_P.size
    if difference_P.ndim != 1 or not num:
        raise ValueError(f"difference_P has the shape {difference_P.shape}; it needs [P], P >= 1")
    rng = np.random.default_rng(seed)
    means = [difference_P[rng.integers(num, size=num)].mean() for _ in range(num_resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Paired(float(difference_P.mean()), float(low), float(high), None, num)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values adjusted for their number (Holm 1979), in order; None stays and counts not.

    The chance that any true "no difference" among them falls below a is then at most a.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted
