"""One update for any loss: microbatches that add up exactly, a guard against non-finite ones."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from r1_jax.core import trees, types
from r1_jax.training import state as train_state


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossOutput:
    """What a loss says of one microbatch; everything adds up over microbatches."""

    loss: types.WeightedSum
    means: dict[str, types.WeightedSum]
    maxima: dict[str, jax.Array]  # float32 scalars, combined by max
    rows: dict[str, jax.Array]  # [b], one value a row of the batch


Loss = Callable[[Any, Any], LossOutput]  # (params, batch) -> LossOutput


class Cuts(NamedTuple):
    """The lengths a microbatch may have: `which` of `all` it takes is seen when it comes."""

    which: Callable[[Any], jax.Array]  # microbatch -> int32, index into `all`
    all: Sequence[Callable[[Any], Any]]  # microbatch -> the same without its last positions

    def apply(self, function: Callable[[Any], Any], microbatch: Any) -> Any:
        """function(cut microbatch), one compiled branch a cut; its result has one shape for all.

        A gradient is taken inside `function`: differentiated from outside, every branch would
        also fill the residuals of all the others.
        """
        branches = [lambda piece, cut=cut: function(cut(piece)) for cut in self.all]
        return jax.lax.switch(self.which(microbatch), branches, microbatch)


UNCUT = Cuts(lambda microbatch: jnp.int32(0), (lambda microbatch: microbatch,))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """What microbatches add up to, before it is divided by the weight."""

    grads: Any
    out: LossOutput  # without rows


class Parts(NamedTuple):
    """An update in parts: `nothing` to begin with, what each microbatch adds, the step taken."""

    nothing: Callable[[Any, Any], Any]  # (state, microbatch) -> sum
    add: Callable[[Any, Any, Any], tuple[Any, dict[str, jax.Array]]]
    # (state, sum or None, microbatch) -> (sum, what is kept by row)
    take: Callable[[Any, Any], tuple[Any, dict[str, Any]]]  # (state, sum) -> (state, metrics)


def make_parts(loss: Loss, tx: optax.GradientTransformation, *, cuts: Cuts = UNCUT) -> Parts:
    """The parts of `make_update`, whose docstring says what they come to."""

    def total(params, microbatch):
        out = loss(params, microbatch)
        return out.loss.total, out

    def of_piece(params, microbatch):
        differentiate = partial(jax.value_and_grad(total, has_aux=True), params)
        (_, out), grads = cuts.apply(differentiate, microbatch)
        return Sum(grads, dataclasses.replace(out, rows={})), out.rows

    def nothing(state: train_state.TrainState, microbatch) -> Sum:
        """No gradient, no weight, the least of maxima."""
        out = dataclasses.replace(jax.eval_shape(loss, state.params, microbatch), rows={})
        grads = jax.tree.map(jnp.zeros_like, state.params)  # laid out as they are
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), out)
        least = {name: jnp.full(x.shape, -jnp.inf, x.dtype) for name, x in out.maxima.items()}
        return Sum(grads, dataclasses.replace(zeros, maxima=least))

    def add(state: train_state.TrainState, old: Sum | None, microbatch):
        new, rows = of_piece(state.params, microbatch)
        if old is None:
            return new, rows
        out = new.out
        added = LossOutput(
            old.out.loss + out.loss,
            {name: old.out.means[name] + out.means[name] for name in out.means},
            {name: jnp.maximum(old.out.maxima[name], out.maxima[name]) for name in out.maxima},
            rows={},
        )
        return Sum(jax.tree.map(jnp.add, old.grads, new.grads), added), rows

    def take(state: train_state.TrainState, summed: Sum):
        out = summed.out
        weight = jnp.maximum(out.loss.weight, 1e-9)  # an empty batch has gradient 0, not NaN
        grads = jax.tree.map(lambda g: g / weight, summed.grads)
        norm = trees.global_norm(grads)
        is_finite = jnp.isfinite(norm) & jnp.isfinite(out.loss.total)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        moved = (optax.apply_updates(state.params, updates), opt_state)
        kept = (state.params, state.opt_state)
        params, opt_state = jax.tree.map(lambda a, b: jnp.where(is_finite, a, b), moved, kept)
        metrics = {
            "loss": out.loss.total / weight,
            "gradient/norm": norm,
            "update/skipped": 1.0 - is_finite,
        }
        metrics |= {
            name: mean.total / jnp.maximum(mean.weight, 1e-9) for name, mean in out.means.items()
        }
        return train_state.TrainState(state.step + 1, params, opt_state), metrics | out.maxima

    return Parts(nothing, add, take)


def whole(parts: Parts, num_microbatches: int):
    """update(state, batch) -> (state, metrics) of `parts`, as one program."""

    def update(state, batch):
        def cut(x):
            return x.reshape(num_microbatches, x.shape[0] // num_microbatches, *x.shape[1:])

        if num_microbatches == 1:
            summed, rows = parts.add(state, None, batch)
        else:  # one scan over all pieces: what is compiled does not grow with their number
            pieces = jax.tree.map(cut, batch)
            start = parts.nothing(state, jax.tree.map(lambda x: x[0], pieces))
            summed, rows = jax.lax.scan(partial(parts.add, state), start, pieces)
            rows = jax.tree.map(jnp.ravel, rows)
        state, metrics = parts.take(state, summed)
        return state, metrics | {"rows": rows}

    return update


def make_update(
    loss: Loss, tx: optax.GradientTransformation, *, num_microbatches: int = 1, cuts: Cuts = UNCUT
) -> Callable[[train_state.TrainState, Any], tuple[train_state.TrainState, dict[str, Any]]]:
    """update(state, batch) -> (new state, metrics), one optimiser step on the whole batch.

    The batch's leading axis is cut into num_microbatches, whose summed gradients are divided by the
    summed weight: the same gradient for any number of them, and for any cuts that leave no token
    of the loss out. A non-finite loss or gradient is never
    applied: parameters and optimiser state stay, the step counts, `update/skipped` is 1.
    metrics["rows"] holds what the loss says of each row, in the batch's order.
    """
    return whole(make_parts(loss, tx, cuts=cuts), num_microbatches)
