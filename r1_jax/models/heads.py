"""The heads, always float32: hidden states to logits over the vocabulary, or to one number."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place


class Kernel(NamedTuple):
    """The head's weights [D, V]: as they are read, and as they are learnt."""

    read_DV: jax.Array  # in the compute type
    master_DV: jax.Array | None  # what the gradient is of; None where that is read_DV itself


def kernel(config: model_config.ModelConfig, params) -> Kernel:
    """The head's weights: the embedding transposed when tied, else its own.

    Whole in its width: gathered here once, and not in every turn of the loops that use it. What
    crosses the mesh is rounded to the compute type first; the master is not gathered, for only its
    gradient is of use, which is summed over those turns in the master's type.
    """
    master_DV = params["embedding"].T if config.tied_embeddings else params["head"]
    read_DV = master_DV.astype(config.compute_dtype)
    if read_DV.dtype == master_DV.dtype:
        return Kernel(place.constrain(master_DV, "act_embed", "act_vocab"), None)
    read_DV = place.constrain(jax.lax.stop_gradient(read_DV), "act_embed", "act_vocab")
    return Kernel(read_DV, place.constrain(master_DV, "act_embed", "act_vocab"))


def logits(hidden: jax.Array, kernel: Kernel) -> jax.Array:
    """hidden [..., D] times the kernel, float32 [..., V] whatever the compute dtype."""
    if kernel.master_DV is None:
        return _product(hidden, kernel.read_DV)
    return _product_of_master(hidden, kernel.read_DV, kernel.master_DV)


def _product(hidden, read_DV):
    return jnp.einsum(
        "...D,DV->...V",
        hidden,
        read_DV.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )


@jax.custom_vjp
def _product_of_master(hidden, read_DV, master_DV):
    """The product with `read_DV`, whose gradient is `master_DV`'s."""
    return _product(hidden, read_DV)


def _forward(hidden, read_DV, master_DV):
    return _product(hidden, read_DV), (hidden, read_DV, jnp.zeros((), master_DV.dtype))


def _backward(kept, gradient):
    """A GPU takes twice as long over float32, a TPU rounds it itself; a CPU has no such product."""
    hidden, read_DV, of_master = kept
    if not meshes.is_of_cpus():
        gradient = gradient.astype(read_DV.dtype)
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    of_hidden = product("...V,DV->...D", gradient, read_DV).astype(hidden.dtype)
    of_kernel_DV = product("...D,...V->DV", hidden, gradient)
    return of_hidden, None, of_kernel_DV.astype(of_master.dtype)


_product_of_master.defvjp(_forward, _backward)


def init_scalar_boxed(config: model_config.ModelConfig) -> dict[str, nn.LogicallyPartitioned]:
    """A new scalar head: kernel [D] and bias [], boxed with their logical axes, all zeros.

    Zeros make its first word 0 for any input, and no key is needed: there is one unit, so no
    symmetry to break. The first gradient moves the head, the next ones what is below it too.
    """
    return {
        "kernel": nn.LogicallyPartitioned(jnp.zeros(config.embed_dim), ("embed",)),
        "bias": nn.LogicallyPartitioned(jnp.zeros(()), ()),
    }


def init_scalar(config: model_config.ModelConfig) -> dict[str, jax.Array]:
    """A new scalar head as plain arrays: {"kernel": [D], "bias": []}, zeros."""
    return nn.unbox(init_scalar_boxed(config))


def scalar(params, hidden: jax.Array) -> jax.Array:
    """hidden [..., D] . kernel [D] + bias, float32 [...]: a value, or a reward, per hidden state.

    params: {"kernel", "bias"} of init_scalar.
    """
    kernel_D = place.constrain(params["kernel"], "act_embed")
    product = jnp.einsum(
        "...D,D->...", hidden, kernel_D.astype(hidden.dtype), preferred_element_type=jnp.float32
    )
    return product + params["bias"]
