"""The clipped objective in its named variants: ratio, clipping, and aggregation stand apart.

Per token first, [B, T] and float32, then `aggregate`. Nothing here looks at what lies outside a
mask except to throw it away.
"""

import jax
import jax.numpy as jnp

from r1_jax.core import masked, types

MAX_LOG_RATIO = 20.0  # nats; ratios are held within exp(+-20), where gradients are 0 beyond

AGGREGATIONS = ("sequence_mean", "token_mean", "constant_length")


def token_ratio(logps_BT: jax.Array, old_logps_BT: jax.Array) -> jax.Array:
    """policy / old policy per token [B, T]: DeepSeekMath (arXiv:2402.03300) Eq. 3.

    logps_BT: nats under the policy in training. old_logps_BT: nats before the update, taken as a
    constant; passing logps_BT itself gives ratio 1 with the on-policy gradient. Log-ratios beyond
    MAX_LOG_RATIO are held there and carry no gradient, so a broken token cannot make an inf.
    """
    return jnp.exp(_held(_log_ratio(logps_BT, old_logps_BT)))


def sequence_ratio(logps_BT: jax.Array, old_logps_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """The completion's ratio to the power 1 / its tokens, at each of its positions [B, T]: GSPO.

    Group Sequence Policy Optimization (arXiv:2507.18071) Eq. 7 and, for the form per token, 14:
    s = exp(mean over the completion of log policy - log old policy); at position t the value is s
    and the gradient s * grad log policy(token t). So a sequence_mean of it has the gradient of s,
    all tokens of a completion are clipped together, and the same `clipped` and `aggregate` serve.
    GSPO's clip ranges are of another size: 3e-4 and 4e-4 in its paper. The mean log-ratio is held
    within MAX_LOG_RATIO.
    """
    log_ratio_B = masked.mean(_log_ratio(logps_BT, old_logps_BT), mask_BT, axis=1)
    is_held_B = jnp.abs(log_ratio_B) >= MAX_LOG_RATIO
    ratio_B = jax.lax.stop_gradient(jnp.exp(_held(log_ratio_B)))
    logps_BT = logps_BT.astype(jnp.float32)
    zero_BT = logps_BT - jax.lax.stop_gradient(logps_BT)  # value 0, gradient 1
    return ratio_B[:, None] * (1.0 + jnp.where(is_held_B[:, None], 0.0, zero_BT))


def clipped(
    ratio_BT: jax.Array, advantage: jax.Array, *, clip_low: float, clip_high: float
) -> jax.Array:
    """-min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A), per token; smaller is better.

    DeepSeek-R1 (arXiv:2501.12948v1) Eq. 1 without its KL term; one epsilon there (10 in R1's first
    stage), two here, as in DAPO (0.2 and 0.28). With A > 0 the gradient ends above 1 + clip_high,
    with A < 0 below 1 - clip_low, which for clip_low >= 1 is never; on the other side it is not
    cut. advantage: [B], one for all tokens of a row (GRPO), or [B, T], one for each (PPO,
    arXiv:1707.06347 Eq. 7); a constant. ValueError unless clip_low and clip_high are > 0.
    """
    _check_clip(clip_low, clip_high)
    ratio_BT = ratio_BT.astype(jnp.float32)
    advantage_BT = jax.lax.stop_gradient(_by_token(advantage).astype(jnp.float32))
    clipped_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    return -jnp.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT)


def clip_binds(
    ratio_BT: jax.Array, advantage: jax.Array, *, clip_low: float, clip_high: float
) -> jax.Array:
    """bool [B, T]: where `clipped` cuts the gradient. Arguments and errors as there."""
    _check_clip(clip_low, clip_high)
    advantage_BT = _by_token(advantage)
    is_above_BT = (advantage_BT > 0) & (ratio_BT > 1.0 + clip_high)
    return is_above_BT | ((advantage_BT < 0) & (ratio_BT < 1.0 - clip_low))


def value_error(
    value_BT: jax.Array, old_value_BT: jax.Array, return_BT: jax.Array, *, clip: float
) -> jax.Array:
    """A critic's loss per token [B, T]: half the squared distance to the return.

    clip > 0: the larger of (V - R)^2 and (V_clip - R)^2 with V_clip = V held within `clip` of the
    value before the update, as in the implementation of PPO (openai/baselines; not in its paper):
    a value that has moved so far towards its return moves no further. 0 is off; ValueError below.
    """
    if clip < 0:
        raise ValueError(f"clip={clip} cannot be negative; 0 switches it off")
    return_BT = jax.lax.stop_gradient(return_BT.astype(jnp.float32))
    error_BT = jnp.square(value_BT - return_BT)
    if clip:
        held_BT = _near(value_BT, old_value_BT, clip)
        error_BT = jnp.maximum(error_BT, jnp.square(held_BT - return_BT))
    return error_BT / 2


def value_clip_binds(
    value_BT: jax.Array, old_value_BT: jax.Array, return_BT: jax.Array, *, clip: float
) -> jax.Array:
    """bool [B, T]: where `value_error` cuts the gradient; nowhere without a clip."""
    if not clip:
        return jnp.zeros(value_BT.shape, bool)
    is_far_BT = jnp.abs(value_BT - old_value_BT) > clip
    held_BT = _near(value_BT, old_value_BT, clip)
    return is_far_BT & (jnp.square(held_BT - return_BT) > jnp.square(value_BT - return_BT))


def importance_weight(
    old_logps_BT: jax.Array, behavior_logps_BT: jax.Array, *, cap: float
) -> jax.Array:
    """min(old policy / behavior policy, cap) per token [B, T], a constant factor for the loss.

    old: nats that the learner gives before the update. behavior: nats that the sampler recorded.
    They are of the same weights through two programs, which differ by rounding or by a filter such
    as top-p (truncated importance sampling of Yao et al., "On the Rollout-Training Mismatch in
    Modern RL Systems", 2025), or those that sampled are older. With the clipped ratio policy / old
    policy this is then the decoupled objective of Hilton et al. (arXiv:2110.00641), which AReaL
    (arXiv:2505.24298) takes for stale rollouts; its code leaves tokens above the cap out, here they
    are held at it. A token is corrected given those before it, not for how likely those have
    become. ValueError unless cap >= 1.
    """
    if not cap >= 1.0:
        raise ValueError(f"cap={cap} must be at least 1, or tokens that agree are scaled too")
    log_weight_BT = _held(_log_ratio(old_logps_BT, behavior_logps_BT))
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(log_weight_BT), cap))


def aggregate(
    loss_BT: jax.Array,
    mask_BT: jax.Array,
    include_B: jax.Array,
    *,
    how: str,
    max_length: int,
) -> types.WeightedSum:
    """The loss of all rows with include_B, over the tokens of mask_BT, in two parts.

    how = "sequence_mean": mean over rows of the mean over each row's tokens; total = sum of row
            means, weight = rows (GRPO, DeepSeekMath Eq. 3; a long completion's token counts less).
          "token_mean": mean over all tokens; weight = tokens (DAPO, arXiv:2503.14476).
          "constant_length": mean over rows of the sum over tokens / max_length; weight = rows
            (Dr. GRPO, arXiv:2503.20783: no length bias). Only here is max_length, tokens, read.
    total / weight is the mean; totals and weights of microbatches add up to those of the whole.
    Rows that are not included count in neither. Raises ValueError for another `how`, and for
    max_length < 1 where it is read.
    """
    kept_BT = mask_BT & include_B[:, None]
    num_rows = jnp.sum(include_B, dtype=jnp.float32)
    loss_BT = loss_BT.astype(jnp.float32)
    if how == "sequence_mean":
        return types.WeightedSum(jnp.sum(masked.mean(loss_BT, kept_BT, axis=1)), num_rows)
    total = masked.sum(loss_BT, kept_BT)
    if how == "token_mean":
        return types.WeightedSum(total, jnp.sum(kept_BT, dtype=jnp.float32))
    if how == "constant_length":
        if max_length < 1:
            raise ValueError(f"max_length={max_length} must be at least 1 token")
        return types.WeightedSum(total / max_length, num_rows)
    raise ValueError(f"aggregation {how!r} must be one of {', '.join(AGGREGATIONS)}")


def _log_ratio(logps_BT: jax.Array, constant_logps_BT: jax.Array) -> jax.Array:
    constant_logps_BT = jax.lax.stop_gradient(constant_logps_BT)
    return logps_BT.astype(jnp.float32) - constant_logps_BT.astype(jnp.float32)


def _by_token(advantage: jax.Array) -> jax.Array:
    return advantage if advantage.ndim == 2 else advantage[:, None]


def _near(value_BT: jax.Array, old_value_BT: jax.Array, clip: float) -> jax.Array:
    old_value_BT = jax.lax.stop_gradient(old_value_BT)
    return old_value_BT + jnp.clip(value_BT - old_value_BT, -clip, clip)


def _held(log_ratio: jax.Array) -> jax.Array:
    return jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def _check_clip(clip_low: float, clip_high: float) -> None:
    if not (clip_low > 0 and clip_high > 0):
        raise ValueError(
            f"clip_low={clip_low}, clip_high={clip_high} must both be > 0: distances from ratio 1, "
            "for instance 0.2 and 0.28, or 10 and 10 as in DeepSeek-R1"
        )
