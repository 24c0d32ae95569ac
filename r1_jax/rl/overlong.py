"""What becomes of completions that were cut off. How R1 treated them is not published.

Three ways, apart, each a plain function: pay nothing, leave the row out of the loss, or take from
the reward before the limit is reached. Lengths are generated tokens, stop token included.
"""

import jax
import jax.numpy as jnp


def is_truncated(stop_B: jax.Array) -> jax.Array:
    """bool [B]: True where no stop token ended the row (types.Rollouts.stop_B is -1)."""
    return stop_B < 0


def zero_reward(reward_B: jax.Array, is_truncated_B: jax.Array) -> jax.Array:
    """reward_B, 0 where truncated: also the parts that the completion had earned before the cut."""
    return jnp.where(is_truncated_B, 0.0, reward_B)


def leave_out(include_B: jax.Array, is_truncated_B: jax.Array) -> jax.Array:
    """include_B without the truncated rows: DAPO's overlong filtering (arXiv:2503.14476, 3.4).

    For the loss. The row's reward still stands in its group's baseline, as it does there.
    """
    return include_B & ~is_truncated_B


def soft_penalty(length_B: jax.Array, *, max_length: int | jax.Array, buffer: int) -> jax.Array:
    """What to add to the reward, float32 [B] in [-1, 0]: DAPO (arXiv:2503.14476) Eq. 13.

    0 up to max_length - buffer tokens, then linear down to -1 at max_length and beyond.
    ValueError unless 0 < buffer <= max_length; where that is traced, the caller has looked.
    """
    if buffer < 1 or (isinstance(max_length, int) and buffer > max_length):
        raise ValueError(f"buffer={buffer} must lie in 1..max_length={max_length}, in tokens")
    into_buffer_B = (length_B - (max_length - buffer)).astype(jnp.float32)
    return -jnp.clip(into_buffer_B / buffer, 0.0, 1.0)
