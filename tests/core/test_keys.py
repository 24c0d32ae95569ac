"""keys: streams are stable functions of their names and positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import keys


def _data(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_a_stream_is_the_crc_of_its_name_folded_in_then_its_ints():
    # zlib.crc32(b"sample") = 0xf10b76c3, written out so that a change of the hash is seen
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 0xF10B76C3), 7)
    assert _data(keys.at(keys.root(3), "sample", 7)) == _data(expected)


def test_names_positions_and_seeds_give_different_streams():
    streams = [
        keys.at(keys.root(seed), name, *ints)
        for seed in (0, 1)
        for name in ("sample", "shuffle")
        for ints in ((), (0,), (1,), (0, 1), (1, 0))
    ]
    assert len({_data(key) for key in streams}) == len(streams)


def test_traced_ints_give_the_stream_of_the_same_python_ints():
    uids = jnp.array([0, 5, 2**31 - 1])
    traced = jax.jit(jax.vmap(lambda uid: keys.at(keys.root(0), "row", 4, uid)))(uids)
    for row, uid in enumerate(uids.tolist()):
        assert _data(traced[row]) == _data(keys.at(keys.root(0), "row", 4, uid))


def test_taking_a_stream_does_not_consume_the_root():
    root = keys.root(0)
    first = jax.random.normal(keys.at(root, "a"))
    second = jax.random.normal(keys.at(root, "b"))
    assert first != second


def test_out_of_range_integers_are_named():
    with pytest.raises(ValueError, match="seed=-1 is out of range"):
        keys.root(-1)
    with pytest.raises(ValueError, match=r"keys\.at\(key, 'a', 4294967296\)"):
        keys.at(keys.root(0), "a", 2**32)
