"""Numbers of 8 bits and float32 scales, which stand for floats: symmetric, so that 0 stays 0."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

TYPES = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bits:
    """number * scale, about. Of equal rank: what moves entries about moves them in both."""

    number: Any
    scale: Any  # float32, 1 long in the axes that share it

    @property
    def shape(self) -> tuple[int, ...]:
        return self.number.shape


def of(x: jax.Array, shared: Sequence[int], kind: str) -> Bits:
    """x as Bits of `kind`, one scale for all along the axes `shared`: max |x| / largest number."""
    dtype = TYPES[kind]
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    largest = float(jnp.iinfo(dtype).max if is_integer else jnp.finfo(dtype).max)
    x32 = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x32), axis=tuple(shared), keepdims=True) / largest
    number = x32 / jnp.where(scale > 0, scale, 1.0)
    return Bits((jnp.round(number) if is_integer else number).astype(dtype), scale)


def zeros(shape: Sequence[int], shared: Sequence[int], kind: str) -> Bits:
    """Zeros as Bits of `kind`, one scale for all along the axes `shared`.

    `of` zeros is the same, and the compiler would find that out entry by entry.
    """
    scale = [1 if axis in shared else size for axis, size in enumerate(shape)]
    return Bits(jnp.zeros(shape, TYPES[kind]), jnp.zeros(scale, jnp.float32))


def beside(number: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(number in x's type, x), for their product.

    Tied to each other: in a loop of steps XLA would else turn all numbers into floats, once, ahead
    of the loop, and read those at every step.
    """
    number, x = jax.lax.optimization_barrier((number, x))
    return number.astype(x.dtype), x
