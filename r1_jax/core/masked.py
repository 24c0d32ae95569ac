"""Reductions under a mask, and the only division by a count."""

import jax.numpy as jnp


def completion_mask(prompt_length_B, length_B, num_positions):
    """Returns bool [B, T]: True on generated tokens, the stop token included.

    prompt_length_B, length_B: int32, tokens; T = num_positions. Position t of row b is generated
    when prompt_length_B[b] <= t < prompt_length_B[b] + length_B[b].
    """
    position_T = jnp.arange(num_positions, dtype=jnp.int32)[None, :]
    start_B = prompt_length_B[:, None]
    return (position_T >= start_B) & (position_T < start_B + length_B[:, None])


def divide(total, count):
    """Returns total / count (equal shapes), 0 where count is 0; float32 at least."""
    count = jnp.asarray(count)
    count = count.astype(jnp.promote_types(count.dtype, jnp.float32))
    is_empty = count == 0
    return jnp.where(is_empty, 0.0, total / jnp.where(is_empty, 1.0, count))


def sum(x, mask, axis=None):
    """Returns the sum of `x` where `mask` is True; what lies outside, even NaN, does not count.

    x: array. mask: bool, of x's rank, broadcast to x's shape. axis: as in jnp.sum. Floats are
    summed in float32 at least, integers in their own dtype, bools in int32.
    """
    x = _widen(x)
    return jnp.sum(jnp.where(_full(mask, x), x, jnp.zeros((), x.dtype)), axis=axis)


def count(x, mask, axis=None):
    """Returns the number of elements of `x` under `mask`, int32. Arguments as in sum()."""
    return jnp.sum(_full(mask, x), axis=axis, dtype=jnp.int32)


def mean(x, mask, axis=None):
    """Returns the mean of `x` under `mask`, float32 at least; 0 where the mask is empty."""
    return divide(sum(x, mask, axis), count(x, mask, axis))


def max(x, mask, axis=None, empty=0):
    """Returns the maximum of `x` under `mask`, in x's dtype; `empty` where the mask is empty."""
    mask = _full(mask, x)
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    maximum = jnp.max(jnp.where(mask, x, jnp.asarray(lowest, x.dtype)), axis=axis)
    return jnp.where(jnp.any(mask, axis=axis), maximum, jnp.asarray(empty, x.dtype))


def var(x, mask, axis=None, ddof=0):
    """Returns the variance of `x` under `mask`: squared deviations / (count - ddof), float32.

    ddof: 0 is the variance of the population, 1 the unbiased estimate. 0 where count <= ddof. Takes
    two passes: E[x^2] - E[x]^2 cancels in float32.
    """
    x, mask = _widen(x), _full(mask, x)
    num = jnp.sum(mask, axis=axis, keepdims=True, dtype=jnp.int32)
    center = divide(jnp.sum(jnp.where(mask, x, 0), axis=axis, keepdims=True), num)
    deviation = jnp.where(mask, x - center, 0.0)
    total = jnp.sum(jnp.square(deviation), axis=axis)
    return divide(total, jnp.maximum(count(x, mask, axis) - ddof, 0))


def _widen(x):
    if x.dtype == jnp.bool_:
        return x.astype(jnp.int32)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x


def _full(mask, x):
    """Returns `mask` in x's shape; raises ValueError unless it is a bool array of x's rank."""
    if mask.dtype != jnp.bool_ or mask.ndim != x.ndim:
        raise ValueError(
            f"mask is {mask.dtype}{list(mask.shape)}; for x of shape {list(x.shape)} it must "
            f"be bool of rank {x.ndim}"
        )
    return jnp.broadcast_to(mask, x.shape)
