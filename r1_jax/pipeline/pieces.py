"""RL's scoring and update as a run calls them: piece after piece, by programs of fixed shapes.

The host knows all lengths, sorts the rows by them (training/by_length) and calls one program a
piece, compiled for the piece's length when that first occurs: one of by_length.lengths, with one of
its shared_lengths or none (pipeline/shapes names them at a run's start). The order of work is
fixed, so that results depend neither on what occurred before nor on a restart. A length that first
occurs late in a run is compiled then, or read from the persistent cache; the log's `compilations`
say so. A plan prices the same parts as one program (traced.make_traced).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from r1_jax.models import config as model_config
from r1_jax.models import lora, prefix
from r1_jax.pipeline import experiment
from r1_jax.sharding import axes, place
from r1_jax.training import actor_critic, by_length, step


def _laid(mesh: jax.sharding.Mesh) -> jax.NamedSharding:
    """Of [pieces, rows, ...]: every piece over all devices."""
    return jax.NamedSharding(mesh, jax.P(None, *place.batch_sharding(mesh).spec))


def group_that_shares(
    config: experiment.ExperimentConfig, mesh: jax.sharding.Mesh, model: model_config.ModelConfig
) -> int:
    """Rows whose prompt the learner computes once: a group's, or 1.

    Routers would count a shared prompt once; where positions are split, and in the TPU's kernel,
    attention takes rows as they are.
    """
    is_split = mesh.shape.get("context", 1) > 1
    if model.experts is not None or is_split or mesh.devices.flat[0].platform == "tpu":
        return 1
    return config.grpo.group_size


def _ways(mesh: jax.sharding.Mesh) -> int:
    """Devices that a piece's rows are split over."""
    split = axes.mesh_axes("batch", axes.RULES, mesh.axis_names)
    return math.prod(mesh.shape[axis] for axis in split)


def _split(mesh: jax.sharding.Mesh, num_pieces: int):
    def split(batch, rows_b):
        return by_length.split(batch, rows_b, num_pieces)

    return jax.jit(split, out_shardings=_laid(mesh))


def make_logps(
    score: Callable[[Any, Any, prefix.Shared | None], jax.Array],
    mesh: jax.sharding.Mesh,
    num_pieces: int,
    lengths: Sequence[int],
    *,
    group_size: int = 1,
    shared_lengths: Sequence[int] = (),
) -> Callable[[Any, by_length.Rows, by_length.Filled], jax.Array]:
    """logps(params, Rows, Filled) -> logps_BT in nats, 0 where a row's piece was cut off.

    score: (params, Rows, how prompts are shared) -> logps_BT. num_pieces divides B. group_size,
    shared_lengths: as for by_length.order.
    """
    by_row = place.batch_sharding(mesh)
    split = _split(mesh, num_pieces)
    shared = {"group_size": group_size, "shared_lengths": shared_lengths, "ways": _ways(mesh)}

    def one(params, pieces, index, *, length, shared):
        found_bT = score(params, by_length.piece(pieces, index, length), shared)
        return by_length.padded(found_bT, pieces.tokens_BT.shape[-1])

    scored = jax.jit(one, static_argnames=("length", "shared"), out_shardings=by_row)
    join = jax.jit(by_length.join, out_shardings=by_row)

    def logps(params, rows: by_length.Rows, filled: by_length.Filled) -> jax.Array:
        every_B = np.arange(len(filled.all_B))
        order = by_length.order(filled, every_B, num_pieces, lengths, **shared)
        pieces = split(rows, order.rows_b)
        found = [
            scored(params, pieces, np.int32(i), length=length, shared=order.shared)
            for i, length in enumerate(order.lengths)
        ]
        return join(found, order.as_given_b)

    return logps


def make_update(
    parts: Callable[[lora.Frozen | None, prefix.Shared | None], step.Parts],
    mesh: jax.sharding.Mesh,
    shardings: Any,
    num_pieces: int,
    lengths: Sequence[int],
    *,
    group_size: int = 1,
    shared_lengths: Sequence[int] = (),
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """update(state, batch, Filled, rows, frozen) -> (state, metrics): one update on those rows.

    The state is donated; `shardings` are its own. metrics["rows"] is in the order of `rows`.
    group_size, shared_lengths: as for by_length.order.
    """
    everywhere: Any = place.replicated(mesh)
    by_row = place.batch_sharding(mesh)
    if isinstance(shardings, actor_critic.State):
        states = shardings.policy, shardings.critic
        of_sum: Any = tuple(step.Sum(of.params, everywhere) for of in states)
    else:
        of_sum = step.Sum(shardings.params, everywhere)
    split = _split(mesh, num_pieces)
    shared = {"group_size": group_size, "shared_lengths": shared_lengths, "ways": _ways(mesh)}

    def nothing(state, pieces, frozen):
        return parts(frozen, None).nothing(state, by_length.piece(pieces, 0, lengths[0]))

    def one(state, summed, pieces, index, frozen, *, length, shared):
        return parts(frozen, shared).add(state, summed, by_length.piece(pieces, index, length))

    def end(state, summed, rows, as_given_b, frozen):
        state, metrics = parts(frozen, None).take(state, summed)
        return state, metrics | {"rows": by_length.join(rows, as_given_b)}

    start = jax.jit(nothing, out_shardings=of_sum)
    add = jax.jit(
        one,
        static_argnames=("length", "shared"),
        donate_argnums=1,
        out_shardings=(of_sum, by_row),
    )
    take = jax.jit(end, donate_argnums=0, out_shardings=(shardings, everywhere))

    def update(state, batch, filled: by_length.Filled, rows_b: np.ndarray, frozen=None):
        order = by_length.order(filled, rows_b, num_pieces, lengths, **shared)
        pieces = split(batch, order.rows_b)
        summed = start(state, pieces, frozen) if num_pieces > 1 else None
        rows = []
        for i, length in enumerate(order.lengths):
            summed, of_piece = add(
                state, summed, pieces, np.int32(i), frozen, length=length, shared=order.shared
            )
            rows.append(of_piece)
        state, metrics = take(state, summed, rows, order.as_given_b, frozen)
        return state, metrics | {"tokens/padding_share": order.padding_share(filled)}

    return update
