"""The decoder. A block is one layer; a sequence scans over it, a decoding step unrolls it.

Layers with a dense MLP that come before layers with experts are a scan of their own.
"""

import dataclasses
import operator
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.core import keys
from r1_jax.models import attention, block, embedding, experts, layers, mtp, prefix, rotary
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

Params = Any  # nested dict of float32 arrays, layers stacked on a leading axis


class _SequenceLayer(nn.Module):
    """The body of a layer scan: a block that attends causally within its own sequence."""

    config: model_config.ModelConfig
    dense: bool
    collect: bool
    shared: prefix.Shared | None

    @nn.compact
    def __call__(self, x_BTD, turn, segment_BT, mask_BT, chosen_BTX):
        def mix(q_BTNH, k_BTKH, v_BTKU, scale):
            assert v_BTKU is not None  # not absorbed
            if self.shared is None:
                mixed = attention.causal(q_BTNH, k_BTKH, v_BTKU, segment_BT, scale)
            else:
                mixed = attention.behind_prefix(q_BTNH, k_BTKH, v_BTKU, self.shared, scale)
            return mixed, (k_BTKH, v_BTKU)

        layer = block.Block(self.config, self.dense, name="block")
        x_BTD, kv, routed = layer(x_BTD, turn, mix, mask_BT, chosen_BTX)
        return x_BTD, (kv if self.collect else None, routed)


# Layers up to which a pass is unrolled: on a CPU a short loop's copies cost more than it saves,
# which is compilation; on a GPU any loop's do, of what it keeps for the backward pass and of zeros.
UNROLLED, GPU_UNROLLED = 8, 32

_REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
    "parts": jax.checkpoint_policies.nothing_saveable,
}


class Transformer(nn.Module):
    """Final hidden states of whole sequences; the vocabulary head is applied elsewhere."""

    config: model_config.ModelConfig

    @nn.compact
    def __call__(
        self,
        tokens_BT,
        position_BT,
        segment_BT=None,
        mask_BT=None,
        chosen_LBTX=None,
        *,
        collect: bool = False,
        shared: prefix.Shared | None = None,
    ):
        """(hidden_BTD after the last norm, kv or None, routed or None); see `routed_forward`."""
        c = self.config
        normal = nn.initializers.normal(c.init_std)
        table_VD = layers.parameter(
            self, "embedding", normal, (c.vocab_size, c.embed_dim), ("vocab", "embed")
        )
        if not c.tied_embeddings:  # read by heads.kernel
            layers.parameter(self, "head", normal, (c.embed_dim, c.vocab_size), ("embed", "vocab"))
        x_BTD = embedding.rows(table_VD, tokens_BT, jnp.dtype(c.compute_dtype))
        turn = rotary.turn(c, position_BT)
        most = GPU_UNROLLED if meshes.is_of_gpus() else UNROLLED

        def stack(name, dense, length, x_BTD, chosen_LBTX):
            whole = cast(Any, nn.broadcast)
            is_unrolled = length <= most and not self.is_initializing()
            body = _SequenceLayer
            if c.remat != "none":  # out of a loop the compiler would find that all is there already
                body = nn.remat(body, prevent_cse=is_unrolled, policy=_REMAT[c.remat])
            return nn.scan(
                body,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=cast(Any, (whole, whole, whole, 0)),
                length=length,
                # Fresh parameters are drawn once: there the loop costs less, to be compiled.
                unroll=length if is_unrolled else 1,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )(c, dense, collect, shared, name=name)(x_BTD, turn, segment_BT, mask_BT, chosen_LBTX)

        if c.experts is None:
            x_BTD, (kv, routed) = stack("layers", True, c.num_layers, x_BTD, None)
        else:
            dense_kv, num_dense = None, c.num_dense_layers
            if num_dense:
                x_BTD, (dense_kv, _) = stack("dense_layers", True, num_dense, x_BTD, None)
            num_sparse = c.num_layers - num_dense
            x_BTD, (kv, routed) = stack("layers", False, num_sparse, x_BTD, chosen_LBTX)
            if dense_kv is not None:
                kv = jax.tree.map(lambda *pair: jnp.concatenate(pair), dense_kv, kv)
        return layers.RMSNorm(c.norm_epsilon, name="final_norm")(x_BTD), kv, routed


def init_boxed(config: model_config.ModelConfig, key: jax.Array) -> Params:
    """Fresh parameters, each boxed with its logical axes: what `place.shardings` reads."""
    one = jnp.zeros((1, 1), jnp.int32)
    params = Transformer(config).init(key, one, one, mask_BT=one == 0)["params"]
    if config.mtp_layers:
        params = {**params, "mtp": mtp.init_boxed(config, keys.at(key, "mtp"))}
    return params


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
    hidden_BTD, kv, _ = routed_forward(
        config, params, tokens_BT, position_BT, segment_BT, collect=collect
    )
    return hidden_BTD, kv


def routed_forward(
    config: model_config.ModelConfig,
    params: Params,
    tokens_BT: jax.Array,
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    mask_BT: jax.Array | None = None,
    chosen_LBTX: jax.Array | None = None,
    *,
    collect: bool = False,
    shared: prefix.Shared | None = None,
) -> tuple[jax.Array, Any, experts.Routed | None]:
    """(hidden_BTD after the last norm, kv or None, what routers did or None without experts).

    position_BT: int32, counting from 0 unless given. segment_BT: int32 document numbers of packed
    or padded rows, or None. mask_BT: bool, the tokens that load and balance loss count, all unless
    given. chosen_LBTX: Routed.chosen_BTX of another pass, replayed in place of the routers' own.
    kv: (k, v) [L, B, T, K, H] each if `collect`; latent attention's are (latents, None). shared:
    how the given arrays were folded, positions with them; segments are then not looked at.
    """
    T = tokens_BT.shape[1]
    if position_BT is None:
        position_BT = jnp.broadcast_to(jnp.arange(T)[None, :], tokens_BT.shape)
    if config.experts is not None and mask_BT is None:
        mask_BT = jnp.ones(tokens_BT.shape, bool)
    pad = -T % place.ways("length")  # behind the sequence, where nothing of it looks
    sequences = (_longer(x, pad) for x in (tokens_BT, position_BT, segment_BT, mask_BT))
    out = Transformer(config).apply(
        {"params": params},
        *sequences,
        _longer(chosen_LBTX, pad, axis=2),
        collect=collect,
        shared=shared,
    )
    hidden_BTD, kv, routed = cast(tuple[jax.Array, Any, experts.Routed | None], out)
    if pad:
        hidden_BTD, kv = hidden_BTD[:, :T], jax.tree.map(lambda x: x[:, :, :T], kv)
        if routed is not None:
            routed = dataclasses.replace(routed, chosen_BTX=routed.chosen_BTX[:, :, :T])
    return hidden_BTD, kv, routed


def _longer(x: jax.Array | None, pad: int, *, axis: int = 1) -> jax.Array | None:
    """`x` with `pad` zeros behind it along `axis`."""
    if x is None or not pad:
        return x
    return jnp.pad(x, [(0, pad if i == axis else 0) for i in range(x.ndim)])


def embed(config: model_config.ModelConfig, params: Params, tokens_BT: jax.Array) -> jax.Array:
    """Embedded tokens [B, T, D] in compute_dtype, as the first block reads them."""
    names = ("batch", "length", "act_embed")
    return layers.embed(params["embedding"], tokens_BT, names, jnp.dtype(config.compute_dtype))


def unstack(config: model_config.ModelConfig, params: Params) -> tuple[Params, ...]:
    """Each layer's own parameters, cut out of the stack once per rollout and not once per token."""

    def cut(stack, num_layers):
        return [
            layers.join(jax.tree.map(operator.itemgetter(layer), stack["block"]))
            for layer in range(num_layers)
        ]

    if config.experts is None:
        return tuple(cut(params["layers"], config.num_layers))
    num_dense = config.num_dense_layers
    dense = cut(params["dense_layers"], num_dense) if num_dense else []
    return (*dense, *cut(params["layers"], config.num_layers - num_dense))


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
    return routed_step(config, params, blocks, token_B, cache, slot)[:2]


def routed_step(
    config: model_config.ModelConfig,
    params: Params,
    blocks: tuple[Params, ...],
    token_B: jax.Array,
    cache: kv_cache.KVCache,
    slot: jax.Array,
) -> tuple[jax.Array, kv_cache.KVCache, jax.Array | None]:
    """`step`, and int32 [L, B, X], the experts that its tokens chose, or None without experts."""
    seen_B1S = kv_cache.seen(cache, slot)
    hidden_B1D, older, chosen_LB1X = routed_steps(
        config, params, blocks, token_B[:, None], cache, slot, seen_B1S
    )
    older = dataclasses.replace(older, age_B=cache.age_B + 1)
    return hidden_B1D[:, 0], older, None if chosen_LB1X is None else chosen_LB1X[:, :, 0]


def routed_steps(
    config: model_config.ModelConfig,
    params: Params,
    blocks: tuple[Params, ...],
    tokens_BQ: jax.Array,
    cache: kv_cache.KVCache,
    slot: jax.Array,
    seen_BQS: jax.Array,
) -> tuple[jax.Array, kv_cache.KVCache, jax.Array | None]:
    """(hidden_BQD, the cache with Q slots written from `slot` on, chosen [L, B, Q, X] or None).

    Reads in Q tokens a row, one after the other, at positions prefix_length_B + age_B + 0 .. Q - 1;
    seen_BQS: the ring slots that each sees (cache.attend). The cache's ages stay as they are.
    """
    Q = tokens_BQ.shape[1]
    position_BQ = (cache.prefix_length_B + cache.age_B)[:, None] + jnp.arange(Q)[None, :]
    x_BQD, turn = embed(config, params, tokens_BQ), rotary.turn(config, position_BQ)
    mask_BQ = jnp.ones(position_BQ.shape, bool)
    written, chosen = [], []
    for layer, of_layer in enumerate(blocks):
        mix = kv_cache.attend(cache, layer, slot, seen_BQS)
        module = block.Block(config, dense=layer < config.num_dense_layers, absorbed=True)
        out = module.apply({"params": of_layer}, x_BQD, turn, mix, mask_BQ)
        x_BQD, kv, routed = cast(tuple[jax.Array, Any, experts.Routed | None], out)
        written.append(kv)
        if routed is not None:
            chosen.append(routed.chosen_BTX)
    norm = layers.RMSNorm(config.norm_epsilon)
    x_BQD = cast(jax.Array, norm.apply({"params": params["final_norm"]}, x_BQD))
    return x_BQD, kv_cache.with_rings(cache, written), jnp.stack(chosen) if chosen else None
