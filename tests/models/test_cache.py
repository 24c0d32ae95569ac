"""The cache: its layout, what a refill touches, and what a new token sees of prefix and ring."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import bits
from r1_jax.models import cache as kv_cache
from r1_jax.sharding import mesh
from tests.golden import decoder_numpy as golden
from tests.models import tiny

K, H, L = tiny.MODEL.num_kv_heads, tiny.MODEL.head_dim, tiny.MODEL.num_layers
N = tiny.MODEL.num_heads


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def turned(x):
    """[B, K, S, H] as keys lie in the cache, and back."""
    return np.swapaxes(x, 2, 3)


def test_an_empty_cache_is_zeros_in_the_compute_dtype():
    config = dataclasses.replace(tiny.MODEL, compute_dtype="bfloat16")
    cache = kv_cache.allocate(config, 3, 5, 7)
    assert len(cache.prefix_k) == len(cache.prefix_v) == len(cache.ring_k) == len(cache.ring_v) == L
    assert {x.shape for x in cache.prefix_k} == {(3, K, H, 5)}
    assert {x.shape for x in cache.prefix_v} == {(3, K, 5, H)}
    assert {x.shape for (x,) in cache.ring_k} == {(3, K, H, 7)}
    assert {x.shape for (x,) in cache.ring_v} == {(3, K, 7, H)}
    assert {x.dtype for x in (*cache.prefix_k, *cache.ring_v[0])} == {jnp.dtype(jnp.bfloat16)}
    assert not any(leaf.any() for leaf in jax.tree.leaves(cache))


def test_prefill_is_cut_into_layers_and_turned():
    k_LPTKH, v_LPTKH = _normal(L, 3, 5, K, H), _normal(L, 3, 5, K, H, seed=1)
    keys, values = kv_cache.from_prefill((k_LPTKH, v_LPTKH))
    for found, stacked in ((tuple(map(turned, keys)), k_LPTKH), (values, v_LPTKH)):
        assert len(found) == L
        for layer, p, t in np.ndindex(L, 3, 5):
            np.testing.assert_array_equal(found[layer][p, :, t], stacked[layer, p, t])


def test_fill_restarts_the_fresh_rows_and_leaves_the_others():
    cache = kv_cache.allocate(tiny.MODEL, 3, 5, 7)
    cache = jax.tree.map(lambda x: np.full(x.shape, 2, x.dtype), cache)
    prompt_k = tuple(_normal(4, K, H, 5, seed=layer) for layer in range(L))
    prompt_v = tuple(_normal(4, K, 5, H, seed=10 + layer) for layer in range(L))
    fresh_B, source_B = jnp.array([True, False, True]), jnp.array([3, 0, 1])
    fill = tiny.jit(kv_cache.fill)
    filled = fill(cache, fresh_B, source_B, prompt_k, prompt_v, jnp.array([1, 2, 3, 4]))
    np.testing.assert_array_equal(filled.prefix_length_B, [4, 2, 2])
    np.testing.assert_array_equal(filled.age_B, [0, 2, 0])
    for layer in range(L):
        for found, prompt in ((filled.prefix_k, prompt_k), (filled.prefix_v, prompt_v)):
            np.testing.assert_array_equal(found[layer][0], prompt[layer][3])
            np.testing.assert_array_equal(found[layer][1], np.full(prompt[layer][0].shape, 2.0))
            np.testing.assert_array_equal(found[layer][2], prompt[layer][1])
    for found, old in ((filled.ring_k, cache.ring_k), (filled.ring_v, cache.ring_v)):
        jax.tree.map(np.testing.assert_array_equal, found, old)


def test_a_new_token_sees_its_prompt_and_its_own_last_tokens():
    """Rows of different prompts and ages, at a slot where the older ones' rings wrap round."""
    prefix_length_B, age_B, slot, ring = np.array([2, 5, 1, 4]), np.array([0, 3, 6, 2]), 1, 7
    rows = len(age_B)
    cache = kv_cache.KVCache(
        prefix_k=(_normal(rows, K, H, 5, seed=1),),
        prefix_v=(_normal(rows, K, 5, H, seed=2),),
        prefix_length_B=prefix_length_B,
        ring_k=((_normal(rows, K, H, ring, seed=3),),),
        ring_v=((_normal(rows, K, ring, H, seed=4),),),
        age_B=age_B,
    )
    q, k, v = (_normal(rows, 1, n, H, seed=5 + n) for n in (N, K, K))

    def run(cache, slot):
        return kv_cache.attend(cache, 0, slot, kv_cache.seen(cache, slot))(q, k, v)

    attend = tiny.jit(run)
    out_B1NH, ((ring_k,), (ring_v,)) = attend(cache, slot)
    for b in range(rows):
        own = [(slot - back) % ring for back in range(age_B[b], 0, -1)]  # oldest first
        keys, values = (
            np.concatenate(
                [prefix[b, :, : prefix_length_B[b]], old[b][:, own], new[b].swapaxes(0, 1)], axis=1
            ).swapaxes(0, 1)
            for prefix, old, new in (
                (turned(cache.prefix_k[0]), turned(cache.ring_k[0][0]), k),
                (cache.prefix_v[0], cache.ring_v[0][0], v),
            )
        )
        queries = np.repeat(q[b], len(keys), axis=0)  # attend() answers for the last position
        expected = golden.attend(queries.astype(float), keys, values, np.zeros(len(keys)))[-1]
        np.testing.assert_allclose(out_B1NH[b, 0], expected, rtol=1e-4, atol=1e-6)
    # one slot is written, in every row, and nothing else
    written = (turned(ring_k), turned(cache.ring_k[0][0]), k), (ring_v, cache.ring_v[0][0], v)
    for found, old, new in written:
        expected = old.copy()
        expected[:, :, slot] = new[:, 0]
        np.testing.assert_array_equal(found, expected)
    # what a row does not see may hold anything finite
    unseen_prefix = np.arange(5)[None, :] >= prefix_length_B[:, None]
    unseen_ring = (slot - np.arange(ring))[None, :] % ring > age_B[:, None]
    assert unseen_prefix.sum() == 8 and unseen_ring.sum() == 13

    def spoil(x, unseen):
        return np.where(unseen[:, None, :, None], np.float32(1e9), x)

    spoilt = dataclasses.replace(
        cache,
        prefix_k=(turned(spoil(turned(cache.prefix_k[0]), unseen_prefix)),),
        prefix_v=(spoil(cache.prefix_v[0], unseen_prefix),),
        ring_k=((turned(spoil(turned(cache.ring_k[0][0]), unseen_ring)),),),
        ring_v=((spoil(cache.ring_v[0][0], unseen_ring),),),
    )
    np.testing.assert_array_equal(attend(spoilt, slot)[0], out_B1NH)


def test_a_ring_has_a_few_pieces_which_no_two_slots_lie_across(monkeypatch):
    assert kv_cache.pieces(7) == (7,) and kv_cache.pieces(64) == (64,)
    assert kv_cache.pieces(192) == (64, 64, 64)
    assert kv_cache.pieces(200) == (64, 64, 64, 8)
    assert kv_cache.pieces(8192) == (2048,) * 4
    for capacity in range(1, 700):
        found = kv_cache.pieces(capacity)
        assert sum(found) == capacity and len(found) <= 4 and min(found) > 0
        assert all(size % 2 == 0 for size in found[:-1])
    monkeypatch.setattr(mesh, "is_of_cpus", lambda: False)
    assert kv_cache.pieces(8192) == (8192,)


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("slot", [0, 2, 3, 6])
def test_pieces_are_one_ring_and_those_that_no_row_sees_are_not_read(slot, kind):
    rows, sizes, Q = 4, (2, 2, 3), 1
    age_B = np.array([0, 2, 1, 2])
    prefix_k, prefix_v = (_normal(rows, K, *s, seed=i) for i, s in enumerate(((H, 5), (5, H))))
    ring_k, ring_v = _normal(rows, K, H, 7, seed=3), _normal(rows, K, 7, H, seed=4)
    q, k, v = (_normal(rows, Q, n, H, seed=5 + i) for i, n in enumerate((N, K, K)))
    ends = np.cumsum(sizes)[:-1]

    def cached(x, axis):
        return bits.of(x, (axis,), "int8") if kind == "int8" else x

    def run(ring_k, ring_v):
        cache = kv_cache.KVCache(
            (cached(prefix_k, 2),), (cached(prefix_v, 3),), np.array([2, 5, 1, 4]),
            (tuple(cached(x, 2) for x in ring_k),), (tuple(cached(x, 3) for x in ring_v),), age_B,
        )  # fmt: skip
        seen = kv_cache.seen(cache, slot)
        return kv_cache.attend(cache, 0, slot, seen)(q, k, v), seen

    (expected, rings), seen_B1S = tiny.jit(run)((ring_k,), (ring_v,))
    is_unseen_S = ~np.any(seen_B1S, axis=(0, 1))
    unread = [piece.all() for piece in np.split(is_unseen_S, ends)]
    assert any(unread) and not all(unread)
    pieces_k, pieces_v = np.split(ring_k, ends, axis=3), np.split(ring_v, ends, axis=2)
    for piece, is_unread in enumerate(unread):
        if is_unread and kind == "float":  # in 8 bits there is no such number
            pieces_k[piece], pieces_v[piece] = np.nan * pieces_k[piece], np.nan * pieces_v[piece]
    (found, (found_k, found_v)), _ = tiny.jit(run)(tuple(pieces_k), tuple(pieces_v))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for ours, (theirs,), axis in ((found_k, rings[0], 3), (found_v, rings[1], 2)):
        for piece, is_unread, whole in zip(
            ours, unread, np.split(_meant(theirs), ends, axis=axis), strict=True
        ):
            if not is_unread:
                np.testing.assert_array_equal(_meant(piece), whole)


def _meant(x):
    return np.asarray(x.number * x.scale if isinstance(x, bits.Bits) else x)


@pytest.mark.parametrize("kind", ["float", "int8"])
@pytest.mark.parametrize("num_new", [1, 2])
def test_rows_that_share_a_prompt_see_what_rows_with_copies_of_it_see(num_new, kind):
    prompts, each, ring = 2, 3, 8
    rows = prompts * each
    shapes = (prompts, K, H, 5), (prompts, K, 5, H), (rows, K, H, ring), (rows, K, ring, H)
    arrays = [_normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    if kind == "int8":
        arrays = [bits.of(x, (axis,), "int8") for x, axis in zip(arrays, (2, 3, 2, 3), strict=True)]
    prefix_k, prefix_v, ring_k, ring_v = arrays
    q, k, v = (_normal(rows, num_new, n, H, seed=7 + i) for i, n in enumerate((N, K, K)))
    seen_BQS = np.random.default_rng(0).random((rows, num_new, ring)) < 0.5
    seen_BQS[:, :, 2 : 2 + num_new] = True

    def run(prefix_k, prefix_v):
        length_B = np.repeat([2, 5], each)
        cache = kv_cache.KVCache(
            (prefix_k,), (prefix_v,), length_B, ((ring_k,),), ((ring_v,),), np.zeros(rows, np.int32)
        )
        return kv_cache.attend(cache, 0, 2, seen_BQS)(q, k, v)[0]

    copies = jax.tree.map(lambda x: np.repeat(x, each, axis=0), (prefix_k, prefix_v))
    expected = tiny.jit(run)(*copies)
    np.testing.assert_allclose(tiny.jit(run)(prefix_k, prefix_v), expected, rtol=1e-5, atol=1e-6)
    other = jax.tree.map(lambda x: x[::-1], (prefix_k, prefix_v))
    assert np.abs(tiny.jit(run)(*other) - expected).max() > 1e-2


def test_in_8_bits_a_row_head_and_slot_has_a_scale():
    k_LPTKH, v_LPTKH = _normal(1, 3, 5, K, H), _normal(1, 3, 5, K, H, seed=1)

    def run(k_LPTKH, v_LPTKH):
        cache = kv_cache.allocate(tiny.MODEL, 3, 5, 7, 1, kind="int8")
        prompt = kv_cache.from_prefill((k_LPTKH, v_LPTKH), kind="int8")
        fresh_B, source_B = jnp.array([True, False, True]), jnp.array([2, 0, 1])
        expected = bits.of(v_LPTKH[0], (3,), "int8").number.swapaxes(1, 2)
        return prompt, kv_cache.fill(cache, fresh_B, source_B, *prompt, jnp.full(3, 5)), expected

    program = jax.make_jaxpr(lambda: kv_cache.allocate(tiny.MODEL, 3, 5, 7, kind="int8"))()
    assert not tiny.count(program, "reduce_max")  # of zeros, which XLA would fold, entry by entry
    ((keys,), (values,)), filled, expected = tiny.jit(run)(k_LPTKH, v_LPTKH)
    np.testing.assert_array_equal(values.number, expected)
    assert (keys.scale.shape, values.scale.shape) == ((3, K, 1, 5), (3, K, 5, 1))
    for found, prompt in ((filled.prefix_k[0], keys), (filled.prefix_v[0], values)):
        assert found.number.dtype == prompt.number.dtype == np.int8
        for ours, theirs in ((found.number, prompt.number), (found.scale, prompt.scale)):
            np.testing.assert_array_equal(ours, np.stack([theirs[2], 0 * theirs[0], theirs[1]]))


@pytest.mark.parametrize("is_latent", [False, True])
def test_attending_over_8_bits_is_attending_over_what_they_stand_for(is_latent):
    rows, slot, ring = 3, 1, 7
    heads = 1 if is_latent else K

    def made(seed, of_keys):
        length = (5, ring)[seed % 2]
        shape = (rows, heads, H, length) if of_keys and not is_latent else (rows, heads, length, H)
        return bits.of(_normal(*shape, seed=seed), (2 if of_keys and not is_latent else 3,), "int8")

    arrays = [(made(0, True),), (made(2, False),), (made(1, True),), (made(3, False),)]
    prefix_k, prefix_v, ring_k, ring_v = arrays
    cache = kv_cache.KVCache(
        prefix_k, () if is_latent else prefix_v, np.array([2, 5, 1]), (ring_k,),
        () if is_latent else (ring_v,), np.array([0, 3, 6]),
    )  # fmt: skip
    q = _normal(rows, 1, N, H, seed=9)
    k, v = (_normal(rows, 1, heads, H, seed=10 + i) for i in range(2))

    def meant(tree):
        def one(x):
            return x.number * x.scale if isinstance(x, bits.Bits) else x

        return jax.tree.map(one, tree, is_leaf=lambda x: isinstance(x, bits.Bits))

    def run(cache, k, v):
        seen = kv_cache.seen(cache, slot)
        return kv_cache.attend(cache, 0, slot, seen)(q, k, None if is_latent else v)

    attend = tiny.jit(run)
    found, rings = attend(cache, k, v)
    kept_k, kept_v = (bits.of(x, (3,), "int8") for x in (k, v))
    expected, of_floats = attend(*meant((cache, kept_k, kept_v)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(meant(rings), of_floats, strict=True):
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    exact, _ = attend(meant(cache), k, v)
    assert 1e-5 < np.abs(exact - found).max() < 0.05  # the new token is rounded, too
