"""Rows that begin alike, with what they share computed once.

A group's completions follow one prompt. Folded, its rows are one: the prefix they share, then what
each has of its own, one behind the other. Layers see positions and do not care where they stand;
attention does, and splits them again (`attention.behind_prefix`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Shared(NamedTuple):
    """How rows begin alike: `rows` of them, one after the other, in their first `length` tokens."""

    rows: int
    length: int

    def fold(self, x_BT: jax.Array) -> jax.Array:
        """[B, T, ...] -> [B / rows, length + rows * (T - length), ...]."""
        groups = x_BT.shape[0] // self.rows
        first = x_BT.reshape(groups, self.rows, *x_BT.shape[1:])[:, 0, : self.length]
        own = x_BT[:, self.length :]
        return jnp.concatenate([first, own.reshape(groups, -1, *x_BT.shape[2:])], axis=1)

    def own(self, folded_PU: jax.Array) -> jax.Array:
        """Of what is folded, what each row has of its own: [B, T - length, ...]."""
        own = folded_PU[:, self.length :]
        return own.reshape(own.shape[0] * self.rows, -1, *own.shape[2:])

    def whole(self, folded_PU: jax.Array) -> jax.Array:
        """What was folded: [B, T, ...]."""
        first = jnp.repeat(folded_PU[:, : self.length], self.rows, axis=0)
        return jnp.concatenate([first, self.own(folded_PU)], axis=1)
