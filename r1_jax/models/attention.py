"""Grouped-query attention (arXiv:2305.13245): projections, and what mixes positions.

The module projects and rotates; a `mix` function given by the caller attends. `causal` mixes a
whole sequence, `cache.attend` one new token with what is cached: everything else is shared, so a
decoding step and a full forward pass are the same code.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import layers
from r1_jax.sharding import place

MASKED = -1e30  # finite, so that a row in which all is masked gives no NaN

Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


def causal(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, segment_BT: jax.Array | None
) -> jax.Array:
    """Attention of every position to itself and earlier ones of its own segment, [B, T, N, H].

    segment_BT: int32 document number per position for packed rows; None means one per row, where
    padding on the right needs no mask because nothing later looks at it. Softmax in float32.
    The backward pass recomputes the weights from the saved normaliser, as FlashAttention does
    (arXiv:2205.14135); [T, T] weights exist for one block of queries at a time.
    """
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    q_BKRTH = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
    if segment_BT is None:
        segment_BT = jnp.zeros((B, T), jnp.int32)
    out_BKRTH = _blockwise(q_BKRTH, k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2), segment_BT)
    return out_BKRTH.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


MIN_BLOCK, MAX_BLOCKS = 64, 16  # queries a block, and how far its loop is unrolled


def _blocks(num_positions: int) -> list[tuple[int, int]]:
    """(first, last + 1) of every block of queries; keys after a block's end are never touched."""
    size = max(MIN_BLOCK, -(-num_positions // MAX_BLOCKS))
    return [(i, min(i + size, num_positions)) for i in range(0, num_positions, size)]


def _block_logits(q_BKQH, k_BKSH, segment_BT, first: int, last: int):
    """Scaled float32 logits of queries first..last (R of them a position) to keys 0..last."""
    Q, H = q_BKQH.shape[2:]
    logits_BKQS = jnp.einsum("BKQH,BKSH->BKQS", q_BKQH, k_BKSH, preferred_element_type=jnp.float32)
    seen_TS = jnp.arange(last)[None, :] <= jnp.arange(first, last)[:, None]
    same_BTS = segment_BT[:, first:last, None] == segment_BT[:, None, :last]
    bias_BTS = jnp.where(seen_TS[None] & same_BTS, 0.0, MASKED)
    bias_BQS = jnp.tile(bias_BTS, (1, Q // (last - first), 1))
    return logits_BKQS * H**-0.5 + bias_BQS[:, None]


def _cut(x_BKRTH, first: int, last: int):
    """Positions first..last with the R heads of a group folded into them: [B, K, R*t, H]."""
    B, K, R, _, H = x_BKRTH.shape
    return x_BKRTH[:, :, :, first:last].reshape(B, K, R * (last - first), H)


@jax.custom_vjp
def _blockwise(q_BKRTH, k_BKSH, v_BKSH, segment_BT):
    return _blockwise_forward(q_BKRTH, k_BKSH, v_BKSH, segment_BT)[0]


def _blockwise_forward(q_BKRTH, k_BKSH, v_BKSH, segment_BT):
    B, K, R, T, H = q_BKRTH.shape
    outs, normalisers = [], []
    for first, last in _blocks(T):
        q_BKQH = _cut(q_BKRTH, first, last)
        logits_BKQS = _block_logits(q_BKQH, k_BKSH[:, :, :last], segment_BT, first, last)
        top_BKQ1 = jnp.max(logits_BKQS, axis=-1, keepdims=True)
        weights_BKQS = jnp.exp(logits_BKQS - top_BKQ1)
        sum_BKQ1 = jnp.sum(weights_BKQS, axis=-1, keepdims=True)
        mixed_BKQH = jnp.einsum(
            "BKQS,BKSH->BKQH",
            weights_BKQS.astype(v_BKSH.dtype),
            v_BKSH[:, :, :last],
            preferred_element_type=jnp.float32,
        )
        outs.append((mixed_BKQH / sum_BKQ1).astype(q_BKRTH.dtype).reshape(B, K, R, -1, H))
        normalisers.append(top_BKQ1 + jnp.log(sum_BKQ1))
    out_BKRTH = jnp.concatenate(outs, axis=3)
    return out_BKRTH, (q_BKRTH, k_BKSH, v_BKSH, segment_BT, out_BKRTH, tuple(normalisers))


def _blockwise_backward(saved, g_BKRTH):
    q_BKRTH, k_BKSH, v_BKSH, segment_BT, out_BKRTH, normalisers = saved
    B, K, R, T, H = q_BKRTH.shape
    dk_BKSH = jnp.zeros(k_BKSH.shape, jnp.float32)
    dv_BKSH = jnp.zeros(v_BKSH.shape, jnp.float32)
    dqs = []
    for (first, last), normaliser_BKQ1 in zip(_blocks(T), normalisers, strict=True):
        q_BKQH, g_BKQH = _cut(q_BKRTH, first, last), _cut(g_BKRTH, first, last)
        keys, values = k_BKSH[:, :, :last], v_BKSH[:, :, :last]
        logits_BKQS = _block_logits(q_BKQH, keys, segment_BT, first, last)
        weights_BKQS = jnp.exp(logits_BKQS - normaliser_BKQ1)
        dweights_BKQS = jnp.einsum(
            "BKQH,BKSH->BKQS", g_BKQH, values, preferred_element_type=jnp.float32
        )
        inner_BKQ1 = jnp.sum(
            g_BKQH.astype(jnp.float32) * _cut(out_BKRTH, first, last), axis=-1, keepdims=True
        )
        dlogits_BKQS = weights_BKQS * (dweights_BKQS - inner_BKQ1) * H**-0.5
        dlogits_BKQS = dlogits_BKQS.astype(q_BKQH.dtype)
        dqs.append(jnp.einsum("BKQS,BKSH->BKQH", dlogits_BKQS, keys).reshape(B, K, R, -1, H))
        dk_BKSH = dk_BKSH.at[:, :, :last].add(jnp.einsum("BKQS,BKQH->BKSH", dlogits_BKQS, q_BKQH))
        dv_BKSH = dv_BKSH.at[:, :, :last].add(
            jnp.einsum("BKQS,BKQH->BKSH", weights_BKQS.astype(g_BKQH.dtype), g_BKQH)
        )
    dq_BKRTH = jnp.concatenate(dqs, axis=3).astype(q_BKRTH.dtype)
    return dq_BKRTH, dk_BKSH.astype(k_BKSH.dtype), dv_BKSH.astype(v_BKSH.dtype), None


_blockwise.defvjp(_blockwise_forward, _blockwise_backward)


class Attention(nn.Module):
    """Projections and rotary around `mix`; returns (output [B, T, D], what mix carried out)."""

    config: model_config.ModelConfig

    @nn.compact
    def __call__(self, x_BTD, position_BT, mix: Mix):
        c = self.config
        std = c.init_std

        def project(name, num_heads, axis):
            return layers.Linear(
                (c.embed_dim,),
                (num_heads, c.head_dim),
                ("embed", axis, "head_dim"),
                std,
                bias=c.qkv_bias,
                name=name,
            )(x_BTD)

        q_BTNH = project("query", c.num_heads, "heads")
        k_BTKH = project("key", c.num_kv_heads, "kv_heads")
        v_BTKH = project("value", c.num_kv_heads, "kv_heads")
        q_BTNH = layers.rotary(q_BTNH, position_BT, c.rope_theta)
        k_BTKH = layers.rotary(k_BTKH, position_BT, c.rope_theta)
        q_BTNH = place.constrain(q_BTNH, "batch", "length", "act_heads", "head_dim")
        k_BTKH = place.constrain(k_BTKH, "batch", "length", "act_kv_heads", "head_dim")
        v_BTKH = place.constrain(v_BTKH, "batch", "length", "act_kv_heads", "head_dim")
        out_BTNH, carried = mix(q_BTNH, k_BTKH, v_BTKH)
        out_BTD = layers.Linear(
            (c.num_heads, c.head_dim),
            (c.embed_dim,),
            ("heads", "head_dim", "embed"),
            std / (2 * c.num_layers) ** 0.5,
            name="out",
        )(out_BTNH)
        return out_BTD, carried
