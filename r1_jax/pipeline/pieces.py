"""RL's scoring and update as a run calls them: piece after piece, by programs of fixed shapes.

The host knows all lengths, sorts the rows by them (training/by_length) and calls one program a
piece, compiled for the piece's length when that first occurs: at most by_length.lengths of them, in
a fixed order of work, so that results depend neither on what occurred before nor on a restart. A
length that first occurs late in a run is compiled then, or read from the persistent cache; the
log's `compilations` say so. A plan prices the same parts as one program (traced.make_traced).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from r1_jax.models import lora
from r1_jax.sharding import place
from r1_jax.training import actor_critic, by_length, step


def _laid(mesh: jax.sharding.Mesh) -> jax.NamedSharding:
    """Of [pieces, rows, ...]: every piece over all devices."""
    return jax.NamedSharding(mesh, jax.P(None, *place.batch_sharding(mesh).spec))


def _split(mesh: jax.sharding.Mesh, num_pieces: int):
    def split(batch, rows_b):
        return by_length.split(batch, rows_b, num_pieces)

    return jax.jit(split, out_shardings=_laid(mesh))


def make_logps(
    score: Callable[[Any, Any], jax.Array],
    mesh: jax.sharding.Mesh,
    num_pieces: int,
    lengths: Sequence[int],
) -> Callable[[Any, by_length.Rows, np.ndarray], jax.Array]:
    """logps(params, Rows, filled_B) -> logps_BT in nats, 0 where a row's piece was cut off.

    score: (params, Rows) -> logps_BT. num_pieces divides B; filled_B: by_length.filled.
    """
    by_row = place.batch_sharding(mesh)
    split = _split(mesh, num_pieces)

    def one(params, pieces, index, *, length):
        found_bT = score(params, by_length.piece(pieces, index, length))
        return by_length.padded(found_bT, pieces.tokens_BT.shape[-1])

    scored = jax.jit(one, static_argnames="length", out_shardings=by_row)
    join = jax.jit(by_length.join, out_shardings=by_row)

    def logps(params, rows: by_length.Rows, filled_B: np.ndarray) -> jax.Array:
        order = by_length.order(filled_B, np.arange(len(filled_B)), num_pieces, lengths)
        pieces = split(rows, order.rows_b)
        found = [
            scored(params, pieces, np.int32(i), length=length)
            for i, length in enumerate(order.lengths)
        ]
        return join(found, order.as_given_b)

    return logps


def make_update(
    parts: Callable[[lora.Frozen | None], step.Parts],
    mesh: jax.sharding.Mesh,
    shardings: Any,
    num_pieces: int,
    lengths: Sequence[int],
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """update(state, batch, filled_B, rows, frozen) -> (state, metrics): one update on those rows.

    The state is donated; `shardings` are its own. metrics["rows"] is in the order of `rows`.
    """
    everywhere: Any = place.replicated(mesh)
    by_row = place.batch_sharding(mesh)
    if isinstance(shardings, actor_critic.State):
        states = shardings.policy, shardings.critic
        of_sum: Any = tuple(step.Sum(of.params, everywhere) for of in states)
    else:
        of_sum = step.Sum(shardings.params, everywhere)
    split = _split(mesh, num_pieces)

    def nothing(state, pieces, frozen):
        return parts(frozen).nothing(state, by_length.piece(pieces, 0, lengths[0]))

    def one(state, summed, pieces, index, frozen, *, length):
        return parts(frozen).add(state, summed, by_length.piece(pieces, index, length))

    def end(state, summed, rows, as_given_b, frozen):
        state, metrics = parts(frozen).take(state, summed)
        return state, metrics | {"rows": by_length.join(rows, as_given_b)}

    start = jax.jit(nothing, out_shardings=of_sum)
    add = jax.jit(one, static_argnames="length", donate_argnums=1, out_shardings=(of_sum, by_row))
    take = jax.jit(end, donate_argnums=0, out_shardings=(shardings, everywhere))

    def update(state, batch, filled_B: np.ndarray, rows_b: np.ndarray, frozen=None):
        order = by_length.order(filled_B, rows_b, num_pieces, lengths)
        pieces = split(batch, order.rows_b)
        summed = start(state, pieces, frozen) if num_pieces > 1 else None
        rows = []
        for i, length in enumerate(order.lengths):
            summed, of_piece = add(state, summed, pieces, np.int32(i), frozen, length=length)
            rows.append(of_piece)
        state, metrics = take(state, summed, rows, order.as_given_b, frozen)
        return state, metrics | {"tokens/padding_share": order.padding_share(filled_B)}

    return update
