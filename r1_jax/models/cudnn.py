"""Causal attention on a GPU: cuDNN's, which jax has, on each device's own rows and heads.

What `attention.causal` computes where rows are no documents side by side, never with [T, T] weights
in memory (FlashAttention, arXiv:2205.14135). It is of 16 bits: in float32, and with documents, a
GPU is served by what serves a CPU.
"""

import jax

from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

MAX_FEATURES = 128  # of a head; more are for the newest chips alone


def is_of_use(q_BTNH: jax.Array, v_BTKU: jax.Array) -> bool:
    """Whether the program is traced for GPUs, and the arrays are such as cuDNN takes."""
    H, U = q_BTNH.shape[-1], v_BTKU.shape[-1]
    is_taken = q_BTNH.dtype.itemsize == 2 and H == U and H <= MAX_FEATURES and H % 8 == 0
    return meshes.is_of_gpus() and is_taken and place.ways("length") == 1


def causal(q_BTNH, k_BTKH, v_BTKH, scale: float) -> jax.Array:
    """`attention.causal` without segments: [B, T, N, H]."""
    active = meshes.current()
    inputs = q_BTNH, k_BTKH, v_BTKH

    def here(q_BTNH, k_BTKH, v_BTKH):
        return jax.nn.dot_product_attention(
            q_BTNH, k_BTKH, v_BTKH, scale=scale, is_causal=True, implementation="cudnn"
        )

    if active is None:
        return here(*inputs)
    of_q = ("batch", "length", "act_heads", "head_dim")
    of_k = ("batch", "length", "act_kv_heads", "head_dim")
    named = zip(inputs, (of_q, of_k, of_k), strict=True)
    specs = tuple(place.activation_spec(x, names) for x, names in named)
    return jax.shard_map(
        here, mesh=active.mesh, in_specs=specs, out_specs=specs[0], check_vma=False
    )(*inputs)
