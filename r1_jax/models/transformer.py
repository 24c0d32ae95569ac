"""The decoder. `Block` is one layer; a sequence scans over it, a decoding step unrolls it."""

import dataclasses
import operator
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import attention, layers
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config
from r1_jax.sharding import place

Params = Any  # nested dict of float32 arrays, layers stacked on a leading axis


class Block(nn.Module):
    """One pre-norm layer: x + attention(norm(x)), then x + SwiGLU(norm(x))."""

    config: model_config.ModelConfig

    @nn.compact
    def __call__(self, x_BTD, position_BT, mix: attention.Mix):
        c = self.config
        normed_BTD = layers.RMSNorm(c.norm_epsilon, name="attention_norm")(x_BTD)
        attended_BTD, carried = attention.Attention(c, name="attention")(
            normed_BTD, position_BT, mix
        )
        x_BTD = place.constrain(x_BTD + attended_BTD, "batch", "length", "act_embed")
        normed_BTD = layers.RMSNorm(c.norm_epsilon, name="mlp_norm")(x_BTD)
        x_BTD = x_BTD + layers.SwiGLU(c, name="mlp")(normed_BTD)
        return place.constrain(x_BTD, "batch", "length", "act_embed"), carried


class _SequenceLayer(nn.Module):
    """The body of the layer scan: a block that attends causally within its own sequence."""

    config: model_config.ModelConfig
    collect: bool

    @nn.compact
    def __call__(self, x_BTD, position_BT, segment_BT):
        def mix(q_BTNH, k_BTKH, v_BTKH):
            out_BTNH = attention.causal(q_BTNH, k_BTKH, v_BTKH, segment_BT)
            return out_BTNH, (k_BTKH, v_BTKH) if self.collect else None

        return Block(self.config, name="block")(x_BTD, position_BT, mix)


UNROLLED = 4  # layers up to which a pass is unrolled: a short loop's copies cost more than it saves

_REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Transformer(nn.Module):
    """Final hidden states of whole sequences; the vocabulary head is applied elsewhere."""

    config: model_config.ModelConfig

    @nn.compact
    def __call__(self, tokens_BT, position_BT, segment_BT=None, *, collect: bool = False):
        """hidden_BTD after the last norm, and (k, v) [L, B, T, K, H] each if `collect`, else None.

        tokens_BT, position_BT: int32. segment_BT: int32 document numbers of packed rows, or None.
        """
        c = self.config
        normal = nn.initializers.normal(c.init_std)
        table_VD = layers.parameter(
            self, "embedding", normal, (c.vocab_size, c.embed_dim), ("vocab", "embed")
        )
        if not c.tied_embeddings:  # read by heads.kernel
            layers.parameter(self, "head", normal, (c.embed_dim, c.vocab_size), ("embed", "vocab"))
        names = ("batch", "length", "act_embed")
        x_BTD = layers.embed(table_VD, tokens_BT, names, jnp.dtype(c.compute_dtype))
        body = _SequenceLayer
        if c.remat != "none":
            body = nn.remat(body, prevent_cse=False, policy=_REMAT[c.remat])
        x_BTD, kv = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=cast(Any, nn.broadcast),
            length=c.num_layers,
            unroll=c.num_layers if c.num_layers <= UNROLLED else 1,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(c, collect, name="layers")(x_BTD, position_BT, segment_BT)
        return layers.RMSNorm(c.norm_epsilon, name="final_norm")(x_BTD), kv


def init_boxed(config: model_config.ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters, each boxed with its logical axes: what `place.shardings` reads."""
    one = jnp.zeros((1, 1), jnp.int32)
    return Transformer(config).init(key, one, one)["params"]


def init(config: model_config.ModelConfig, key: jax.Array) -> Params:
    """Fresh float32 parameters as plain arrays."""
    return nn.unbox(init_boxed(config, key))


def forward(
    config: model_config.ModelConfig,
    params: Params,
    tokens_BT: jax.Array,
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    *,
    collect: bool = False,
) -> tuple[jax.Array, Any]:
    """(hidden_BTD, kv or None) of whole sequences; positions count from 0 unless given."""
    if position_BT is None:
        position_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1])[None, :], tokens_BT.shape)
    out = Transformer(config).apply(
        {"params": params}, tokens_BT, position_BT, segment_BT, collect=collect
    )
    return cast(tuple[jax.Array, Any], out)


def unstack(config: model_config.ModelConfig, params: Params) -> tuple[Params, ...]:
    """Each layer's own parameters, cut out of the stack once per rollout and not once per token."""
    block = params["layers"]["block"]
    return tuple(
        jax.tree.map(operator.itemgetter(layer), block) for layer in range(config.num_layers)
    )


def step(
    config: model_config.ModelConfig,
    params: Params,
    blocks: tuple[Params, ...],
    token_B: jax.Array,
    cache: kv_cache.KVCache,
    slot: jax.Array,
) -> tuple[jax.Array, kv_cache.KVCache]:
    """One decoding step of B rows: (hidden_BD after the last norm, the cache one token older).

    token_B: int32, the tokens to read in, at positions prefix_length_B + age_B. blocks: from
    `unstack`. slot: int32 scalar, the ring slot that every row writes.
    """
    position_B1 = (cache.prefix_length_B + cache.age_B)[:, None]
    names = ("batch", "length", "act_embed")
    dtype = jnp.dtype(config.compute_dtype)
    x_B1D = layers.embed(params["embedding"], token_B[:, None], names, dtype)
    written = []
    for layer, block in enumerate(blocks):
        mix = kv_cache.attend(cache, layer, slot)
        x_B1D, kv = Block(config).apply({"params": block}, x_B1D, position_B1, mix)
        written.append(kv)
    norm = layers.RMSNorm(config.norm_epsilon)
    x_B1D = cast(jax.Array, norm.apply({"params": params["final_norm"]}, x_B1D))
    ring_k, ring_v = zip(*written, strict=True)
    older = dataclasses.replace(cache, ring_k=ring_k, ring_v=ring_v, age_B=cache.age_B + 1)
    return x_B1D[:, 0], older
