"""Grouped-query attention (arXiv:2305.13245): projections, and what mixes positions.

The module projects and rotates; a `mix` function given by the caller attends. `causal` mixes a
whole sequence, `cache.attend` one new token with what is cached: everything else is shared, so a
decoding step and a full forward pass are the same code.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import cudnn, flash, layers, prefix, rotary
from r1_jax.sharding import axes, place
from r1_jax.sharding import mesh as meshes

MASKED = -1e30  # finite, so that a row in which all is masked gives no NaN

# (queries, keys, values or None where they are the keys' first features, logits' scale)
# -> (mixed values, what is carried out)
Mix = Callable[[jax.Array, jax.Array, jax.Array | None, float], tuple[jax.Array, Any]]


def causal(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKU: jax.Array,
    segment_BT: jax.Array | None,
    scale: float | None = None,
) -> jax.Array:
    """Attention of every position to itself and earlier ones of its own segment, [B, T, N, U].

    U is H but for latent attention. scale: of the logits, H^-1/2 unless given.
    segment_BT: int32 document number per position for packed rows; None means one per row, where
    padding on the right needs no mask because nothing later looks at it. Softmax in float32.
    The backward pass recomputes the weights from the saved normaliser, as FlashAttention does
    (arXiv:2205.14135); [T, T] weights exist for one block of queries at a time.
    """
    B, T, _, H = q_BTNH.shape
    scale = float(H**-0.5 if scale is None else scale)
    if segment_BT is None:
        if cudnn.is_of_use(q_BTNH, v_BTKU):
            return cudnn.causal(q_BTNH, k_BTKH, v_BTKU, scale)
        segment_BT = jnp.zeros((B, T), jnp.int32)
    if flash.is_of_use(T):
        return flash.causal(q_BTNH, k_BTKH, v_BTKU, segment_BT, scale)
    if place.ways("length") > 1:
        return _across(q_BTNH, k_BTKH, v_BTKU, segment_BT, scale)
    return _here(q_BTNH, k_BTKH, v_BTKU, (segment_BT, segment_BT), None, scale)


def behind_prefix(
    q_PUNH: jax.Array,
    k_PUKH: jax.Array,
    v_PUKU: jax.Array,
    shared: prefix.Shared,
    scale: float | None = None,
) -> jax.Array:
    """`causal` of rows folded by `shared`, [P, U, N, ...]: each sees the prefix and itself."""
    scale = float(q_PUNH.shape[-1] ** -0.5 if scale is None else scale)
    if cudnn.is_of_use(q_PUNH, v_PUKU):
        # The prefix's queries stand in every row, for square attention; one row's answers count.
        q_BTNH, k_BTKH, v_BTKU = (shared.whole(x) for x in (q_PUNH, k_PUKH, v_PUKU))
        return shared.fold(cudnn.causal(q_BTNH, k_BTKH, v_BTKU, scale))
    S = shared.length
    first = causal(q_PUNH[:, :S], k_PUKH[:, :S], v_PUKU[:, :S], None, scale)
    q_BtNH, k_BTKH, v_BTKU = shared.own(q_PUNH), shared.whole(k_PUKH), shared.whole(v_PUKU)
    segments = tuple(jnp.zeros(x.shape[:2], jnp.int32) for x in (q_BtNH, k_BTKH))
    own = _here(q_BtNH, k_BTKH, v_BTKU, segments, None, scale)
    return jnp.concatenate([first, own.reshape(len(first), -1, *own.shape[2:])], axis=1)


def _here(q_BTNH, k_BSKH, v_BSKU, segments, first, scale):
    """`causal` on one device. segments: (segment_BT, segment_BS) of queries and keys. first: int32,
    where among the S keys' positions the T queries begin; None: where they are the last ones."""
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    q_BKRTH = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
    k_BKSH, v_BKSU = k_BSKH.swapaxes(1, 2), v_BSKU.swapaxes(1, 2)
    out_BKRTU = cast(jax.Array, _blockwise(q_BKRTH, k_BKSH, v_BKSU, segments, first, scale))
    return out_BKRTU.transpose(0, 3, 1, 2, 4).reshape(B, T, N, -1)


def _across(q_BTNH, k_BTKH, v_BTKU, segment_BT, scale):
    """`causal` where the mesh splits positions: queries stay, keys and values are gathered."""
    active = meshes.current()
    assert active is not None
    (axis,) = axes.mesh_axes("length", active.rules, active.mesh.axis_names)
    of_q = ("batch", "length", "act_heads", "head_dim")
    of_k = ("batch", "length", "act_kv_heads", "head_dim")
    inputs = q_BTNH, k_BTKH, v_BTKU, segment_BT
    names = of_q, of_k, of_k, ("batch", "length")
    specs = [place.activation_spec(x, n) for x, n in zip(inputs, names, strict=True)]

    def of_this_device(q_BTNH, *of_keys):
        k_BSKH, v_BSKU, segment_BS = (
            jax.lax.all_gather(x, axis, axis=1, tiled=True) for x in of_keys
        )
        first = jax.lax.axis_index(axis) * q_BTNH.shape[1]
        return _here(q_BTNH, k_BSKH, v_BSKU, (of_keys[2], segment_BS), first, scale)

    return jax.shard_map(
        of_this_device,
        mesh=active.mesh,
        in_specs=tuple(specs),
        out_specs=specs[0],
        check_vma=False,
    )(*inputs)


BLOCK, MAX_BLOCKS = 128, 16  # queries a block, and how far its loop is unrolled


def _blocks(num_queries: int, num_keys: int, begin) -> list[tuple[int, int, int]]:
    """(first, last + 1, the keys looked at) of every block of queries, as even as can be.

    Keys after a block's end are never touched, where it is known where that is: begin is None.
    """
    num_blocks = min(-(-num_queries // BLOCK), MAX_BLOCKS)
    size = -(-num_queries // num_blocks)
    ends = [(i, min(i + size, num_queries)) for i in range(0, num_queries, size)]
    behind = num_keys - num_queries
    return [(i, end, num_keys if begin is not None else behind + end) for i, end in ends]


def _block_logits(q_BKQH, k_BKSH, segments, begin, first: int, last: int, scale: float):
    """Scaled float32 logits of queries first..last (R of them a position) to the S first keys.

    begin: where the first query is among the keys; None where the last query is the last key.
    """
    Q, S = q_BKQH.shape[2], k_BKSH.shape[2]
    if begin is None:
        begin = S - last
    segment_BT, segment_BS = segments
    logits_BKQS = jnp.einsum("BKQH,BKSH->BKQS", q_BKQH, k_BKSH, preferred_element_type=jnp.float32)
    position_T = begin + jnp.arange(first, last)
    seen_TS = jnp.arange(S)[None, :] <= position_T[:, None]
    same_BTS = segment_BT[:, first:last, None] == segment_BS[:, None, :S]
    bias_BTS = jnp.where(seen_TS[None] & same_BTS, 0.0, MASKED)
    bias_BQS = jnp.tile(bias_BTS, (1, Q // (last - first), 1))
    return logits_BKQS * scale + bias_BQS[:, None]


def _cut(x_BKRTH, first: int, last: int):
    """Positions first..last with the R heads of a group folded into them: [B, K, R*t, H]."""
    B, K, R, _, H = x_BKRTH.shape
    return x_BKRTH[:, :, :, first:last].reshape(B, K, R * (last - first), H)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _blockwise(q_BKRTH, k_BKSH, v_BKSU, segments, begin, scale):
    return _blockwise_forward(q_BKRTH, k_BKSH, v_BKSU, segments, begin, scale)[0]


def _blockwise_forward(q_BKRTH, k_BKSH, v_BKSU, segments, begin, scale):
    B, K, R, T, _ = q_BKRTH.shape
    U = v_BKSU.shape[-1]
    outs, normalisers = [], []
    for first, last, end in _blocks(T, k_BKSH.shape[2], begin):
        q_BKQH = _cut(q_BKRTH, first, last)
        keys = k_BKSH[:, :, :end]
        logits_BKQS = _block_logits(q_BKQH, keys, segments, begin, first, last, scale)
        top_BKQ1 = jnp.max(logits_BKQS, axis=-1, keepdims=True)
        weights_BKQS = jnp.exp(logits_BKQS - top_BKQ1)
        sum_BKQ1 = jnp.sum(weights_BKQS, axis=-1, keepdims=True)
        mixed_BKQU = jnp.einsum(
            "BKQS,BKSU->BKQU",
            weights_BKQS.astype(v_BKSU.dtype),
            v_BKSU[:, :, :end],
            preferred_element_type=jnp.float32,
        )
        outs.append((mixed_BKQU / sum_BKQ1).astype(q_BKRTH.dtype).reshape(B, K, R, -1, U))
        normalisers.append(top_BKQ1 + jnp.log(sum_BKQ1))
    out_BKRTU = jnp.concatenate(outs, axis=3)
    saved = q_BKRTH, k_BKSH, v_BKSU, segments, begin, out_BKRTU, tuple(normalisers)
    return out_BKRTU, saved


def _blockwise_backward(scale, saved, g_BKRTU):
    q_BKRTH, k_BKSH, v_BKSU, segments, begin, out_BKRTU, normalisers = saved
    B, K, R, T, H = q_BKRTH.shape
    dk_BKSH = jnp.zeros(k_BKSH.shape, jnp.float32)
    dv_BKSU = jnp.zeros(v_BKSU.shape, jnp.float32)
    dqs = []
    blocks = _blocks(T, k_BKSH.shape[2], begin)
    for (first, last, end), normaliser_BKQ1 in zip(blocks, normalisers, strict=True):
        q_BKQH, g_BKQU = _cut(q_BKRTH, first, last), _cut(g_BKRTU, first, last)
        keys, values = k_BKSH[:, :, :end], v_BKSU[:, :, :end]
        logits_BKQS = _block_logits(q_BKQH, keys, segments, begin, first, last, scale)
        weights_BKQS = jnp.exp(logits_BKQS - normaliser_BKQ1)
        dweights_BKQS = jnp.einsum(
            "BKQU,BKSU->BKQS", g_BKQU, values, preferred_element_type=jnp.float32
        )
        inner_BKQ1 = jnp.sum(
            g_BKQU.astype(jnp.float32) * _cut(out_BKRTU, first, last), axis=-1, keepdims=True
        )
        dlogits_BKQS = weights_BKQS * (dweights_BKQS - inner_BKQ1) * scale
        dlogits_BKQS = dlogits_BKQS.astype(q_BKQH.dtype)
        dqs.append(jnp.einsum("BKQS,BKSH->BKQH", dlogits_BKQS, keys).reshape(B, K, R, -1, H))
        dk_BKSH = dk_BKSH.at[:, :, :end].add(jnp.einsum("BKQS,BKQH->BKSH", dlogits_BKQS, q_BKQH))
        dv_BKSU = dv_BKSU.at[:, :, :end].add(
            jnp.einsum("BKQS,BKQU->BKSU", weights_BKQS.astype(g_BKQU.dtype), g_BKQU)
        )
    dq_BKRTH = jnp.concatenate(dqs, axis=3).astype(q_BKRTH.dtype)
    return dq_BKRTH, dk_BKSH.astype(k_BKSH.dtype), dv_BKSU.astype(v_BKSU.dtype), None, None


_blockwise.defvjp(_blockwise_forward, _blockwise_backward)


class Attention(nn.Module):
    """Projections and rotary around `mix`; returns (output [B, T, D], what mix carried out)."""

    config: model_config.ModelConfig

    @nn.compact
    def __call__(self, x_BTD, turn: rotary.Turn, mix: Mix):
        c = self.config
        std = c.init_std

        def project(name, num_heads, axis, product):
            return layers.Linear(
                (c.embed_dim,),
                (num_heads, c.head_dim),
                ("embed", axis, "head_dim"),
                std,
                bias=c.qkv_bias,
                name=name,
            )(x_BTD, product)

        N, K = c.num_heads, c.num_kv_heads
        of_q, of_k, of_v = layers.products(self, x_BTD, (N, K, K))
        q_BTNH = project("query", N, "heads", of_q)
        k_BTKH = project("key", K, "kv_heads", of_k)
        v_BTKH = project("value", K, "kv_heads", of_v)
        if c.qk_norm:
            q_BTNH = layers.RMSNorm(c.norm_epsilon, "head_dim", name="query_norm")(q_BTNH)
            k_BTKH = layers.RMSNorm(c.norm_epsilon, "head_dim", name="key_norm")(k_BTKH)
        q_BTNH = rotary.rotate(c, q_BTNH, turn)
        k_BTKH = rotary.rotate(c, k_BTKH, turn)
        q_BTNH = place.constrain(q_BTNH, "batch", "length", "act_heads", "head_dim")
        k_BTKH = place.constrain(k_BTKH, "batch", "length", "act_kv_heads", "head_dim")
        v_BTKH = place.constrain(v_BTKH, "batch", "length", "act_kv_heads", "head_dim")
        out_BTNH, carried = mix(q_BTNH, k_BTKH, v_BTKH, rotary.logit_scale(c))
        out_BTD = layers.Linear(
            (c.num_heads, c.head_dim),
            (c.embed_dim,),
            ("heads", "head_dim", "embed"),
            layers.residual_std(c),
            name="out",
        )(out_BTNH)
        return out_BTD, carried
