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
    active = meshes.current()
    is_tpu = active is not None and active.mesh.devices.flat[0].platform == "tpu"
    return is_tpu and num_positions >= LANES


def causal(q_BTNH, k_BTKH, v_BTKU, segment_BT, scale: float, *, interpret: bool = False):
    """`attention.causal`, all arguments given: [B, T, N, U]. The kernel has a backward pass.

    Rows, and heads where the mesh splits them, stay where they are: no device sees another's.
    """
    T = q_BTNH.shape[1]
    block = min(BLOCK, -(-T // LANES) * LANES)
    pad = -T % block
    # Padding stands at the end, where no earlier position looks.
    pads = ((0, 0), (0, pad), (0, 0), (0, 0))
    q_BTNH, k_BTKH, v_BTKU = (jnp.pad(x, pads) for x in (q_BTNH * scale, k_BTKH, v_BTKU))
    segment_BT = jnp.pad(segment_BT, pads[:2])
    heads_first = [x.swapaxes(1, 2) for x in (q_BTNH, k_BTKH, v_BTKU)]
    inputs = (*heads_first, segment_BT)
    here: Any = functools.partial(_of_device, block=block, interpret=interpret)
    active = meshes.current()
    if active is not None:
        of_q = ("batch", "act_heads", "length", "head_dim")
        of_k = ("batch", "act_kv_heads", "length", "head_dim")
        names = [of_q, of_k, of_k, ("batch", "length")]
        specs = [place.activation_spec(x, n) for x, n in zip(inputs, names, strict=True)]
        here = jax.shard_map(
            here, mesh=active.mesh, in_specs=tuple(specs), out_specs=specs[0], check_vma=False
        )
    out_BNTU = here(*inputs)
    return out_BNTU.swapaxes(1, 2)[:, :T]


def _of_device(q_BNTH, k_BKTH, v_BKTU, segment_BT, *, block: int, interpret: bool):
    N, T = q_BNTH.shape[1:3]
    kernel = splash.make_splash_mha(
        mask=masks.MultiHeadMask([masks.CausalMask((T, T))] * N),
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
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def row(q_NTH, k_KTH, v_KTU, segment_T):
        return kernel(q_NTH, k_KTH, v_KTU, splash.SegmentIds(segment_T, segment_T))

    return jax.vmap(row)(q_BNTH, k_BKTH, v_BKTU, segment_BT)
