"""Numbers that say how the policy update goes, and the sentence that says why a curve is flat."""

import jax
import jax.numpy as jnp

from r1_jax.core import masked, types
from r1_jax.rl import gae, objectives

# Where explain_flat draws its lines. Ours: far enough out that a healthy run is not accused.
ALMOST_ALL = 0.9  # share of completions cut off, or of groups without spread
ALMOST_NONE = 0.01  # pass rate; and 1 minus this at the other end
MIN_GRADIENT_NORM = 1e-8
MIN_ENTROPY = 0.01  # nats per token


def clip_share(
    ratio_BT: jax.Array,
    advantage: jax.Array,
    mask_BT: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
) -> types.WeightedSum:
    """Share of tokens under the mask whose gradient the clip cuts, as (such tokens, tokens).

    advantage: [B] or [B, T], as for objectives.clipped.
    """
    binds_BT = objectives.clip_binds(ratio_BT, advantage, clip_low=clip_low, clip_high=clip_high)
    return types.WeightedSum(
        jnp.sum(binds_BT & mask_BT, dtype=jnp.float32), jnp.sum(mask_BT, dtype=jnp.float32)
    )


def ratio_max(ratio_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """The largest ratio over the tokens of the mask, scalar; 1 where the mask is empty."""
    return masked.max(ratio_BT.astype(jnp.float32), mask_BT, empty=1)


def gap_by_row(
    learner_logps_BT: jax.Array, sampler_logps_BT: jax.Array, mask_BT: jax.Array
) -> jax.Array:
    """Largest |learner - sampler| in nats over each row's tokens under the mask, [B].

    For equal weights it should be rounding error. 0 where a row has no tokens, NaN where either
    is NaN under the mask.
    """
    learner_logps_BT = learner_logps_BT.astype(jnp.float32)
    gap_BT = jnp.abs(learner_logps_BT - sampler_logps_BT.astype(jnp.float32))
    return masked.max(gap_BT, mask_BT, axis=1)


def gap_max(
    learner_logps_BT: jax.Array, sampler_logps_BT: jax.Array, mask_BT: jax.Array
) -> jax.Array:
    """The largest gap_by_row, scalar."""
    return jnp.max(gap_by_row(learner_logps_BT, sampler_logps_BT, mask_BT))


def entropy_mean(entropy_BT: jax.Array, mask_BT: jax.Array) -> types.WeightedSum:
    """Mean entropy in nats over the tokens of the mask, as (sum, tokens)."""
    return types.WeightedSum(
        masked.sum(entropy_BT.astype(jnp.float32), mask_BT), jnp.sum(mask_BT, dtype=jnp.float32)
    )


def explained_variance(value_BT: jax.Array, return_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """1 - var(return - value) / var(return) over the tokens of the mask, scalar.

    1: the critic knows the returns; 0: no better than their mean; below 0: worse. 0 too where the
    returns' deviation is within gae.TOLERANCE: all are equal, and there is nothing to explain.
    """
    return_BT = return_BT.astype(jnp.float32)
    variance = masked.var(return_BT, mask_BT)
    unexplained = masked.var(return_BT - value_BT.astype(jnp.float32), mask_BT)
    return jnp.where(variance > gae.TOLERANCE**2, 1.0 - masked.divide(unexplained, variance), 0.0)


def explain_flat(
    *,
    pass_rate: float,
    truncated_share: float,
    zero_spread_share: float,
    gap: float,
    gap_bound: float,
    gradient_norm: float,
    entropy: float,
) -> str:
    """One sentence that says which of the measured numbers explains a reward that does not rise.

    pass_rate: share of completions whose accuracy part is right. truncated_share: share cut off at
    the length limit. gap, gap_bound: gap_max and what it may be, nats. gradient_norm: before
    clipping. entropy: nats per token. Causes come before their effects: completions that are all
    cut off also have pass rate 0 and no spread, and are told as the former. NaN as a gap or a
    gradient norm explains too; when nothing does, the sentence says so.
    """
    if not gap <= gap_bound:
        return (
            f"Sampler and learner disagree by up to {gap:.3g} nats per token (bound "
            f"{gap_bound:.3g}): what is trained is not what was sampled. Where that is meant "
            "(bfloat16, a sampler in 8 bits), raise gap_bound."
        )
    if truncated_share >= ALMOST_ALL:
        return (
            f"{truncated_share:.0%} of the completions are cut off at the length limit before "
            "they answer: raise the limit or teach the base model to stop."
        )
    if pass_rate <= ALMOST_NONE:
        return (
            f"The pass rate is {pass_rate:.1%}: there is almost no right answer to learn from; "
            "take an easier task, a stronger base model or a larger group."
        )
    if pass_rate >= 1 - ALMOST_NONE:
        return f"The pass rate is {pass_rate:.1%}: the task is solved; take a harder one."
    if zero_spread_share >= ALMOST_ALL:
        return (
            f"{zero_spread_share:.0%} of the groups have equal rewards and no gradient: prompts "
            "are too easy or too hard one by one; mix difficulties or raise the group size."
        )
    if not gradient_norm > MIN_GRADIENT_NORM:
        return (
            f"The gradient norm is {gradient_norm:.3g}: rewards differ but nothing reaches the "
            "weights; look at loss masks, clipping and frozen parameters."
        )
    if entropy <= MIN_ENTROPY:
        return (
            f"The entropy is {entropy:.3g} nats per token: the policy says the same every time; "
            "raise the temperature, clip_high or the entropy bonus, or lower the learning rate."
        )
    return (
        "Nothing measured explains a flat reward (completions end, answers vary, gradients flow): "
        "try more steps or another learning rate."
    )
