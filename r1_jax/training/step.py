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

    def total(params, microbatch):
        out = loss(params, microbatch)
        return out.loss.total, out

    def of_piece(params, microbatch):
        """(gradients, what is summed or compared over pieces, what is kept by row)."""
        differentiate = partial(jax.value_and_grad(total, has_aux=True), params)
        (_, out), grads = cuts.apply(differentiate, microbatch)
        return grads, dataclasses.replace(out, rows={}), out.rows

    def accumulate(params, carry, microbatch):
        old_grads, old = carry
        grads, out, rows = of_piece(params, microbatch)
        added = LossOutput(
            old.loss + out.loss,
            {name: old.means[name] + out.means[name] for name in out.means},
            {name: jnp.maximum(old.maxima[name], out.maxima[name]) for name in out.maxima},
            rows={},
        )
        return (jax.tree.map(jnp.add, old_grads, grads), added), rows

    def nothing(params, microbatch):
        """What accumulating starts from: no gradient, no weight, the least of maxima."""
        _, out, _ = jax.eval_shape(of_piece, params, microbatch)
        grads = jax.tree.map(jnp.zeros_like, params)  # laid out as they are
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), out)
        least = {name: jnp.full(x.shape, -jnp.inf, x.dtype) for name, x in out.maxima.items()}
        return grads, dataclasses.replace(zeros, maxima=least)

    def update(state: train_state.TrainState, batch):
        def cut(x):
            return x.reshape(num_microbatches, x.shape[0] // num_microbatches, *x.shape[1:])

        if num_microbatches == 1:
            grads, out, rows = of_piece(state.params, batch)
        else:  # one scan over all pieces: what is compiled does not grow with their number
            pieces = jax.tree.map(cut, batch)
            start = nothing(state.params, jax.tree.map(lambda x: x[0], pieces))
            (grads, out), rows = jax.lax.scan(partial(accumulate, state.params), start, pieces)
            rows = jax.tree.map(jnp.ravel, rows)
        weight = jnp.maximum(out.loss.weight, 1e-9)  # an empty batch has gradient 0, not NaN
        grads = jax.tree.map(lambda g: g / weight, grads)
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
        metrics |= out.maxima | {"rows": rows}
        return train_state.TrainState(state.step + 1, params, opt_state), metrics

    return update
