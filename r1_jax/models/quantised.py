"""Linear layers in 8 bits, for a sampler: a byte a weight, and a float32 scale an output.

W [*in, *out] is kept as q = W / scale in 8 bits, one scale [*out] for all inputs (models/bits);
x W = (x q) * scale: the scale multiplies what the product gives, the kernel is read as bytes, and
layers.Linear does both. The embedding, the head, norms, biases, routers, adapters and latent
attention's `latent_up` stay as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import traverse_util

from r1_jax.models import bits, linears, transformer
from r1_jax.models import config as model_config


def kernels(
    model: model_config.ModelConfig,
    params: Any,
    function: Callable[[Any, Sequence[int]], tuple[Any, Any]],
) -> Any:
    """`params` with (kernel, scale) = function(kernel, the axes it is summed over) in every Linear.

    Raises ValueError for a model whose weights are mostly no Linear's.
    """
    if model.experts is not None:
        raise ValueError(
            "8-bit weights are of linear layers, and of a model with experts these are the "
            "least; set sampling.weights='float' (sampling.cache may be 8 bits)"
        )
    flat = dict(traverse_util.flatten_dict(params))
    for path, linear in linears.of(model)[0].items():
        summed = range(1, 1 + len(linear.in_shape))  # behind the layers' own axis
        flat[(*path, "kernel")], flat[(*path, "scale")] = function(flat[(*path, "kernel")], summed)
    return traverse_util.unflatten_dict(flat)


def quantise(
    model: model_config.ModelConfig, params: transformer.Params, kind: str
) -> transformer.Params:
    """float32 `params` with every Linear's kernel in `kind` ("int8" or "fp8") and its scale."""

    def one(kernel, summed):
        found = bits.of(kernel, summed, kind)
        return found.number, jnp.squeeze(found.scale, tuple(summed))

    return kernels(model, params, one)
