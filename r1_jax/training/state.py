"""TrainState: everything an update changes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A pytree of arrays; the optimiser's functions are closed over elsewhere."""

    step: jax.Array  # int32 scalar: optimiser updates done, skipped ones included
    params: Any  # float32 masters
    opt_state: optax.OptState


def create(params: Any, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first update."""
    return TrainState(jnp.int32(0), params, tx.init(params))
