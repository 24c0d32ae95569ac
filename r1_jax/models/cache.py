"""The key/value cache of a decoding batch, laid out so that a step writes one slice.

Every row has a `prefix` (its prompt, copied in when the row is filled) and a `ring` of generated
tokens. All rows write the same ring slot at the same step, so a step is one in-place slice per
layer and never a scatter; a row that was refilled later merely sees fewer of the last slots. Keys
are stored after rotary, so a slot's place in the ring carries no position. Layers are separate
arrays: a stacked cache would be copied through the layer scan at every token. Keys lie with the
slots last, values with the features last, each as its product reads it: XLA's CPU takes four times
as long to multiply queries with keys that lie as values do. With latent attention the keys are its
latents, K = 1, which are mixed too and lie as values do; `prefix_v` and `ring_v` are empty.

Where no row is refilled, the rows of a group may read one prefix, and the ring may lie in pieces,
one array each: a step reads those in which some row sees a slot, as far as the ring is filled.

In 8 bits (kind="int8") an array is bits.Bits: integers, and beside them a float32 scale for each
row, head and slot, which multiplies the slot's logit, or its weight before values are mixed.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from r1_jax.models import attention, bits, flash_decode
from r1_jax.models import config as model_config
from r1_jax.sharding import mesh, place

Cached = jax.Array | bits.Bits
Ring = tuple[Cached, ...]  # a layer's pieces, along the slots

_NUM_PIECES = 4  # at most
_SLOTS = 64  # a piece has a multiple: of 48 slots XLA's CPU takes a third longer than of 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of B decoding rows, layer by layer.

    The prefixes are of B rows, or of P prompts in order, each shared by B / P rows side by side.
    """

    prefix_k: tuple[Cached, ...]  # [B, K, H, S_prompt] each; latents [B, 1, S_prompt, C]
    prefix_v: tuple[Cached, ...]  # [B, K, S_prompt, H] each
    prefix_length_B: jax.Array  # int32, prompt tokens
    ring_k: tuple[Ring, ...]  # [B, K, H, S_piece] a piece; latents [B, 1, S_piece, C]
    ring_v: tuple[Ring, ...]  # [B, K, S_piece, H] a piece
    age_B: jax.Array  # int32, generated tokens of the row that are in the ring


NAMES = ("batch", "act_kv_heads", "cache_length", "head_dim")
KEY_NAMES = ("batch", "act_kv_heads", "head_dim", "cache_length")


def allocate(
    config: model_config.ModelConfig,
    num_rows: int,
    prompt_capacity: int,
    ring_capacity: int,
    num_layers: int | None = None,
    *,
    kind: str = "float",
    in_pieces: bool = False,
) -> KVCache:
    """An empty cache; zeros, because masked slots still enter a product. num_layers: else all.

    kind: "int8", or "float", which is the compute type. in_pieces: the ring, where that pays
    (`pieces`); of no use once all of it is filled, as it is where rows are refilled.
    """
    num_layers = config.num_layers if num_layers is None else num_layers
    dtype = jnp.dtype(config.compute_dtype)

    latent = config.latent
    heads = (1, latent.rank + latent.rope_dim) if latent else (config.num_kv_heads, config.head_dim)

    def empty(shape, names):
        if kind == "float":
            zeros = jnp.zeros(shape, dtype)
        else:
            zeros = bits.zeros(shape, (names.index("head_dim"),), kind)
        return tuple(_placed(zeros, names) for _ in range(num_layers))

    def layer_arrays(length):
        return empty((num_rows, heads[0], length, heads[1]), NAMES)

    def key_arrays(length):
        if latent:
            return layer_arrays(length)
        return empty((num_rows, heads[0], heads[1], length), KEY_NAMES)

    def rings(arrays):
        sizes = pieces(ring_capacity) if in_pieces else (ring_capacity,)
        return tuple(zip(*(arrays(size) for size in sizes), strict=True))

    none_B = jnp.zeros(num_rows, jnp.int32)
    return KVCache(
        key_arrays(prompt_capacity),
        () if latent else layer_arrays(prompt_capacity),
        none_B,
        rings(key_arrays),
        () if latent else rings(layer_arrays),
        none_B,
    )


def pieces(capacity: int) -> tuple[int, ...]:
    """The slots of each piece of a ring: even, but for the last one's, and few.

    One piece but on a CPU: a TPU's compiler copies at every step what a branch may read
    (docs/PLAN.md); on a GPU it was not tried.
    """
    if not mesh.is_of_cpus():
        return (capacity,)
    size = -(-capacity // (_SLOTS * _NUM_PIECES)) * _SLOTS
    whole, rest = divmod(capacity, size)
    return (size,) * whole + (rest,) * (rest > 0)


def from_prefill(
    kv: tuple[jax.Array, jax.Array | None], *, kind: str = "float"
) -> tuple[tuple[Cached, ...], ...]:
    """Prompt keys and values [L, P, T, K, H] of a full pass as the cache has them, layer by layer.

    Where the values are None, latent attention's keys are all there is; no arrays for them.
    """
    keys, values = kv
    if values is None:
        return _each(keys, (0, 2, 1, 3), NAMES, kind), ()
    return _each(keys, (0, 2, 3, 1), KEY_NAMES, kind), _each(values, (0, 2, 1, 3), NAMES, kind)


def _each(stacked, order, names, kind) -> tuple[Cached, ...]:
    """The layers of `stacked` as the cache keeps them, transposed."""
    layers = [layer.transpose(order) for layer in stacked]
    if kind != "float":
        layers = [bits.of(layer, (names.index("head_dim"),), kind) for layer in layers]
    return tuple(_placed(layer, names) for layer in layers)


def _placed(x: Cached, names: Sequence[str]) -> Cached:
    return jax.tree.map(lambda leaf: place.constrain(leaf, *names), x)


def fill(
    cache: KVCache,
    fresh_B: jax.Array,
    source_B: jax.Array,
    prompt_k: tuple[Cached, ...],
    prompt_v: tuple[Cached, ...],
    prompt_length_P: jax.Array,
) -> KVCache:
    """The cache with rows `fresh_B` (bool) restarted on prompt `source_B` (index into P).

    A prefix that rows share is left as it is: their prompt is the one they are restarted on.
    """

    def take(rows, prompts):
        def one(row, prompt):
            return jnp.where(fresh_B[:, None, None, None], prompt[source_B], row)

        # One array after the other: prompts are gathered to be taken from, and all layers' at once
        # would be several gigabytes beside the cache. On a CPU a rollout read 2% slower with it.
        in_turn = not mesh.is_of_cpus()
        leaves, structure = jax.tree.flatten(rows)
        taken: list[jax.Array] = []
        for row, prompt in zip(leaves, jax.tree.leaves(prompts), strict=True):
            if taken and in_turn:
                prompt, taken[-1] = jax.lax.optimization_barrier((prompt, taken[-1]))
            taken.append(one(row, prompt))
        return jax.tree.unflatten(structure, taken)

    if jax.tree.leaves(cache.prefix_k)[0].shape[0] == len(fresh_B):
        cache = dataclasses.replace(
            cache, prefix_k=take(cache.prefix_k, prompt_k), prefix_v=take(cache.prefix_v, prompt_v)
        )
    return dataclasses.replace(
        cache,
        prefix_length_B=jnp.where(fresh_B, prompt_length_P[source_B], cache.prefix_length_B),
        age_B=jnp.where(fresh_B, 0, cache.age_B),
    )


def with_rings(cache: KVCache, written: Sequence[tuple[Ring, Ring | None]]) -> KVCache:
    """The cache with what `attend` carried out of each layer."""
    ring_k, ring_v = zip(*written, strict=True)
    return dataclasses.replace(cache, ring_k=ring_k, ring_v=() if ring_v[0] is None else ring_v)


def seen(cache: KVCache, slot: jax.Array) -> jax.Array:
    """bool [B, 1, S_ring]: what one new token in ring slot `slot` sees: the row's last age_B
    slots, and itself."""
    num_slots = sum(map(_num_slots, (cache.ring_v or cache.ring_k)[0]))
    since_S = (slot - jnp.arange(num_slots)) % num_slots  # steps since a slot was written
    return (since_S[None, :] <= cache.age_B[:, None])[:, None]


class _Part(NamedTuple):
    """A softmax over some of the keys, before it is divided by all keys' sum; float32."""

    max_BKM: jax.Array
    sum_BKM: jax.Array  # of exp(logit - max)
    out_BKMH: jax.Array  # values, weighted with exp(logit - max)


def attend(cache: KVCache, layer: int, slot: jax.Array, seen_BQS: jax.Array) -> attention.Mix:
    """A `mix` for Q new tokens a row: writes ring slots `slot`.., then attends prefix and ring.

    It carries out the layer's new (ring_k, ring_v). Visible are the prompt's tokens and the ring
    slots of seen_BQS, the new ones among them. The slots do not go on over a piece's end. Softmax
    in float32. Values None: keys are mixed instead, and the ring_v carried out is None.
    """

    def mix(q_BQNH, k_BQKH, v_BQKH, scale=None):
        B, Q, N, H = q_BQNH.shape
        K = k_BQKH.shape[2]
        M = N // K * Q  # a group's query heads, each of Q tokens
        scale = H**-0.5 if scale is None else scale
        has_values = v_BQKH is not None
        key_axes, feature_axis = ((0, 2, 3, 1), 2) if has_values else ((0, 2, 1, 3), 3)
        ring_k = _written(cache.ring_k[layer], k_BQKH.transpose(key_axes), slot, feature_axis)
        ring_v = None
        if has_values:
            ring_v = _written(cache.ring_v[layer], v_BQKH.transpose(0, 2, 1, 3), slot, 3)
        q_BKMH = q_BQNH.reshape(B, Q, K, -1, H).transpose(0, 2, 3, 1, 4).reshape(B, K, M, H)

        prefix_k = cache.prefix_k[layer]
        prefix_v = cache.prefix_v[layer] if has_values else None
        P = jax.tree.leaves(prefix_k)[0].shape[0]
        q_PKMH = _side_by_side(q_BKMH, P)
        prompt_S = jnp.arange(_num_slots(prefix_k if prefix_v is None else prefix_v))
        length_P = cache.prefix_length_B.reshape(P, -1)[:, 0]
        seen_BMS = jnp.tile(seen_BQS, (1, N // K, 1)) if Q > 1 else seen_BQS
        if flash_decode.is_of_use(q_BKMH) and isinstance(prefix_v, jax.Array):
            assert ring_v is not None
            prefix = cast(jax.Array, prefix_k), prefix_v, length_P
            ring = cast(jax.Array, ring_k[0]), cast(jax.Array, ring_v[0])  # in one piece
            out_BKMH = flash_decode.attend(q_BKMH, *prefix, *ring, seen_BMS, scale)
            return _mixed(out_BKMH, q_BQNH), (ring_k, ring_v)
        seen_P1S = (prompt_S[None, :] < length_P[:, None])[:, None]
        of_prompt = _part(q_PKMH, prefix_k, prefix_v, seen_P1S, scale)
        parts = [_Part(*(_apart(x, B) for x in of_prompt))]

        first = 0
        for piece, keys in enumerate(ring_k):
            values = None if ring_v is None else ring_v[piece]
            last = first + _num_slots(keys if values is None else values)
            asked = q_BKMH, keys, values, seen_BMS[..., first:last], scale
            if len(ring_k) == 1:
                parts.append(_part(*asked))
            else:
                is_seen = jnp.any(seen_BQS[..., first:last])
                parts.append(jax.lax.cond(is_seen, _part, _nothing, *asked))
            first = last

        max_BKM = jnp.max(jnp.stack([part.max_BKM for part in parts]), axis=0)
        shares = [jnp.exp(part.max_BKM - max_BKM) for part in parts]
        sum_BKM, out_BKMH = jnp.float32(0), jnp.float32(0)
        for share_BKM, part in zip(shares, parts, strict=True):
            sum_BKM += share_BKM * part.sum_BKM
            out_BKMH += share_BKM[..., None] * part.out_BKMH
        out_BKMH = (out_BKMH / sum_BKM[..., None]).astype(q_BQNH.dtype)
        return _mixed(out_BKMH, q_BQNH), (ring_k, ring_v)

    return mix


def _mixed(out_BKMH: jax.Array, q_BQNH: jax.Array) -> jax.Array:
    """What is mixed, in the order of the queries it was asked for: [B, Q, N, H]."""
    B, Q, N, _ = q_BQNH.shape
    K = out_BKMH.shape[1]
    out_BQKRH = out_BKMH.reshape(B, K, N // K, Q, -1).transpose(0, 3, 1, 2, 4)
    return out_BQKRH.reshape(B, Q, N, -1)


def _num_slots(values: Cached) -> int:
    """Of values, or of latents."""
    return jax.tree.leaves(values)[0].shape[2]


def _side_by_side(x_BKM: jax.Array, P: int) -> jax.Array:
    """[B, K, M, ..] as [P, K, B / P * M, ..]: rows that share a prompt as one with more heads."""
    B, K, M, *rest = x_BKM.shape
    return x_BKM.reshape(P, B // P, K, M, *rest).swapaxes(1, 2).reshape(P, K, B // P * M, *rest)


def _apart(x_PKM: jax.Array, B: int) -> jax.Array:
    """Undoes _side_by_side."""
    P, K, M, *rest = x_PKM.shape
    each = B // P
    return x_PKM.reshape(P, K, each, M // each, *rest).swapaxes(1, 2).reshape(B, K, -1, *rest)


def _written(ring: Ring, new: jax.Array, slot: jax.Array, feature_axis: int) -> Ring:
    """The ring with `new` from slot `slot` on; a piece in which it does not lie is written what
    it holds, in place."""
    axis = 5 - feature_axis  # of the slots
    first, written = 0, []
    for piece in ring:
        update = bits.of(new, (feature_axis,), "int8") if isinstance(piece, bits.Bits) else new
        last = first + jax.tree.leaves(piece)[0].shape[axis]
        is_here = None if len(ring) == 1 else (slot >= first) & (slot < last)
        written.append(jax.tree.map(partial(_put, slot - first, is_here, axis), piece, update))
        first = last
    return tuple(written)


def _put(slot: jax.Array, is_here: jax.Array | None, axis: int, old: jax.Array, new: jax.Array):
    if is_here is not None:
        held = jax.lax.dynamic_slice_in_dim(old, slot, new.shape[axis], axis)
        new = jnp.where(is_here, new, held)
    return jax.lax.dynamic_update_slice_in_dim(old, new, slot, axis)


def _part(
    q_BKMH: jax.Array, keys: Cached, values: Cached | None, seen_BMS: jax.Array, scale: float
) -> _Part:
    """Queries against some keys. seen_BMS: of M or, for all alike, one."""
    product = "BKMH,BKSH->BKMS" if values is None else "BKMH,BKHS->BKMS"
    numbers, q_BKMH = _beside(keys, q_BKMH)
    logits_BKMS = jnp.einsum(product, q_BKMH, numbers, preferred_element_type=jnp.float32)
    if isinstance(keys, bits.Bits):
        logits_BKMS *= keys.scale.reshape(*logits_BKMS.shape[:2], 1, -1)
    logits_BKMS = jnp.where(seen_BMS[:, None], logits_BKMS * scale, attention.MASKED)
    max_BKM = jnp.max(logits_BKMS, axis=-1)
    weights_BKMS = jnp.exp(logits_BKMS - max_BKM[..., None])
    sum_BKM = jnp.sum(weights_BKMS, axis=-1)
    values = keys if values is None else values
    if isinstance(values, bits.Bits):
        weights_BKMS *= values.scale.reshape(*logits_BKMS.shape[:2], 1, -1)
    numbers, weights_BKMS = _beside(values, weights_BKMS.astype(q_BKMH.dtype))
    out_BKMH = jnp.einsum(
        "BKMS,BKSH->BKMH", weights_BKMS, numbers, preferred_element_type=jnp.float32
    )
    return _Part(max_BKM, sum_BKM, out_BKMH)


def _beside(cached: Cached, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return bits.beside(cached.number, x) if isinstance(cached, bits.Bits) else (cached, x)


def _nothing(
    q_BKMH: jax.Array, keys: Cached, values: Cached | None, seen_BMS: jax.Array, scale: float
) -> _Part:
    """`_part` of keys of which no row sees one."""
    shape = jax.eval_shape(_part, q_BKMH, keys, values, seen_BMS, scale)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
    return nothing._replace(max_BKM=jnp.full_like(nothing.max_BKM, attention.MASKED))
