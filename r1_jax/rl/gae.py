"""Generalised advantage estimation: what a critic makes of rewards that come token by token.

A completion is an episode, a token an action, and it ends with its last token, the stop token or
the one at which it was cut off: nothing is expected beyond. All is [B, T] and float32; masks are
completion_mask, each row one run of tokens without a hole; what lies outside, even NaN, counts
nowhere and is 0 in every result.
"""

import jax
import jax.numpy as jnp

from r1_jax.core import masked

TOLERANCE = 1e-5  # rewards are of order 1; sums over a completion's tokens differ by 1e-6


def token_rewards(
    reward_B: jax.Array, penalty_BT: jax.Array | float, mask_BT: jax.Array
) -> jax.Array:
    """Rewards per token: -penalty at each, and the completion's own reward at its last.

    penalty_BT: in RLHF's PPO kl_coef times the KL to the reference by k1, nats (DeepSeekMath
    Eq. 2). DeepSeek-R1's revised A.3 says why GRPO keeps it out of the reward: summed over a
    completion, it punishes length.
    """
    following_BT = jnp.pad(mask_BT[:, 1:], ((0, 0), (0, 1)))
    earned_BT = jnp.where(mask_BT & ~following_BT, reward_B.astype(jnp.float32)[:, None], 0.0)
    return earned_BT - jnp.where(mask_BT, penalty_BT, 0.0)


def estimate(
    reward_BT: jax.Array, value_BT: jax.Array, mask_BT: jax.Array, *, gamma: float, lam: float
) -> tuple[jax.Array, jax.Array]:
    """(advantage_BT, return_BT), the latter what the critic is to learn: arXiv:1506.02438 Eq. 16.

    value_BT: at t, what the critic expects before token t is drawn. With
    delta_t = r_t + gamma V_{t+1} - V_t and V = 0 after the end, A_t = sum_l (gamma lam)^l
    delta_{t+l}, and the return is A_t + V_t, the lambda-return. lam = 1 makes it the discounted sum
    of the rewards to come, whatever the critic says; lam = 0 trusts the critic's next word alone.
    """
    reward_BT = jnp.where(mask_BT, reward_BT.astype(jnp.float32), 0.0)
    value_BT = jnp.where(mask_BT, value_BT.astype(jnp.float32), 0.0)
    next_BT = jnp.pad(value_BT[:, 1:], ((0, 0), (0, 1)))  # 0 after the last token
    delta_BT = reward_BT + gamma * next_BT - value_BT

    def back(advantage_B, at_t):
        delta_B, mask_B = at_t
        advantage_B = jnp.where(mask_B, delta_B + gamma * lam * advantage_B, 0.0)
        return advantage_B, advantage_B

    _, advantage_TB = jax.lax.scan(
        back, jnp.zeros_like(value_BT[:, 0]), (delta_BT.T, mask_BT.T), reverse=True
    )
    advantage_BT = advantage_TB.T
    return advantage_BT, jnp.where(mask_BT, advantage_BT + value_BT, 0.0)


def whiten(
    advantage_BT: jax.Array,
    mask_BT: jax.Array,
    *,
    epsilon: float = 1e-6,
    tolerance: float = TOLERANCE,
) -> jax.Array:
    """(A - mean) / (std + epsilon) over all tokens under the mask, std of the population.

    Over the whole rollout, so that minibatches see one scale. No part of PPO's paper, but of its
    common implementations. 0 throughout where all lie within `tolerance` of each other: rounding
    errors would be blown up.
    """
    mean = masked.mean(advantage_BT, mask_BT)
    spread = masked.max(advantage_BT, mask_BT) + masked.max(-advantage_BT, mask_BT)
    is_flat = spread <= tolerance
    std = jnp.sqrt(jnp.where(is_flat, 1.0, masked.var(advantage_BT, mask_BT)))
    return jnp.where(mask_BT & ~is_flat, (advantage_BT - mean) / (std + epsilon), 0.0)
