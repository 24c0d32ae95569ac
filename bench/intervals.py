"""How often 95% intervals of evaluation.pass_at_k cover the truth: a table for docs/INTERVALS.md.

    python bench/intervals.py [TRIALS] [RESAMPLES] [FIRST_ROW]

A trial draws every problem's chance of a right sample from a beta distribution, k samples of each
problem, and the interval of their pass@1 by the shipped function; the truth is the distribution's
mean. Standard error of a share near 0.95 in 8,000 trials: 0.0024.
"""

import sys

import numpy as np

from r1_jax.evaluation import pass_at_k

DIFFICULTIES = {  # name -> a, b of the beta distribution of problems' chances
    "spread (2, 3)": (2.0, 3.0),
    "easy or hopeless (0.5, 0.5)": (0.5, 0.5),
    "nearly all 0 or 1 (0.05, 0.05)": (0.05, 0.05),
    "mostly hopeless (0.3, 0.7)": (0.3, 0.7),
    "mostly solved (2, 0.4)": (2.0, 0.4),
    "97% solved (20, 0.6)": (20.0, 0.6),
    "5% solved (0.2, 4)": (0.2, 4.0),
}
SIZES = (30, 64, 198, 500)  # AIME, a run's short evaluation, GPQA Diamond, MATH-500
SAMPLES = (1, 4, 16)


def coverage(a: float, b: float, num_problems: int, num_samples: int, trials: int, resamples: int):
    """(share of intervals over the truth, share wholly above it, share wholly below it)."""
    rng = np.random.default_rng([num_problems, num_samples])
    truth, above, below = a / (a + b), 0, 0
    for trial in range(trials):
        chance_P = rng.beta(a, b, num_problems)
        score_P = rng.binomial(num_samples, chance_P) / num_samples
        low, high = pass_at_k.interval(score_P, num_resamples=resamples, seed=trial)
        above += low > truth + 1e-9
        below += high < truth - 1e-9
    return 1 - (above + below) / trials, above / trials, below / trials


def main(trials: int = 8000, resamples: int = 1000, first: int = 0) -> None:
    """Prints the table, row by row, from row `first` on."""
    cells = [(size, k) for size in SIZES for k in SAMPLES]
    heads = " | ".join(f"{size}, k={k}" for size, k in cells)
    sys.stdout.write(f"| difficulties | {heads} |\n|{'---|' * (len(cells) + 1)}\n")
    for name, (a, b) in list(DIFFICULTIES.items())[first:]:
        sys.stdout.write(f"| {name} |")
        for size, k in cells:
            share, _, _ = coverage(a, b, size, k, trials, resamples)
            sys.stdout.write(f" {share:.3f} |")
            sys.stdout.flush()
        sys.stdout.write("\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
