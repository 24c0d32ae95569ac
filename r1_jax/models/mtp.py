"""Multi-token prediction, depth 1 (DeepSeek-V3, arXiv:2412.19437, section 2.2).

From the decoder's state after token t and token t + 1 itself, one more layer makes the state that
predicts token t + 2. Embedding and vocabulary head are the decoder's own. The state is taken after
the decoder's final norm, as the published inference code does; the report leaves that open.
"""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import attention, block, experts, layers, rotary
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config


class Predictor(nn.Module):
    """final_norm(layer(join([embedding_norm(token), hidden_norm(hidden)]))) and what it carries.

    hidden_BTD: the decoder's at t. embedded_BTD: of token t + 1. The layer has experts where the
    decoder has. Returns as block.Block does, the norm included.
    """

    config: model_config.ModelConfig
    absorbed: bool = False

    @nn.compact
    def __call__(self, hidden_BTD, embedded_BTD, position_BT, mix: attention.Mix, mask_BT):
        c = self.config
        parts = [
            layers.RMSNorm(c.norm_epsilon, name="embedding_norm")(embedded_BTD),
            layers.RMSNorm(c.norm_epsilon, name="hidden_norm")(hidden_BTD),
        ]
        width, axes = (2 * c.embed_dim,), ("embed", "latent")
        join = layers.Linear(width, (c.embed_dim,), axes, c.init_std, name="join")
        x_BTD = join(jnp.concatenate(parts, axis=-1))
        layer = block.Block(c, dense=c.experts is None, absorbed=self.absorbed, name="layer")
        x_BTD, carried, routed = layer(x_BTD, rotary.turn(c, position_BT), mix, mask_BT)
        return layers.RMSNorm(c.norm_epsilon, name="final_norm")(x_BTD), carried, routed


def causal(segment_BT: jax.Array | None) -> attention.Mix:
    """A `mix` over whole sequences that carries out keys and values, as a cache is filled with."""

    def mix(q_BTNH, k_BTKH, v_BTKU, scale):
        assert v_BTKU is not None  # not absorbed
        return attention.causal(q_BTNH, k_BTKH, v_BTKU, segment_BT, scale), (k_BTKH, v_BTKU)

    return mix


def init_boxed(config: model_config.ModelConfig, key: jax.Array) -> Any:
    """Fresh parameters of a Predictor, boxed with their logical axes."""
    one_BTD = jnp.zeros((1, 1, config.embed_dim))
    one_BT = jnp.zeros((1, 1), jnp.int32)
    module = Predictor(config)
    return module.init(key, one_BTD, one_BTD, one_BT, causal(None), one_BT == 0)["params"]


def forward(
    config: model_config.ModelConfig,
    predictor: Any,
    hidden_BTD: jax.Array,
    embedded_BTD: jax.Array,
    position_BT: jax.Array,
    segment_BT: jax.Array | None,
    mask_BT: jax.Array,
) -> tuple[jax.Array, Any, experts.Routed | None]:
    """(hidden_BTD that predicts two tokens on, kv, routed or None) over whole sequences.

    predictor: params["mtp"]. embedded_BTD: at t, of token t + 1. mask_BT: as for
    transformer.routed_forward.
    """
    out = Predictor(config).apply(
        {"params": predictor}, hidden_BTD, embedded_BTD, position_BT, causal(segment_BT), mask_BT
    )
    return cast(tuple[jax.Array, Any, experts.Routed | None], out)


def steps(
    config: model_config.ModelConfig,
    predictor: Any,
    hidden_BQD: jax.Array,
    embedded_BQD: jax.Array,
    position_BQ: jax.Array,
    cache: kv_cache.KVCache,
    slot: jax.Array,
    seen_BQS: jax.Array,
) -> tuple[jax.Array, kv_cache.KVCache]:
    """(hidden_BQD that predict two tokens on, the one-layer cache with Q slots more): `forward`,
    from the cache. seen_BQS: as for cache.attend."""
    out = Predictor(config, absorbed=True).apply(
        {"params": predictor},
        hidden_BQD,
        embedded_BQD,
        position_BQ,
        kv_cache.attend(cache, 0, slot, seen_BQS),
        jnp.ones(position_BQ.shape, bool),
    )
    ahead_BQD, kv, _ = cast(tuple[jax.Array, Any, experts.Routed | None], out)
    return ahead_BQD, kv_cache.with_rings(cache, [kv])
