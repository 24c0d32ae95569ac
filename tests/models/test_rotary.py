"""Rotary positions: by hand, against complex numbers, and their scalings against the formulas."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import config as model_config
from r1_jax.models import rotary
from r1_jax.models import sizes as model_sizes
from tests.golden import decoder_numpy as golden
from tests.models import tiny


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _config(**changes):
    return dataclasses.replace(tiny.MODEL, **changes)


def _rotate(config, x_BTNH, position_BT):
    if not config.latent:
        config = dataclasses.replace(config, head_dim=x_BTNH.shape[-1])
    return rotary.rotate(config, x_BTNH, rotary.turn(config, position_BT))


def test_rotary_by_hand():
    # H = 2 turns the one pair (1, 0) by its position in radians; position 0 leaves it
    x_BTNH = jnp.array([[[[1.0, 0.0]], [[1.0, 0.0]]]])
    turned = _rotate(_config(), x_BTNH, jnp.array([[0, 1]]))
    expected = [[[[1.0, 0.0]], [[np.cos(1.0), np.sin(1.0)]]]]
    np.testing.assert_allclose(turned, expected, atol=1e-7)


def test_rotary_against_complex_numbers_and_is_relative():
    x_BTNH, position_BT = _normal(2, 5, 3, 8), np.array([[0, 1, 2, 3, 4], [7, 0, 900, 31, 2]])
    config = _config(rope_theta=500.0)
    turn = tiny.jit(lambda x, position: _rotate(config, x, position))
    turned = np.asarray(turn(x_BTNH, position_BT))
    for b, t in np.ndindex(2, 5):
        expected = golden.rotate(x_BTNH[b, t].astype(float), position_BT[b, t], 500.0)
        np.testing.assert_allclose(turned[b, t], expected, atol=2e-4)
    # the product of two turned vectors depends on how far they stand apart and on nothing else
    q, k = (np.broadcast_to(_normal(8, seed=s), (2, 5, 3, 8)) for s in (1, 2))
    products = [
        np.sum(turn(q, position_BT + shift + 3) * turn(k, position_BT + shift), axis=-1)
        for shift in (0, 50)
    ]
    np.testing.assert_allclose(products[0], products[1], atol=1e-3)
    assert np.ptp(products[0]) < 1e-3 < abs(products[0].mean() - np.sum(q[0, 0, 0] * k[0, 0, 0]))


def test_rotary_keeps_the_dtype():
    x_BTNH = jnp.ones((1, 2, 1, 4), jnp.bfloat16)
    turned = jax.eval_shape(lambda x: _rotate(_config(), x, jnp.array([[0, 1]])), x_BTNH)
    assert turned.dtype == jnp.bfloat16


def test_neighbours_are_the_pairs_of_latent_attention():
    config = model_sizes.SIZES["deepseek_tiny"]
    x_BTNH, position_BT = _normal(1, 3, 2, 8), np.array([[0, 5, 31]])
    turned = np.asarray(_rotate(config, x_BTNH, position_BT))
    z = x_BTNH[..., 0::2] + 1j * x_BTNH[..., 1::2]
    angle = position_BT[:, :, None, None] * 10_000.0 ** (-np.arange(4) / 4)
    z = z * np.exp(1j * angle)
    np.testing.assert_allclose(turned, np.concatenate([z.real, z.imag], -1), atol=1e-5)


def test_llama3_divides_the_slow_ones_and_keeps_the_fast_ones():
    rope = model_config.Llama3Rope(factor=8.0, original_length=8192)
    config = _config(rope_theta=5e5, llama3_rope=rope)
    found = np.asarray(rotary.frequencies(config, 128))
    plain = 5e5 ** (-np.arange(64) / 64)
    for ours, frequency in zip(found, plain, strict=True):
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4:
            expected = frequency
        elif wavelength > 8192:
            expected = frequency / 8
        else:
            smooth = (8192 / wavelength - 1) / 3
            expected = (1 - smooth) * frequency / 8 + smooth * frequency
        assert ours == pytest.approx(expected, rel=1e-5)
    kinds = np.sum(found > 0.99 * plain), np.sum(found < 1.01 * plain / 8)
    assert min(*kinds, 64 - sum(kinds)) > 3  # some of each


def test_yarn_of_deepseek_v3():
    config = model_sizes.SIZES["deepseek_v3"]
    found, plain = np.asarray(rotary.frequencies(config, 64)), 1e4 ** (-np.arange(32) / 32)
    # 4096 tokens are 32 turns at pair 10.47 and 1 turn at 22.51: the ramp is from 10 to 23
    kept = 1 - np.clip((np.arange(32) - 10) / 13, 0, 1)
    np.testing.assert_allclose(found, plain * (kept + (1 - kept) / 40), rtol=1e-5)
    # mscale = mscale_all_dim: cos and sin stay, logits take 1.3689 squared
    assert rotary.magnitude(config) == 1
    assert rotary.logit_scale(config) == pytest.approx(192**-0.5 * 1.3689**2, rel=1e-4)


def test_plain_yarn_scales_cos_and_sin_only():
    yarn = model_config.Yarn(factor=4.0, original_length=32_768)
    config = _config(yarn=yarn)
    assert rotary.magnitude(config) == pytest.approx(0.1 * math.log(4) + 1)
    assert rotary.logit_scale(config) == rotary.logit_scale(_config()) == 8**-0.5
    x_BTNH, start = _normal(1, 1, 1, 8), np.array([[0]])
    turned = _rotate(config, x_BTNH, start)
    np.testing.assert_allclose(turned, x_BTNH * (0.1 * math.log(4) + 1), rtol=1e-6)
