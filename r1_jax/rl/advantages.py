"""Advantages from the rewards of a group: reward_PG -> advantage_PG, float32.

In all of them a row with valid_PG False (its grader failed; its reward may be anything, NaN
included) is left out of the group's statistics and gets advantage 0, and a group with fewer than
two valid rows has nothing to compare and gets 0 throughout. One completion per prompt cannot
carry a signal at all, so G < 2 is a ValueError.
"""

import jax
import jax.numpy as jnp

from r1_jax.core import masked

TOLERANCE = 1e-6  # rewards are of order 1; sums of their parts differ by 1e-7 in float32


def zscore(
    reward_PG: jax.Array,
    valid_PG: jax.Array,
    *,
    epsilon: float = 1e-6,
    ddof: int = 0,
    tolerance: float = TOLERANCE,
) -> jax.Array:
    """(r - mean) / (std + epsilon) within the group: DeepSeek-R1 (arXiv:2501.12948v1) Eq. 3.

    Which standard deviation the paper means, and its stabiliser, are not published: ddof=0 is that
    of the population, our default, with which a group's advantages have mean square 1; ddof=1 is
    the sample's, as in trl and verl. Groups of zero_spread(..., tolerance) get exactly 0, else
    rounding errors of the mean would be blown up by 1 / epsilon. ValueError if ddof is not 0 or 1.
    """
    _check_group_size(reward_PG)
    if ddof not in (0, 1):
        raise ValueError(f"ddof={ddof} must be 0 (population) or 1 (sample)")
    reward_PG = reward_PG.astype(jnp.float32)
    is_flat_P = zero_spread(reward_PG, valid_PG, tolerance)
    var_P = masked.var(reward_PG, valid_PG, axis=1, ddof=ddof)
    # The square root has no gradient at 0; a flat group's is not used.
    std_P = jnp.sqrt(jnp.where(is_flat_P, 1.0, var_P))
    deviation_PG = _deviation(reward_PG, valid_PG) / (std_P + epsilon)[:, None]
    return jnp.where(is_flat_P[:, None], 0.0, deviation_PG)


def mean_only(reward_PG: jax.Array, valid_PG: jax.Array) -> jax.Array:
    """r - mean within the group: Dr. GRPO (arXiv:2503.20783), no weight on too easy or too hard."""
    _check_group_size(reward_PG)
    return _deviation(reward_PG.astype(jnp.float32), valid_PG)


def leave_one_out(reward_PG: jax.Array, valid_PG: jax.Array) -> jax.Array:
    """r - mean of the group's other rewards: RLOO (arXiv:2402.14740), an unbiased baseline.

    Equals mean_only times n / (n - 1) for n valid rows.
    """
    _check_group_size(reward_PG)
    num_P = masked.count(reward_PG, valid_PG, axis=1)
    scale_P = masked.divide(num_P, num_P - 1)
    return _deviation(reward_PG.astype(jnp.float32), valid_PG) * scale_P[:, None]


def none(reward_PG: jax.Array, valid_PG: jax.Array) -> jax.Array:
    """0 for every completion: rewards are only looked at, as in pure on-policy distillation."""
    _check_group_size(reward_PG)
    return jnp.zeros_like(reward_PG, jnp.float32)


def zero_spread(
    reward_PG: jax.Array, valid_PG: jax.Array, tolerance: float = TOLERANCE
) -> jax.Array:
    """bool [P]: True where a group's valid rewards lie within `tolerance` of each other.

    Such a group gives no policy gradient. True too where fewer than two rows are valid.
    """
    reward_PG = reward_PG.astype(jnp.float32)
    highest_P = masked.max(reward_PG, valid_PG, axis=1)
    lowest_P = -masked.max(-reward_PG, valid_PG, axis=1)
    return highest_P - lowest_P <= tolerance


def _deviation(reward_PG: jax.Array, valid_PG: jax.Array) -> jax.Array:
    """Distance from the group's mean; 0 for invalid rows."""
    mean_P = masked.mean(reward_PG, valid_PG, axis=1)
    return jnp.where(valid_PG, jnp.where(valid_PG, reward_PG, 0.0) - mean_P[:, None], 0.0)


def _check_group_size(reward_PG: jax.Array) -> None:
    if reward_PG.ndim != 2 or reward_PG.shape[1] < 2:
        raise ValueError(
            f"rewards of shape {tuple(reward_PG.shape)} must be [P, G] with G >= 2: a completion "
            "is compared with others of its prompt; raise group_size"
        )
