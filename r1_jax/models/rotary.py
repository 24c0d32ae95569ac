"""Rotary positions: frequencies, their published scalings, and the turn itself."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.models import config as model_config
from r1_jax.sharding import place


def frequencies(config: model_config.ModelConfig, num_features: int) -> jax.Array:
    """Radians a token by pair of features, float32 [num_features / 2], scaled as config says."""
    half = num_features // 2
    frequency_F = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if config.llama3_rope is None and config.yarn is None:
        return frequency_F
    exact_F = config.rope_theta ** (-np.arange(half) / half)
    if config.llama3_rope:
        kept_F = _llama3_kept(config.llama3_rope, exact_F)
        factor = config.llama3_rope.factor
    else:
        assert config.yarn is not None
        kept_F = _yarn_kept(config.yarn, config.rope_theta, half)
        factor = config.yarn.factor
    return frequency_F * np.asarray(kept_F + (1 - kept_F) / factor, np.float32)


def _llama3_kept(rope: model_config.Llama3Rope, frequency_F: np.ndarray) -> np.ndarray:
    """The share in [0, 1] of each frequency that is not divided by the factor (Llama 3.1)."""
    turns_F = rope.original_length * frequency_F / (2 * math.pi)
    span = rope.high_freq_factor - rope.low_freq_factor
    return np.clip((turns_F - rope.low_freq_factor) / span, 0, 1)


def _yarn_kept(yarn: model_config.Yarn, theta: float, half: int) -> np.ndarray:
    """The same for YaRN (arXiv:2309.00071, section 3.2): a ramp over pairs, whole at its ends."""

    def pair(turns: float) -> float:  # the pair that turns so often within the original length
        return half * math.log(yarn.original_length / (turns * 2 * math.pi)) / math.log(theta)

    first = max(math.floor(pair(yarn.beta_fast)), 0)
    last = min(math.ceil(pair(yarn.beta_slow)), 2 * half - 1)
    return 1 - np.clip((np.arange(half) - first) / max(last - first, 1e-3), 0, 1)


def _yarn_magnitude(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1


def magnitude(config: model_config.ModelConfig) -> float:
    """What cos and sin are multiplied by: YaRN's temperature, 1 without it."""
    if config.yarn is None:
        return 1.0
    yarn = config.yarn
    all_dim = _yarn_magnitude(yarn.factor, yarn.mscale_all_dim)
    return _yarn_magnitude(yarn.factor, yarn.mscale) / all_dim


def logit_scale(config: model_config.ModelConfig) -> float:
    """What attention logits are multiplied by: H^-1/2, with DeepSeek's YaRN m(mscale_all_dim)^2."""
    scale = config.head_dim**-0.5
    if config.yarn is None:
        return scale
    return scale * _yarn_magnitude(config.yarn.factor, config.yarn.mscale_all_dim) ** 2


class Turn(NamedTuple):
    """How far every position is turned, float32: for all layers and heads the same.

    As wide as what is turned: made once a pass and read by whoever turns. Angles that each layer
    makes for itself, XLA's CPU computes anew for every head and feature of it, with sine and cosine
    (bench/README.md).
    """

    cos_BTH: jax.Array
    sin_BTH: jax.Array  # the first half of the features has it negative


def turn(config: model_config.ModelConfig, position_BT: jax.Array) -> Turn:
    """position_BT: int32 tokens from the row's start."""
    num_features = config.latent.rope_dim if config.latent else config.head_dim
    frequency_F = frequencies(config, num_features)
    angle_BTF = position_BT[:, :, None].astype(jnp.float32) * frequency_F[None, None, :]
    sin, cos = jnp.sin(angle_BTF), jnp.cos(angle_BTF)
    if magnitude(config) != 1:
        sin, cos = sin * magnitude(config), cos * magnitude(config)
    wide = jnp.concatenate([cos, cos], axis=-1), jnp.concatenate([-sin, sin], axis=-1)
    return Turn(*(place.constrain(x, "batch", "length", None) for x in wide))


def rotate(config: model_config.ModelConfig, x_BTNH: jax.Array, turn: Turn) -> jax.Array:
    """x turned by its position: RoFormer (arXiv:2104.09864) Eq. 34, computed in float32.

    Pairs are halves (x[i], x[i + H/2]) as in Qwen2.5 and Llama, or neighbours (x[2i], x[2i + 1])
    with latent attention; the latter come out as halves, which no product of a query with a key
    can see.
    """
    x32_BTNH = x_BTNH.astype(jnp.float32)
    if config.latent:
        x32_BTNH = jnp.concatenate([x32_BTNH[..., 0::2], x32_BTNH[..., 1::2]], axis=-1)
    other_BTNH = jnp.roll(x32_BTNH, x_BTNH.shape[-1] // 2, axis=-1)
    turned_BTNH = x32_BTNH * turn.cos_BTH[:, :, None] + other_BTNH * turn.sin_BTH[:, :, None]
    return turned_BTNH.astype(x_BTNH.dtype)
