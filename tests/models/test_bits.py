"""8-bit numbers and their scales, by hand."""

import jax.numpy as jnp
import numpy as np

from r1_jax.models import bits

X = jnp.array([[2.54, 0.0, -0.1], [-1.0, 0.0, 12.7]])


def test_integers_by_hand():
    found = bits.of(X, (0,), "int8")
    np.testing.assert_allclose(found.scale, [[0.02, 0.0, 0.1]], rtol=1e-6)  # largest / 127
    np.testing.assert_array_equal(found.number, [[127, 0, -1], [-50, 0, 127]])
    assert found.number.dtype == jnp.int8 and found.shape == (2, 3)


def test_floats_by_hand():
    found = bits.of(X, (0,), "fp8")
    np.testing.assert_allclose(found.scale, np.array([[2.54, 0.0, 12.7]]) / 448, rtol=1e-6)
    # 1 / 2.54 * 448 = 176.4: 8-bit floats of that size are 16 apart
    np.testing.assert_array_equal(found.number[:, 0].astype(jnp.float32), [448, -176])


def test_axes_may_share_a_scale():
    found = bits.of(X, (0, 1), "int8")
    np.testing.assert_allclose(found.scale, [[0.1]], rtol=1e-6)
    np.testing.assert_array_equal(found.number, [[25, 0, -1], [-10, 0, 127]])
