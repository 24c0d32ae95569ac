"""The vocabulary head: hidden states to logits, always float32."""

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
