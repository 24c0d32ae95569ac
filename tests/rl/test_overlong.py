"""Truncated completions: three treatments, each by hand and against loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.rl import overlong
from tests.golden import rl_numpy as golden

STOP_B = jnp.array([2, -1, 0, -1], jnp.int32)  # 0 is a token like any other


def test_truncated_is_what_no_stop_token_ended():
    assert overlong.is_truncated(STOP_B).tolist() == [False, True, False, True]


def test_zero_reward():
    found_B = overlong.zero_reward(jnp.array([2.0, 2.0, -1.0, -1.0]), overlong.is_truncated(STOP_B))
    assert found_B.tolist() == [2.0, 0.0, -1.0, 0.0]
    assert found_B.dtype == jnp.float32


def test_leave_out():
    include_B = jnp.array([True, True, False, False])
    found_B = overlong.leave_out(include_B, overlong.is_truncated(STOP_B))
    assert found_B.tolist() == [True, False, False, False]


def test_soft_penalty_by_hand():
    # limit 100, buffer 20: free up to 80, then 1/20 per token
    length_B = jnp.array([1, 79, 80, 81, 90, 99, 100, 120], jnp.int32)
    found_B = overlong.soft_penalty(length_B, max_length=100, buffer=20)
    assert found_B.dtype == jnp.float32
    np.testing.assert_allclose(found_B, [0, 0, 0, -0.05, -0.5, -0.95, -1, -1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("max_length", "buffer"), [(100, 20), (16, 16), (16, 1), (32768, 4096)])
def test_soft_penalty_against_loops(max_length, buffer):
    length_B = np.unique(np.linspace(1, max_length + 3, 50).astype(np.int32))
    expected = [golden.soft_penalty(int(n), max_length, buffer) for n in length_B]
    found_B = overlong.soft_penalty(jnp.asarray(length_B), max_length=max_length, buffer=buffer)
    np.testing.assert_allclose(found_B, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("buffer", [0, -1, 101])
def test_the_buffer_lies_within_the_limit(buffer):
    with pytest.raises(ValueError, match=f"buffer={buffer}"):
        overlong.soft_penalty(jnp.array([1]), max_length=100, buffer=buffer)
