"""The learner's weights as the sampler wants them: in the compute type, split by fewer axes.

A learner gathers a layer's weights, uses them on many tokens and lets them go. A decoding step has
one token a row: it would gather all weights again for each. So they are laid out anew once a
rollout, whole along "fsdp" and "context", split over "tensor" and "expert", in half the bytes.
"""

from typing import Any

import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config

SPLIT_ONLY_BY_LEARNER = ("fsdp", "context")
KEPT = ("scale", "router")  # read in float32 whatever the compute type


def shardings(params: Any) -> Any:
    """Where the sampler wants every array of `params` (arrays, or shapes with shardings)."""

    def one(leaf):
        placed = leaf.sharding
        if not isinstance(placed, jax.NamedSharding):
            return placed
        return jax.NamedSharding(placed.mesh, jax.P(*map(_without, placed.spec)))

    return jax.tree.map(one, params)


def _without(axes):
    if isinstance(axes, tuple):
        axes = tuple(axis for axis in axes if axis not in SPLIT_ONLY_BY_LEARNER)
        return axes or None
    return None if axes in SPLIT_ONLY_BY_LEARNER else axes


def cast(model: model_config.ModelConfig, params: Any) -> Any:
    """`params` in the compute type where the model reads them so: no product changes by a bit."""

    def one(path, leaf):
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        return leaf if any(name in KEPT for name in names) else leaf.astype(model.compute_dtype)

    return jax.tree_util.tree_map_with_path(one, params)


def jitted(model: model_config.ModelConfig, params: Any) -> Any:
    """The function params -> the sampler's, jitted for arrays that lie as `params` do."""
    return jax.jit(lambda given: cast(model, given), out_shardings=shardings(params))


def make_relayout(model: model_config.ModelConfig):
    """relayout(params) -> the sampler's; `params` themselves where they lie so already.

    Compiled once for each way that parameters come.
    """
    made: dict[Any, Any] = {}

    def relayout(params: Any) -> Any:
        leaves, structure = jax.tree.flatten(params)
        placed = tuple(leaf.sharding for leaf in leaves)
        is_split = any(
            isinstance(s, jax.NamedSharding) and s.mesh.shape.get(axis, 1) > 1
            for s in placed
            for axis in SPLIT_ONLY_BY_LEARNER
        )
        if not is_split and jnp.dtype(model.compute_dtype) == jnp.float32:
            return params
        key = structure, placed
        if key not in made:
            made[key] = jitted(model, params)
        return made[key](params)

    return relayout
