"""The GPU's kernel, interpreted, against what serves the other devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import cache as kv_cache
from r1_jax.models import flash_decode
from r1_jax.sharding import mesh as meshes

B, N, K, H = 4, 6, 2, 32
PREFIX = 70
LENGTHS = {4: [70, 3, 0, 65], 2: [70, 3], 1: [70]}  # of each prompt


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def _cache(num_prompts, capacity):
    """Four rows of a cache that holds noise, of `num_prompts` prompts."""
    return kv_cache.KVCache(
        prefix_k=(_normal(0, num_prompts, K, H, PREFIX),),
        prefix_v=(_normal(1, num_prompts, K, PREFIX, H),),
        prefix_length_B=jnp.repeat(jnp.array(LENGTHS[num_prompts]), B // num_prompts),
        ring_k=((_normal(2, B, K, H, capacity),),),
        ring_v=((_normal(3, B, K, capacity, H),),),
        age_B=jnp.array([0, 5, 69, 99]),
    )


@pytest.mark.parametrize("num_prompts", LENGTHS)
@pytest.mark.parametrize("num_new", [1, 2])
def test_it_is_what_other_devices_compute_from_parts(num_prompts, num_new, monkeypatch):
    cache, slot = _cache(num_prompts, 100), jnp.int32(64)  # rows of 69 and 99 see later slots too
    inputs = [_normal(4 + i, B, num_new, heads, H) for i, heads in enumerate((N, K, K))]
    seen_BQS = jnp.concatenate([kv_cache.seen(cache, slot + i) for i in range(num_new)], axis=1)
    want, rings = kv_cache.attend(cache, 0, slot, seen_BQS)(*inputs, 0.2)
    calls = []

    def interpreted(*args, run=flash_decode.attend):
        calls.append(args)
        return run(*args, interpret=True)

    monkeypatch.setattr(flash_decode, "attend", interpreted)
    monkeypatch.setattr(flash_decode, "is_of_use", lambda q_BKMH: True)
    got, written = kv_cache.attend(cache, 0, slot, seen_BQS)(*inputs, 0.2)
    assert len(calls) == 1
    np.testing.assert_allclose(got, want, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, written, rings)


def test_what_no_query_sees_is_not_read():
    """What lies in blocks behind a prompt's end, and beside the slots seen, would spoil any sum."""
    cache, capacity = _cache(2, 300), 300
    q_BKMH, length_P = _normal(4, B, K, N // K, H), jnp.array(LENGTHS[2])
    seen_B1S = jnp.zeros((B, 1, capacity), bool).at[:, :, 70:120].set(True)
    attend = functools.partial(flash_decode.attend, q_BKMH, interpret=True)
    prompts = (cache.prefix_k[0], 3), (cache.prefix_v[0], 2)  # the second ends in a first block
    rings = (cache.ring_k[0][0], 3), (cache.ring_v[0][0], 2)

    def spoilt(x, axis, first, last, value):
        place = jnp.arange(x.shape[axis])
        shape = [-1 if i == axis else 1 for i in range(4)]
        return jnp.where(((place >= first) & (place < last)).reshape(shape), x, value)

    def run(value):
        k, v = (x.at[1].set(spoilt(x[1:], i, 0, 64, value)[0]) for x, i in prompts)
        ring_k, ring_v = (spoilt(x, i, 64, 128, value) for x, i in rings)
        return attend(k, v, length_P, ring_k, ring_v, seen_B1S, 0.2)

    expected = run(0.0)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(run(jnp.nan), expected)


def test_over_a_mesh_every_device_has_its_own_rows_and_heads():
    cache, slot = _cache(4, 100), jnp.int32(64)
    q_BKMH, seen_B1S = _normal(4, B, K, N // K, H), kv_cache.seen(cache, slot)
    caches = cache.prefix_k[0], cache.prefix_v[0], jnp.array(LENGTHS[4])
    inputs = q_BKMH, *caches, cache.ring_k[0][0], cache.ring_v[0][0], seen_B1S
    attend = functools.partial(flash_decode.attend, scale=0.2, interpret=True)
    alone = attend(*inputs)
    with meshes.activate(meshes.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])):
        over = jax.jit(attend)(*inputs)
    np.testing.assert_allclose(over, alone, atol=1e-6)


def test_programs_share_a_head_s_keys_and_what_they_find_is_one_softmax(monkeypatch):
    cache, slot = _cache(4, 300), jnp.int32(250)
    q_BKMH, seen_B1S = _normal(4, B, K, N // K, H), kv_cache.seen(cache, slot)
    caches = cache.prefix_k[0], cache.prefix_v[0], jnp.array(LENGTHS[4])
    inputs = q_BKMH, *caches, cache.ring_k[0][0], cache.ring_v[0][0], seen_B1S
    found = {}
    for programs in (1, 2 * B * K, 100 * B * K):  # one a head, two, one a block
        monkeypatch.setattr(flash_decode, "PROGRAMS", programs)
        found[programs] = flash_decode.attend(*inputs, 0.2, interpret=True)
    alone, *shared = found.values()
    for other in shared:
        np.testing.assert_allclose(other, alone, atol=1e-6)


def test_it_is_for_gpus_16_bits_and_heads_of_some_sizes(monkeypatch):
    q_BKMH = jnp.zeros((2, 2, 2, 64), jnp.bfloat16)
    assert not flash_decode.is_of_use(q_BKMH)
    with meshes.activate(meshes.make_mesh(data=jax.device_count())):
        assert not flash_decode.is_of_use(q_BKMH)
    monkeypatch.setattr(meshes, "is_of_gpus", lambda: True)
    assert flash_decode.is_of_use(q_BKMH)
    assert not flash_decode.is_of_use(q_BKMH.astype(jnp.float32))
    assert not flash_decode.is_of_use(q_BKMH[..., :48])
    assert not flash_decode.is_of_use(jnp.zeros((1, 1, 65, 64), jnp.bfloat16))
