"""The heads, always float32: hidden states to logits over the vocabulary, or to one number."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.sharding import place


def kernel(config: model_config.ModelConfig, params) -> jax.Array:
    """The head's weights [D, V]: the embedding transposed when tied, else its own.

    Whole in its width: gathered here once, and not in every turn of the loops that use it.
    """
    kernel_DV = params["embedding"].T if config.tied_embeddings else params["head"]
    return place.constrain(kernel_DV, "act_embed", "act_vocab")


def logits(hidden: jax.Array, kernel_DV: jax.Array) -> jax.Array:
    """hidden [..., D] times the kernel, float32 [..., V] whatever the compute dtype."""
    return jnp.einsum(
        "...D,DV->...V",
        hidden,
        kernel_DV.astype(hidden.dtype),
        preferred_element_type=jnp.float32,
    )


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
