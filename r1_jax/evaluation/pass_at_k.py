"""pass@k, cons@k and their intervals: NumPy arrays in, floats out.

P problems with G samples each; a score is a mean over problems.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np


def problem_pass_at_k(correct_PG, k: int) -> np.ndarray:
    """Returns [P] float64: the chance that k of a problem's G samples hold a right one.

    Chen et al. (arXiv:2107.03374) Eq. 1, unbiased for drawing without replacement:
    1 - C(G - c, k) / C(G, k) with c right samples, as a product that cannot overflow. For k = 1
    it is the share of right samples (DeepSeek-R1's pass@1). correct_PG: bool or 0/1. Raises
    ValueError unless 1 <= k <= G.
    """
    correct_PG = _correct(correct_PG, k)
    num_samples = correct_PG.shape[1]
    num_wrong_P = num_samples - correct_PG.sum(axis=1)
    drawn_K = np.arange(k)
    # Draw i is wrong with chance (wrong - i) / (G - i) after i wrong ones. Past the last wrong
    # sample the factors turn negative, but one of them is 0.
    all_wrong_PK = (num_wrong_P[:, None] - drawn_K) / (num_samples - drawn_K)
    return 1.0 - all_wrong_PK.prod(axis=1)


def pass_at_k(correct_PG, k: int) -> float:
    """Returns pass@k, the mean of problem_pass_at_k over problems."""
    return float(problem_pass_at_k(correct_PG, k).mean())


def problem_cons_at_k(votes: Sequence[Sequence[str | None]], correct_PG, k: int) -> np.ndarray:
    """Returns [P] float64: the chance that the majority answer of k samples is right.

    votes: P rows of G voting keys; None does not vote, and a problem without votes scores 0.
    DeepSeek-R1's cons@k (arXiv:2501.12948v1, Table 2). Candidates that tie for the most votes get
    equal chances, so that no order of samples decides. A candidate is as right as its samples: the
    mean of theirs, should a grader have disagreed with itself. Of G > k samples every k in a row
    form a jury of their own, and what is left over does not vote. Raises ValueError unless
    1 <= k <= G and votes has the shape of correct_PG.
    """
    correct_PG = _correct(correct_PG, k)
    num_samples = correct_PG.shape[1]
    shape = [len(row) for row in votes]
    if shape != [num_samples] * len(correct_PG):
        raise ValueError(f"votes has rows of {shape}, correct_PG the shape {correct_PG.shape}")
    juries = [slice(start, start + k) for start in range(0, num_samples - k + 1, k)]
    return np.array(
        [
            np.mean([_majority(row[jury], correct_G[jury]) for jury in juries])
            for row, correct_G in zip(votes, correct_PG, strict=True)
        ]
    )


def cons_at_k(votes: Sequence[Sequence[str | None]], correct_PG, k: int) -> float:
    """Returns cons@k, the mean of problem_cons_at_k over problems."""
    return float(problem_cons_at_k(votes, correct_PG, k).mean())


def interval(
    score_P, *, level: float = 0.95, num_resamples: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Returns the ends of a bootstrap interval for the mean of score_P over problems.

    score_P: one score in [0, 1] per problem, such as problem_pass_at_k's; problems are resampled
    whole, as the samples of one problem are not independent. The percentiles taken are corrected
    for bias and skew (BCa: Efron, JASA 82 (1987), 171-185, section 4; acceleration by jackknife)
    and taken further out, as Student's t is wider than a normal and n wider than n - 1
    (Hesterberg, arXiv:1411.5279, 4.3). Where all problems score 0 (or 1) there is nothing to
    resample: the end is the share of problems with another score that n could still have missed,
    1 - ((1 - level) / 2)^(1/n). Other equal scores give an empty interval.
    docs/INTERVALS.md says how often the truth is covered. The same for the same scores and seed,
    whatever their order. Raises ValueError without problems, for scores outside [0, 1] or a level
    outside (0, 1).
    """
    score_P = np.asarray(score_P, np.float64)
    if score_P.ndim != 1 or not score_P.size:
        raise ValueError(f"score_P has the shape {score_P.shape}; an interval needs [P], P >= 1")
    if not ((score_P >= 0) & (score_P <= 1)).all():
        raise ValueError("score_P holds values outside [0, 1]")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level} lies outside (0, 1)")
    score_P = np.sort(score_P)  # or the order of a sum would be seen in its last digit
    tail, num_problems = (1 - level) / 2, score_P.size
    values_U, counts_U = np.unique(score_P, return_counts=True)
    if values_U.size == 1:
        unseen = 1 - tail ** (1 / num_problems)
        (value,) = values_U.tolist()
        return (value - unseen * (value == 1), value + unseen * (value == 0))
    rng = np.random.default_rng(seed)
    # How often each of the U different scores is drawn: few numbers for many problems.
    draws_RU = rng.multinomial(num_problems, counts_U / num_problems, size=num_resamples)
    means_R = draws_RU @ values_U / num_problems

    scale = math.sqrt(num_problems / (num_problems - 1))
    z = scale * _student(tail, num_problems - 1)
    mean = float(counts_U @ values_U / num_problems)
    low, high = np.quantile(means_R, _corrected((z, -z), means_R, mean, score_P - mean))
    return float(low), float(high)


def _corrected(z: tuple[float, float], means_R, mean: float, from_mean_P) -> list[float]:
    """The shares of resamples below the ends: normal quantiles z, moved for bias and skew."""
    normal = statistics.NormalDist()
    is_same_R = np.abs(means_R - mean) <= 1e-12
    below = float(((means_R < mean) & ~is_same_R).mean() + is_same_R.mean() / 2)
    least = 0.5 / means_R.size
    bias = normal.inv_cdf(min(max(below, least), 1 - least))
    skew = float((from_mean_P**3).sum() / (6 * (from_mean_P**2).sum() ** 1.5))
    return [normal.cdf(bias + (bias + end) / (1 - skew * (bias + end))) for end in z]


def _student(tail: float, freedom: int) -> float:
    """Student's quantile at `tail`, by Cornish and Fisher: to 1% from 4 degrees of freedom on."""
    z = statistics.NormalDist().inv_cdf(tail)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _correct(correct_PG, k: int) -> np.ndarray:
    correct_PG = np.asarray(correct_PG)
    if correct_PG.ndim != 2 or not correct_PG.size:
        raise ValueError(f"correct_PG has the shape {correct_PG.shape}; it needs [P, G], both >= 1")
    if not np.isin(correct_PG, (0, 1)).all():
        raise ValueError("correct_PG holds values other than 0 and 1")
    if not 1 <= k <= correct_PG.shape[1]:
        raise ValueError(f"k={k} needs 1 <= k <= {correct_PG.shape[1]} samples per problem")
    return correct_PG.astype(np.int64)


def _majority(votes, correct_G) -> float:
    """Returns the chance that a uniformly chosen winner among the most-voted is right."""
    right: dict[str, list[int]] = {}
    for vote, is_right in zip(votes, correct_G, strict=True):
        if vote is not None:
            right.setdefault(vote, []).append(int(is_right))
    if not right:
        return 0.0
    most = max(len(samples) for samples in right.values())
    winners = [samples for samples in right.values() if len(samples) == most]
    return sum(sum(samples) / most for samples in winners) / len(winners)
