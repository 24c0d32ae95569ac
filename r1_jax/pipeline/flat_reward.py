"""A reward that does not rise: how that is seen, and what of the last step may be why."""

from typing import Any

import numpy as np

from r1_jax.rl import diagnostics
from r1_jax.training import switches


def is_flat(rewards: list[float]) -> bool:
    """Whether the second half of `rewards` is no better than the first, beyond their noise."""
    half = len(rewards) // 2
    first, second = np.array(rewards[:half]), np.array(rewards[half:])
    noise = np.sqrt(first.var() / len(first) + second.var() / len(second))
    return bool(second.mean() - first.mean() <= 2 * noise)


def explain(config: switches.GRPOConfig, row: dict[str, Any]) -> str:
    """One sentence, from the row of a step, on why its reward does not rise."""
    return diagnostics.explain_flat(
        pass_rate=row["reward/accuracy"],
        truncated_share=row["length/clipped_share"],
        zero_spread_share=row["groups/zero_spread_share"],
        gap=row["gap/sampler_learner_max"],
        gap_bound=config.gap_bound,
        gradient_norm=row["gradient/norm"],
        entropy=row["entropy"],
    )
