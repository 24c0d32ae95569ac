"""A critic: its own decoder under a scalar head; what it expects before each token is drawn."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import heads, transformer

Params = Any  # {"transformer": as the policy's without a vocabulary head, "scalar": the head's}


def from_policy(config: model_config.ModelConfig, params: transformer.Params) -> Params:
    """A new critic that reads as the policy does and expects 0 everywhere.

    Its decoder is a copy of the policy's arrays, which an update may donate; an untied vocabulary
    head is left behind.
    """
    read = {name: leaf for name, leaf in params.items() if name not in ("head", "mtp")}
    return {
        "transformer": jax.tree.map(lambda x: x.copy(), read),
        "scalar": heads.init_scalar(config),
    }


def values(config: model_config.ModelConfig, params: Params, tokens_BT: jax.Array) -> jax.Array:
    """values_BT, float32: at t, what is expected of tokens 0..t-1, before token t is drawn.

    So column t stands beside the log-prob of token t. Column 0 is 0: nothing stands before it.
    """
    headless = dataclasses.replace(config, tied_embeddings=True, mtp_layers=0)
    hidden_BTD, _ = transformer.forward(headless, params["transformer"], tokens_BT)
    return jnp.pad(heads.scalar(params["scalar"], hidden_BTD[:, :-1]), ((0, 0), (1, 0)))
