"""Causal attention on a TPU: the splash kernel that comes with jax, on each device's own heads.

What `attention.causal` computes, never with [T, T] weights in memory (FlashAttention,
arXiv:2205.14135). On other devices the same kernel can be interpreted, which tests do.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

LANES = 128  # a block's size is a multiple of it
BLOCK = 512  # queries, and keys, a block; larger ones do not fit beside two more in 16 MiB of VMEM


def is_of_use(num_positions: int) -> bool:
    """Whether the program is traced for TPUs and long enough for a block."""
    return meshes.is_of_tpus() and num_positions >= LANES


def causal(q_BTNH, k_BTKH, v_BTKU, segment_BT, scale: float, *, interpret: bool = False):
    """`attention.causal`, all arguments given: [B, T, N, U]. The kernel has a backward pass.

    Rows, and heads where the mesh splits them, stay where they are: no device sees another's. Where
    it splits positions, queries stay and keys and values are gathered.
    """
    N, T = q_BTNH.shape[2], q_BTNH.shape[1]
    across = place.ways("length")
    block = min(BLOCK, -(-T // (across * LANES)) * LANES)
    pad = -T % (across * block)
    # Padding stands at the end, where no earlier position looks.
    pads = ((0, 0), (0, pad), (0, 0), (0, 0))
    q_BTNH, k_BTKH, v_BTKU = (jnp.pad(x, pads) for x in (q_BTNH * scale, k_BTKH, v_BTKU))
    segment_BT = jnp.pad(segment_BT, pads[:2])
    q_BNTH, k_BKTH, v_BKTU = (x.swapaxes(1, 2) for x in (q_BTNH, k_BTKH, v_BTKU))
    inputs = q_BNTH, k_BKTH, v_BKTU, segment_BT
    kernel = _kernel(N, T + pad, block, interpret)
    active = meshes.current()
    if active is None:
        return _rows(kernel, *inputs).swapaxes(1, 2)[:, :T]
    of_q = ("batch", "act_heads", "length", "head_dim")
    of_k = ("batch", "act_kv_heads", "length", "head_dim")
    names = [of_q, of_k, of_k, ("batch", "length")]
    specs = [place.activation_spec(x, n) for x, n in zip(inputs, names, strict=True)]
    of_mask = jax.NamedSharding(active.mesh, jax.P(specs[0][1], specs[0][2]))
    here: Any = jax.shard_map(
        functools.partial(_rows, gathered=specs[0][2] if across > 1 else None),
        mesh=active.mesh,
        in_specs=(kernel.manual_sharding_spec(of_mask), *specs),
        out_specs=specs[0],
        check_vma=False,
    )
    return here(kernel, *inputs).swapaxes(1, 2)[:, :T]


def _kernel(num_heads: int, num_positions: int, block: int, interpret: bool) -> Any:
    """The kernel for all heads and positions, whose mask can be split as the mesh splits these."""
    return splash.make_splash_mha(
        mask=masks.MultiHeadMask([masks.CausalMask((num_positions, num_positions))] * num_heads),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_kv_compute=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_kv_dkv_compute=block,
            block_q_dq=block,  # the fused kernel holds dq once for every block of keys
            block_kv_dq=block,
        ),
        head_shards=place.ways("act_heads"),
        q_seq_shards=place.ways("length"),
        interpret=interpret,
    )


def _rows(kernel, q_BNTH, k_BKSH, v_BKSU, segment_BT, *, gathered: str | None = None):
    """The rows of one device; `gathered` is the mesh axis along which keys are brought together."""
    segment_BS = segment_BT
    if gathered:
        k_BKSH, v_BKSU = (
            jax.lax.all_gather(x, gathered, axis=2, tiled=True) for x in (k_BKSH, v_BKSU)
        )
        segment_BS = jax.lax.all_gather(segment_BT, gathered, axis=1, tiled=True)

    def row(q_NTH, k_KSH, v_KSU, segment_T, segment_S):
        return kernel(q_NTH, k_KSH, v_KSU, splash.SegmentIds(segment_T, segment_S))

    return jax.vmap(row)(q_BNTH, k_BKSH, v_BKSU, segment_BT, segment_BS)
