"""The learner's weights as the sampler wants them: in the compute type, split by fewer axes.

A learner gathers a layer's weights, uses them on many tokens and lets them go. A decoding step has
one token a row: it would gather all weights again for each. So they are laid out anew once a
rollout, whole along "fsdp" and "context", split over "tensor" and "expert", in half the bytes, or a
quarter (sampling.weights).
"""

from typing import Any

import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import quantised

SPLIT_ONLY_BY_LEARNER = ("fsdp", "context")
KEPT = ("scale", "router")  # read in float32 whatever the compute type


def shardings(model: model_config.ModelConfig, params: Any, weights: str) -> Any:
    """Where the sampler wants every array made of `params` (arrays, or shapes with shardings)."""

    def one(leaf):
        placed = leaf.sharding
        if not isinstance(placed, jax.NamedSharding):
            return placed
        return jax.NamedSharding(placed.mesh, jax.P(*map(_without, placed.spec)))

    placed = jax.tree.map(one, params)
    return placed if weights == "float" else quantised.kernels(model, placed, _with_scale)


def _with_scale(placed, summed):
    """Where a kernel lies, and where its scale, without the axes that the kernel is summed over."""
    if not isinstance(placed, jax.NamedSharding):
        return placed, placed
    kept = [axes for i, axes in enumerate(placed.spec) if i not in summed]
    return placed, jax.NamedSharding(placed.mesh, jax.P(*kept))


def _without(axes):
    if isinstance(axes, tuple):
        axes = tuple(axis for axis in axes if axis not in SPLIT_ONLY_BY_LEARNER)
        return axes or None
    return None if axes in SPLIT_ONLY_BY_LEARNER else axes


def cast(model: model_config.ModelConfig, params: Any, weights: str) -> Any:
    """`params` in the compute type where the model reads them so: no product changes by a bit.

    weights: of SamplingConfig; 8 bits do change them.
    """
    if weights != "float":
        params = quantised.quantise(model, params, weights)

    def one(path, leaf):
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        is_kept = any(name in KEPT for name in names) or leaf.dtype.itemsize == 1
        return leaf if is_kept else leaf.astype(model.compute_dtype)

    return jax.tree_util.tree_map_with_path(one, params)


def jitted(model: model_config.ModelConfig, params: Any, weights: str) -> Any:
    """The function params -> the sampler's, jitted for arrays that lie as `params` do."""
    out = shardings(model, params, weights)
    return jax.jit(lambda given: cast(model, given, weights), out_shardings=out)


def make_relayout(model: model_config.ModelConfig, weights: str):
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
        is_float32 = jnp.dtype(model.compute_dtype) == jnp.float32
        if not is_split and is_float32 and weights == "float":
            return params
        key = structure, placed
        if key not in made:
            made[key] = jitted(model, params, weights)
        return made[key](params)

    return relayout
