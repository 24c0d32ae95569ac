"""Linear layers in 8 bits, for a sampler: a byte a weight, and a float32 scale an output.

W [*in, *out] is kept as q = round(W / scale), with scale [*out] = max |W| over the inputs / the
type's largest number; symmetric, so that 0 stays 0. Then x W = (x q) * scale: the scale multiplies
what the product gives, the kernel is read as bytes, and layers.Linear does both. The embedding, the
head, norms, biases, routers, adapters and latent attention's `latent_up` stay as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from r1_jax.models import config as model_config
from r1_jax.models import linears, transformer

TYPES = {"int8": jnp.int8, "fp8": jnp.float8_e4m3fn}


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
    return kernels(model, params, lambda kernel, summed: numbers(kernel, summed, kind))


def numbers(x: jax.Array, summed: Sequence[int], kind: str) -> tuple[jax.Array, jax.Array]:
    """(x in 8 bits, float32 scale without the `summed` axes): x is about their product."""
    dtype = TYPES[kind]
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    largest = float(jnp.iinfo(dtype).max if is_integer else jnp.finfo(dtype).max)
    x32 = x.astype(jnp.float32)
    scale = jnp.max(jnp.abs(x32), axis=tuple(summed), keepdims=True) / largest
    q = x32 / jnp.where(scale > 0, scale, 1.0)
    q = (jnp.round(q) if is_integer else q).astype(dtype)
    return q, jnp.squeeze(scale, tuple(summed))
