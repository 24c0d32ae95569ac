"""The key/value cache of a decoding batch, laid out so that a step writes one slice.

Every row has a `prefix` (its prompt, copied in when the row is filled) and a `ring` of generated
tokens. All rows write the same ring slot at the same step, so a step is one in-place slice per
layer and never a scatter; a row that was refilled later merely sees fewer of the last slots. Keys
are stored after rotary, so a slot's place in the ring carries no position. Layers are separate
arrays: a stacked cache would be copied through the layer scan at every token. Keys lie with the
slots last, values with the features last, each as its product reads it: XLA's CPU takes four times
as long to multiply queries with keys that lie as values do. With latent attention the keys are its
latents, K = 1, which are mixed too and lie as values do; `prefix_v` and `ring_v` are empty.

In 8 bits (kind="int8") an array is bits.Bits: integers, and beside them a float32 scale for each
row, head and slot, which multiplies the slot's logit, or its weight before values are mixed.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from r1_jax.models import attention, bits
from r1_jax.models import config as model_config
from r1_jax.sharding import place

Cached = jax.Array | bits.Bits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of B decoding rows, one array a layer."""

    prefix_k: tuple[Cached, ...]  # [B, K, H, S_prompt] each; latents [B, 1, S_prompt, C]
    prefix_v: tuple[Cached, ...]  # [B, K, S_prompt, H] each
    prefix_length_B: jax.Array  # int32, prompt tokens
    ring_k: tuple[Cached, ...]  # [B, K, H, S_ring] each; latents [B, 1, S_ring, C]
    ring_v: tuple[Cached, ...]  # [B, K, S_ring, H] each
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
) -> KVCache:
    """An empty cache; zeros, because masked slots still enter a product. num_layers: else all.

    kind: "int8", or "float", which is the compute type.
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

    none_B = jnp.zeros(num_rows, jnp.int32)
    return KVCache(
        key_arrays(prompt_capacity),
        () if latent else layer_arrays(prompt_capacity),
        none_B,
        key_arrays(ring_capacity),
        () if latent else layer_arrays(ring_capacity),
        none_B,
    )


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
    """The cache with rows `fresh_B` (bool) restarted on prompt `source_B` (index into P)."""

    def take(rows, prompts):
        def one(row, prompt):
            return jnp.where(fresh_B[:, None, None, None], prompt[source_B], row)

        return jax.tree.map(one, rows, prompts)

    return dataclasses.replace(
        cache,
        prefix_k=take(cache.prefix_k, prompt_k),
        prefix_v=take(cache.prefix_v, prompt_v),
        prefix_length_B=jnp.where(fresh_B, prompt_length_P[source_B], cache.prefix_length_B),
        age_B=jnp.where(fresh_B, 0, cache.age_B),
    )


def with_rings(cache: KVCache, written: Sequence[tuple[Cached, Cached | None]]) -> KVCache:
    """The cache with what `attend` carried out of each layer."""
    ring_k, ring_v = zip(*written, strict=True)
    return dataclasses.replace(cache, ring_k=ring_k, ring_v=() if ring_v[0] is None else ring_v)


def seen(cache: KVCache, slot: jax.Array) -> jax.Array:
    """bool [B, 1, S_ring]: what one new token in ring slot `slot` sees: the row's last age_B
    slots, and itself."""
    num_slots = (cache.ring_v or cache.ring_k)[0].shape[2]
    since_S = (slot - jnp.arange(num_slots)) % num_slots  # steps since a slot was written
    return (since_S[None, :] <= cache.age_B[:, None])[:, None]


def attend(cache: KVCache, layer: int, slot: jax.Array, seen_BQS: jax.Array) -> attention.Mix:
    """A `mix` for Q new tokens a row: writes ring slots `slot`.., then attends prefix and ring.

    It carries out the layer's new (ring_k, ring_v). Visible are the prompt's tokens and the ring
    slots of seen_BQS, the new ones among them. The slots do not go round the ring's end. Softmax in
    float32. Values None: keys are mixed instead, and the ring_v carried out is None.
    """

    def write(ring_BKSH, new_BQKH):
        return put(ring_BKSH, new_BQKH.transpose(0, 2, 1, 3), 3, (0, 0, slot, 0))

    def write_keys(ring_BKHS, new_BQKH):
        return put(ring_BKHS, new_BQKH.transpose(0, 2, 3, 1), 2, (0, 0, 0, slot))

    def put(ring, new, feature_axis, start):
        if isinstance(ring, bits.Bits):
            new = bits.of(new, (feature_axis,), "int8")
        return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice(x, y, start), ring, new)

    def mix(q_BQNH, k_BQKH, v_BQKH, scale=None):
        B, Q, N, H = q_BQNH.shape
        K = k_BQKH.shape[2]
        M = N // K * Q  # a group's query heads, each of Q tokens
        scale = H**-0.5 if scale is None else scale
        ring_v = None if v_BQKH is None else write(cache.ring_v[layer], v_BQKH)
        write_k = write if v_BQKH is None else write_keys
        ring_k, prefix_k = write_k(cache.ring_k[layer], k_BQKH), cache.prefix_k[layer]
        product = "BKMH,BKSH->BKMS" if v_BQKH is None else "BKMH,BKHS->BKMS"
        q_BKMH = q_BQNH.reshape(B, Q, K, -1, H).transpose(0, 2, 3, 1, 4).reshape(B, K, M, H)

        def logits(keys):
            if isinstance(keys, bits.Bits):
                number, q = bits.beside(keys.number, q_BKMH)
                found = jnp.einsum(product, q, number, preferred_element_type=jnp.float32)
                return found * keys.scale.reshape(B, K, 1, -1)
            return jnp.einsum(product, q_BKMH, keys, preferred_element_type=jnp.float32)

        def mixed(weights_BKMS, values):
            if isinstance(values, bits.Bits):
                scaled = weights_BKMS * values.scale.reshape(B, K, 1, -1)
                values, weights_BKMS = bits.beside(values.number, scaled.astype(q_BQNH.dtype))
            return jnp.einsum("BKMS,BKSH->BKMH", weights_BKMS, values)

        prompt_S = jnp.arange((prefix_k if v_BQKH is None else cache.prefix_v[layer]).shape[2])
        seen_prefix_BS = prompt_S[None, :] < cache.prefix_length_B[:, None]
        seen_prefix_BQS = jnp.broadcast_to(seen_prefix_BS[:, None], (B, Q, len(prompt_S)))
        every_BQS = jnp.concatenate([seen_prefix_BQS, seen_BQS], axis=-1)
        logits_BKMS = jnp.concatenate([logits(prefix_k), logits(ring_k)], axis=-1) * scale
        logits_BKRQS = logits_BKMS.reshape(B, K, N // K, Q, -1)
        logits_BKRQS = jnp.where(every_BQS[:, None, None], logits_BKRQS, attention.MASKED)
        weights_BKRQS = jax.nn.softmax(logits_BKRQS, axis=-1).astype(q_BQNH.dtype)
        weights_BKMS = weights_BKRQS.reshape(B, K, M, -1)
        split = len(prompt_S)
        prefix_v = prefix_k if ring_v is None else cache.prefix_v[layer]
        out_BKMH = mixed(weights_BKMS[..., :split], prefix_v)
        out_BKMH += mixed(weights_BKMS[..., split:], ring_k if ring_v is None else ring_v)
        out_BQKRH = out_BKMH.reshape(B, K, N // K, Q, -1).transpose(0, 3, 1, 2, 4)
        return out_BQKRH.reshape(B, Q, N, -1), (ring_k, ring_v)

    return mix
