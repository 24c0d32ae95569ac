"""A reward model: a decoder under a scalar head; one number per text, read at its last token."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import heads, transformer

Params = Any  # {"transformer": as the policy's without a vocabulary head, "scalar": the head's}


def headless(config: model_config.ModelConfig) -> model_config.ModelConfig:
    """The same decoder without an untied vocabulary head: no parameters that nobody reads."""
    return dataclasses.replace(config, tied_embeddings=True, mtp_layers=0)


def init_boxed(config: model_config.ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters, each boxed with its logical axes: what `place.shardings` reads."""
    decoder = transformer.init_boxed(headless(config), key)
    return {"transformer": decoder, "scalar": heads.init_scalar_boxed(config)}


def from_policy(config: model_config.ModelConfig, params: transformer.Params) -> Params:
    """A reward model that reads as the policy does and says 0 of every text.

    Its decoder holds the policy's arrays themselves; an untied vocabulary head is left behind.
    """
    read = {name: leaf for name, leaf in params.items() if name not in ("head", "mtp")}
    return {"transformer": read, "scalar": heads.init_scalar(config)}


def rewards(
    config: model_config.ModelConfig, params: Params, tokens_BT: jax.Array, length_B: jax.Array
) -> jax.Array:
    """reward_B, float32: the scalar head on the last token of every row.

    tokens_BT: int32, prompt and response, whatever after them. length_B: int32, tokens of both, at
    least 1. DeepSeek-R1 (Nature, 2025) 3.1: the architecture of R1 and a reward head on it.
    """
    hidden_BTD, _ = transformer.forward(headless(config), params["transformer"], tokens_BT)
    last_B11 = (length_B - 1)[:, None, None]
    hidden_BD = jnp.take_along_axis(hidden_BTD, last_B11, axis=1)[:, 0]
    return heads.scalar(params["scalar"], hidden_BD)
