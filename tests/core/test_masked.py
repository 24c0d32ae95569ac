"""masked: by hand, against NumPy, and deaf to what lies outside the mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.core import masked

X = jnp.array([[1.0, 2.0, 6.0], [4.0, -3.0, 5.0]])
MASK = jnp.array([[True, False, True], [False, True, False]])


def test_by_hand():
    # under the mask: row 0 holds 1 and 6, row 1 holds -3
    assert masked.sum(X, MASK) == 4
    assert masked.sum(X, MASK, axis=1).tolist() == [7, -3]
    assert masked.sum(X, MASK, axis=0).tolist() == [1, -3, 6]
    assert masked.count(X, MASK, axis=1).tolist() == [2, 1]
    assert masked.mean(X, MASK, axis=1).tolist() == [3.5, -3]
    assert masked.max(X, MASK, axis=1).tolist() == [6, -3]
    assert masked.var(X, MASK, axis=1).tolist() == [6.25, 0]  # (2.5^2 + 2.5^2) / 2
    assert masked.var(X, MASK, axis=1, ddof=1).tolist() == [12.5, 0]


def test_completion_mask_by_hand():
    mask = masked.completion_mask(jnp.array([2, 0, 3, 1]), jnp.array([2, 1, 0, 9]), 5)
    assert mask.astype(int).tolist() == [
        [0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1],
    ]


def test_an_empty_mask_gives_zero_and_zero_gradient():
    none = jnp.zeros_like(MASK)
    for reduce in (masked.sum, masked.mean, masked.var, masked.max):
        assert reduce(X, none) == 0
        gradient = jax.grad(lambda x, reduce=reduce: reduce(x, none))(X)
        assert jnp.all(gradient == 0)
    assert masked.max(X, none, empty=-1.0) == -1


@pytest.mark.parametrize("reduce", [masked.sum, masked.mean, masked.var, masked.max])
@pytest.mark.parametrize("junk", [jnp.nan, jnp.inf, 1e30])
def test_junk_outside_the_mask_changes_neither_value_nor_gradient(reduce, junk):
    dirty = jnp.where(MASK, X, junk)
    np.testing.assert_array_equal(reduce(dirty, MASK), reduce(X, MASK))
    gradient = jax.grad(lambda x: reduce(x, MASK))(dirty)
    np.testing.assert_array_equal(gradient, jax.grad(lambda x: reduce(x, MASK))(X))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-100, 100, width=32), st.booleans()), min_size=4, max_size=4),
    st.sampled_from([0, 1]),
)
def test_equals_numpy_on_the_selected_elements(pairs, ddof):
    values, mask = (np.array(column) for column in zip(*pairs, strict=True))
    values = values.astype(np.float32)
    chosen = values[mask].astype(np.float64)
    x, m = jnp.asarray(values), jnp.asarray(mask)
    np.testing.assert_allclose(masked.sum(x, m), chosen.sum(), rtol=1e-5, atol=1e-4)
    assert masked.count(x, m) == len(chosen)
    if len(chosen):
        np.testing.assert_allclose(masked.mean(x, m), chosen.mean(), rtol=1e-5, atol=1e-5)
        assert masked.max(x, m) == chosen.max()
    if len(chosen) > ddof:
        expected = chosen.var(ddof=ddof)
        np.testing.assert_allclose(masked.var(x, m, ddof=ddof), expected, rtol=1e-4, atol=1e-4)


def test_variance_does_not_cancel_far_from_zero():
    x = jnp.array([10000.0, 10001.0, 10002.0])  # E[x^2] - E[x]^2 is 0 or 8 in float32
    np.testing.assert_allclose(masked.var(x, jnp.ones(3, bool)), 2 / 3, rtol=1e-6)


def test_narrow_types_are_summed_wide():
    ones = jnp.ones(1001, jnp.bfloat16)  # the next bfloat16 to 1001 is 1000
    assert masked.sum(ones, ones > 0) == 1001
    assert masked.mean(ones, ones > 0).dtype == jnp.float32
    assert masked.mean(ones > 0, jnp.ones(1001, bool)) == 1
    assert masked.sum(jnp.array([2**24, 1]), jnp.ones(2, bool)) == 2**24 + 1


def test_division_by_an_empty_count_is_zero():
    quotient = masked.divide(jnp.array([3.0, 3.0, 0.0]), jnp.array([0, 2, 4]))
    assert quotient.tolist() == [0, 1.5, 0]
    gradient = jax.grad(lambda total: masked.divide(total, jnp.array(0)))(3.0)
    assert gradient == 0  # and not 0 * inf


def test_a_mask_broadcasts_in_its_own_rank_only():
    assert masked.sum(X, jnp.array([[True], [False]])) == 9
    with pytest.raises(ValueError, match=r"mask is bool\[3\]; for x of shape \[2, 3\] it must"):
        masked.sum(X, jnp.ones(3, bool))
    with pytest.raises(ValueError, match="mask is float32"):
        masked.sum(X, MASK.astype(jnp.float32))
