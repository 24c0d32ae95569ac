"""Blockwise attention = the naive one, in value and gradient; its blocks; what it keeps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_jax.models import attention, prefix
from tests.golden import decoder_numpy as golden
from tests.models import tiny

B, T, H = 2, 13, 6
SEGMENTS = {
    "one": np.zeros((B, T), np.int32),
    # borders inside blocks of 4 and on their edges; a document of one token; numbers that return
    "packed": np.array([[1] * 4 + [2] * 5 + [3] + [0] * 3, [7] * 6 + [1] * 6 + [7]], np.int32),
}


def naive(q_BTNH, k_BTKH, v_BTKH, segment_BT):
    """[B, N, T, T] weights all at once; every query head with its own copy of keys and values."""
    T, N, H = q_BTNH.shape[1:]
    k_BTNH, v_BTNH = (jnp.repeat(x, N // x.shape[2], axis=2) for x in (k_BTKH, v_BTKH))
    logits_BNTS = jnp.einsum("BTNH,BSNH->BNTS", q_BTNH, k_BTNH) / np.sqrt(H)
    seen_BTS = segment_BT[:, :, None] == segment_BT[:, None, :]
    seen_BTS &= np.tril(np.ones((1, T, T), bool))
    weights_BNTS = jax.nn.softmax(jnp.where(seen_BTS[:, None], logits_BNTS, -jnp.inf), axis=-1)
    return jnp.einsum("BNTS,BSNH->BTNH", weights_BNTS, v_BTNH)


def _inputs(K, R, seed=0):
    """q, k, v and a gradient of the output; keys large enough for peaked weights."""
    rng = np.random.default_rng(seed)
    heads = (R * K, K, K, R * K)
    return [1.5 * rng.normal(size=(B, T, n, H)).astype(np.float32) for n in heads]


def _value_and_gradients(function, q, k, v, g, segment):
    value, pull = jax.vjp(lambda q, k, v: function(q, k, v, segment), q, k, v)
    return value, *pull(g.astype(value.dtype))


@pytest.mark.parametrize(("K", "R"), [(2, 3), (2, 1)])
def test_value_and_gradients_are_the_naive_ones_over_several_blocks(K, R, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 4)
    assert len(attention._blocks(T, T, None)) == 4
    ours = tiny.jit(partial(_value_and_gradients, attention.causal))
    slow = tiny.jit(partial(_value_and_gradients, naive))
    for name, segment_BT in SEGMENTS.items():
        inputs = _inputs(K, R)
        found, expected = ours(*inputs, segment_BT), slow(*inputs, segment_BT)
        for what, a, b in zip(("value", "dq", "dk", "dv"), found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=f"{name} {what}")
        q, k, v, _ = inputs
        for b in range(B):
            loops = golden.attend(*(x[b].astype(float) for x in (q, k, v)), segment_BT[b])
            np.testing.assert_allclose(found[0][b], loops, rtol=1e-4, atol=1e-5)


def test_no_segments_means_one_per_row():
    q, k, v, _ = _inputs(2, 3)
    attend = tiny.jit(attention.causal)
    expected = attend(q, k, v, SEGMENTS["one"])
    np.testing.assert_array_equal(attend(q, k, v, None), expected)


def test_rows_behind_a_prefix_are_whole_rows_in_several_blocks(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 4)
    shared = prefix.Shared(B, 3)
    inputs = [shared.whole(shared.fold(x)) for x in _inputs(2, 3)]  # alike in three positions

    def behind(q, k, v, segment_BT):
        folded = (shared.fold(x) for x in (q, k, v))
        return shared.whole(attention.behind_prefix(*folded, shared))

    found = tiny.jit(partial(_value_and_gradients, behind))(*inputs, SEGMENTS["one"])
    expected = tiny.jit(partial(_value_and_gradients, naive))(*inputs, SEGMENTS["one"])
    for what, a, b in zip(("value", "dq", "dk", "dv"), found, expected, strict=True):
        a, b = np.array(a), np.array(b)
        if what != "value":  # what the rows share is the first's, and has all rows' gradients
            b[0, :3], b[1:, :3] = b[:, :3].sum(0), 0
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=what)


def test_a_later_position_and_another_document_do_not_matter(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 4)
    q, k, v, _ = _inputs(2, 3)
    attend = tiny.jit(attention.causal)
    before = attend(q, k, v, SEGMENTS["packed"])
    hidden = np.zeros((B, T, 1, 1), bool)
    hidden[0, 4:9], hidden[1, 9:] = True, True  # the second document; what comes last
    after = attend(q, np.where(hidden, 1e3, k), np.where(hidden, -1e3, v), SEGMENTS["packed"])
    np.testing.assert_array_equal(before[0, :4], after[0, :4])
    np.testing.assert_array_equal(before[0, 9:], after[0, 9:])
    np.testing.assert_array_equal(before[1, :9], after[1, :9])
    assert np.abs(before[0, 4:9] - after[0, 4:9]).min() > 1


def test_bfloat16_in_and_out_with_a_softmax_in_float32():
    inputs = [x.astype(jnp.bfloat16) for x in _inputs(2, 3)]
    segment_BT = SEGMENTS["packed"]
    found = tiny.jit(partial(_value_and_gradients, attention.causal))(*inputs, segment_BT)
    wide = [np.asarray(x, np.float32) for x in inputs]
    expected = tiny.jit(partial(_value_and_gradients, naive))(*wide, segment_BT)
    for what, a, b in zip(("value", "dq", "dk", "dv"), found, expected, strict=True):
        assert a.dtype == jnp.bfloat16, what
        # 8 bits of mantissa: each rounding is up to 0.4% of the largest summand
        error = np.abs(np.asarray(a, np.float32) - b).max() / np.abs(b).max()
        assert error < 0.02, (what, error)


@given(st.integers(1, 5000))
def test_blocks_follow_each_other_and_are_few(num_positions):
    blocks = attention._blocks(num_positions, num_positions + 7, None)
    assert [t for a, b, _ in blocks for t in range(a, b)] == list(range(num_positions))
    sizes = [b - a for a, b, _ in blocks]
    assert len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]
    assert len(blocks) <= attention.MAX_BLOCKS
    assert max(sizes) <= attention.BLOCK or num_positions > attention.BLOCK * attention.MAX_BLOCKS
    assert [keys for *_, keys in blocks] == [7 + b for _, b, _ in blocks]


def test_weights_exist_for_one_block_at_a_time(monkeypatch):
    K, R = 2, 3
    inputs = *_inputs(K, R), SEGMENTS["packed"]

    def largest(block):
        monkeypatch.setattr(attention, "BLOCK", block)
        program = jax.make_jaxpr(partial(_value_and_gradients, attention.causal))(*inputs)
        return max(np.prod(shape) for shape in tiny.shapes(program))

    assert largest(T) == B * K * R * T * T
    assert largest(4) == B * K * R * T * H  # the queries; weights are [B, K, R * 4, T] at most
