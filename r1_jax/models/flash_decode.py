"""A new token's attention on a GPU: each row reads what is cached once, as far as it is seen.

What `cache.attend` computes from its parts, as one kernel for all the query heads of a row's key
head (FlashAttention, arXiv:2205.14135), written for Triton. It is of 16 bits. Where rows and heads
are few, several programs share the keys of each, and what they found is added up, as in
Flash-Decoding. On other devices it can be interpreted, which tests do.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from r1_jax.models import attention
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

BLOCK = 64  # slots that are looked at together
PROGRAMS = 192  # that keep the memory of a large GPU busy: of an H100, 1.5 times what it has cores
WARPS, STAGES = 4, 2  # read as fast as 3 on an H100, in less of its shared memory
MIN_QUERIES = 16  # of a product on a GPU
MAX_QUERIES = 64  # whose sums a program holds


def is_of_use(q_BKMH: jax.Array) -> bool:
    """Whether the program is traced for GPUs, and the arrays are such as the kernel takes."""
    H = q_BKMH.shape[-1]
    is_taken = H in (16, 32, 64, 128) and q_BKMH.shape[2] <= MAX_QUERIES
    return meshes.is_of_gpus() and q_BKMH.dtype.itemsize == 2 and is_taken


def attend(
    q_BKMH: jax.Array,
    prefix_k_PKHS: jax.Array,
    prefix_v_PKSH: jax.Array,
    length_P: jax.Array,
    ring_k_BKHS: jax.Array,
    ring_v_BKSH: jax.Array,
    seen_BMS: jax.Array,
    scale: float,
    *,
    interpret: bool = False,
) -> jax.Array:
    """[B, K, M, H]: M queries of each key head on its prefix and its ring, softmax in float32.

    B / P rows side by side read one prefix, of length_P tokens. seen_BMS: bool, the ring's slots
    that each query sees, M of them or one for all; each query sees one at least.
    """
    seen_BS = jnp.any(seen_BMS, axis=1)
    slot_S = jnp.arange(seen_BS.shape[1], dtype=jnp.int32)
    first_B = jnp.min(jnp.where(seen_BS, slot_S, len(slot_S)), axis=1)
    last_B = jnp.max(jnp.where(seen_BS, slot_S, -1), axis=1) + 1
    length_B = jnp.repeat(length_P, len(q_BKMH) // len(length_P))
    bounds_B3 = jnp.stack([length_B, first_B, last_B], axis=1)
    caches = prefix_k_PKHS, prefix_v_PKSH, ring_k_BKHS, ring_v_BKSH
    inputs = bounds_B3, seen_BMS.astype(jnp.int32), q_BKMH, *caches
    here = partial(_rows, scale=scale, interpret=interpret)
    active = meshes.current()
    if active is None:
        return here(*inputs)
    of_heads = ("batch", "act_kv_heads", None, None)
    named = [("batch", None), ("batch", None, None), *(of_heads,) * 5]
    specs = tuple(place.activation_spec(x, n) for x, n in zip(inputs, named, strict=True))
    return jax.shard_map(
        here, mesh=active.mesh, in_specs=specs, out_specs=specs[2], check_vma=False
    )(*inputs)


def _rows(bounds_B3, seen_BMS, q_BKMH, prefix_k, prefix_v, ring_k, ring_v, *, scale, interpret):
    """The rows and heads of one device."""
    B, K, M, H = q_BKMH.shape
    each = B // len(prefix_k)
    num_blocks = pl.cdiv(prefix_v.shape[2], BLOCK) + pl.cdiv(ring_v.shape[2], BLOCK)
    C = max(1, min(PROGRAMS // (B * K), num_blocks))  # programs that share a row's head

    def of(x, num_leading, rows=1):
        """A program's part of x: a row's, and a key head's where the second axis is of them."""
        rest = (0,) * (x.ndim - num_leading)
        block = (*(None,) * num_leading, *x.shape[num_leading:])
        return pl.BlockSpec(block, lambda b, k, c: (*(b // rows, k)[:num_leading], *rest))

    parts = [
        jax.ShapeDtypeStruct((C, B, K, M, H), jnp.float32 if C > 1 else q_BKMH.dtype),
        jax.ShapeDtypeStruct((C, B, K, M), jnp.float32),
        jax.ShapeDtypeStruct((C, B, K, M), jnp.float32),
    ]

    def part(x):
        rest = (0,) * (x.ndim - 3)
        return pl.BlockSpec((None, None, None, *x.shape[3:]), lambda b, k, c: (c, b, k, *rest))

    out_CBKMH, max_CBKM, sum_CBKM = pl.pallas_call(
        partial(_kernel, scale=scale, num_parts=C),
        grid=(B, K, C),
        in_specs=[
            of(bounds_B3, 1),
            of(seen_BMS, 1),
            of(q_BKMH, 2),
            of(prefix_k, 2, each),
            of(prefix_v, 2, each),
            of(ring_k, 2),
            of(ring_v, 2),
        ],
        out_specs=[part(x) for x in parts],
        out_shape=parts,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=STAGES),
        interpret=interpret,
    )(bounds_B3, seen_BMS, q_BKMH, prefix_k, prefix_v, ring_k, ring_v)
    if C == 1:
        return out_CBKMH[0]
    weight_CBKM = jnp.exp(max_CBKM - jnp.max(max_CBKM, axis=0, keepdims=True))
    sum_BKM = jnp.sum(weight_CBKM * sum_CBKM, axis=0)
    out_BKMH = jnp.sum(weight_CBKM[..., None] * out_CBKMH, axis=0)
    return (out_BKMH / sum_BKM[..., None]).astype(q_BKMH.dtype)


def _kernel(
    bounds, seen, q, prefix_k, prefix_v, ring_k, ring_v, out, out_max, out_sum, *, scale, num_parts
):
    """One of `num_parts` of the keys of one row's key head."""
    M, H = q.shape
    height = max(MIN_QUERIES, pl.next_power_of_2(M))
    query_M = jnp.arange(height)
    is_query_M1 = (query_M < M)[:, None]
    q_MH = triton.load(q.at[pl.ds(0, height), :], mask=is_query_M1, other=0)

    def block(keys, values, see, i, carry):
        out_MH, max_M, sum_M = carry
        slots = pl.ds(i * BLOCK, BLOCK)
        slot_S = i * BLOCK + jnp.arange(BLOCK)
        is_there_S = slot_S < values.shape[0]
        k_HS = triton.load(keys.at[:, slots], mask=is_there_S[None, :], other=0)
        logits_MS = triton.dot(q_MH, k_HS) * scale
        logits_MS = jnp.where(see(slots, slot_S, is_there_S), logits_MS, attention.MASKED)
        new_max_M = jnp.maximum(max_M, jnp.max(logits_MS, axis=1))
        weights_MS = jnp.exp(logits_MS - new_max_M[:, None])
        kept_M = jnp.exp(max_M - new_max_M)
        v_SH = triton.load(values.at[slots, :], mask=is_there_S[:, None], other=0)
        out_MH = out_MH * kept_M[:, None] + triton.dot(weights_MS.astype(v_SH.dtype), v_SH)
        return out_MH, new_max_M, sum_M * kept_M + jnp.sum(weights_MS, axis=1)

    def of_prefix(slots, slot_S, is_there_S):
        return (slot_S < length)[None, :]

    def of_ring(slots, slot_S, is_there_S):
        is_one = seen.shape[0] == 1
        is_in_MS = is_there_S[None, :] if is_one else is_query_M1 & is_there_S[None, :]
        at = pl.ds(0, 1 if is_one else height), slots
        return triton.load(seen.at[at], mask=is_in_MS, other=0) != 0

    length, first, last = bounds[0], bounds[1], bounds[2]
    of_length, skipped = pl.cdiv(length, BLOCK), first // BLOCK
    num_blocks = of_length + pl.cdiv(last, BLOCK) - skipped
    # This program's blocks, of the prefix's and the ring's in one row.
    part = pl.program_id(2)
    begin, end = (num_blocks * p // num_parts for p in (part, part + 1))
    carry = (
        jnp.zeros((height, H), jnp.float32),
        jnp.full(height, attention.MASKED, jnp.float32),
        jnp.zeros(height, jnp.float32),
    )
    carry = jax.lax.fori_loop(
        jnp.minimum(begin, of_length),
        jnp.minimum(end, of_length),
        partial(block, prefix_k, prefix_v, of_prefix),
        carry,
    )
    out_MH, max_M, sum_M = jax.lax.fori_loop(
        jnp.maximum(begin, of_length) - of_length + skipped,
        jnp.maximum(end, of_length) - of_length + skipped,
        partial(block, ring_k, ring_v, of_ring),
        carry,
    )
    if num_parts == 1:
        out_MH /= sum_M[:, None]
    queries = pl.ds(0, height)
    triton.store(out.at[queries, :], out_MH.astype(out.dtype), mask=is_query_M1)
    triton.store(out_max.at[queries], max_M, mask=query_M < M)
    triton.store(out_sum.at[queries], sum_M, mask=query_M < M)
