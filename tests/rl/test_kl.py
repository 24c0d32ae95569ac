"""The KL estimators: value, gradient, what each one's mean estimates, and extreme log-ratios."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rl import kl
from tests.golden import rl_numpy as golden

ESTIMATORS = {
    "k1": (kl.k1, golden.k1),
    "k2": (kl.k2, golden.k2),
    "k3": (kl.k3, golden.k3),
}


@functools.partial(jax.jit, static_argnums=0)
def _value_and_slope(estimator, logps, reference_logps):
    slope = jax.grad(lambda x: jnp.sum(estimator(x, reference_logps)))(logps)
    return estimator(logps, reference_logps), slope


def value_and_slope(estimator, logps, reference_logps):
    return _value_and_slope(estimator, np.float32(logps), np.float32(reference_logps))


def test_by_hand():
    # policy 1/2, reference 1/4: d = log 2, r = 1/2, k3 = 1/2 + log 2 - 1, its slope 1 - 1/2
    logps, reference_logps = np.log([0.5]), np.log([0.25])
    for estimator, value, slope in (
        (kl.k1, np.log(2), 1.0),
        (kl.k2, np.log(2) ** 2 / 2, np.log(2)),
        (kl.k3, np.log(2) - 0.5, 0.5),
    ):
        found = value_and_slope(estimator, logps, reference_logps)
        np.testing.assert_allclose(found, [[value], [slope]], rtol=1e-6)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_value_and_gradient_against_loops(name):
    ours, slow = ESTIMATORS[name]
    log_ratio = np.array([-100, -21, -20, -19, -5, -1, -0.3, 0, 0.3, 1, 5, 19, 20, 21, 100.0])
    logps = -np.linspace(0.125, 2, len(log_ratio)).astype(np.float32).astype(float)
    reference_logps = (logps - log_ratio).astype(np.float32).astype(float)
    value, slope = value_and_slope(ours, logps, reference_logps)
    assert value.dtype == jnp.float32
    expected = np.array([slow(*pair) for pair in zip(logps, reference_logps, strict=True)]).T
    np.testing.assert_allclose(value, expected[0], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(slope, expected[1], rtol=2e-5, atol=1e-6)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_reference_is_a_constant(name):
    gradient = jax.grad(lambda x: jnp.sum(ESTIMATORS[name][0](jnp.zeros(3), x)))(jnp.ones(3))
    assert np.all(np.asarray(gradient) == 0)


def test_k3_keeps_its_precision_near_zero_and_its_direction_far_out():
    # d = 1e-3: d^2/2 - d^3/6 = 4.998e-7; exp(-d) + d - 1 in float32 is off by 6e-8
    np.testing.assert_allclose(kl.k3(jnp.float32(1e-3), jnp.float32(0)), 4.998334e-7, rtol=1e-3)
    for log_ratio in (-100.0, -30.0, -20.5):
        _, slope = value_and_slope(kl.k3, [log_ratio], [0.0])
        assert slope[0] < -1e8  # descent raises a log-prob that fell far below the reference's
    np.testing.assert_allclose(value_and_slope(kl.k3, [100.0], [0.0]), [[99.0], [1.0]], rtol=1e-6)


def test_what_the_means_estimate():
    """Exact means over a vocabulary of 5, tokens drawn from the policy: the table of kl.py."""
    rng = np.random.default_rng(0)
    logits, reference = jnp.array(rng.normal(size=5)), jnp.array(rng.normal(size=5))
    reference_logps = jax.nn.log_softmax(reference)
    policy = jax.nn.softmax(logits)

    def mean_gradient(estimator):  # sum over tokens of p(token) * grad estimator(token)
        def loss(x):
            values = estimator(jax.nn.log_softmax(x), reference_logps)
            return jnp.sum(jax.lax.stop_gradient(policy) * values)

        return jax.jit(jax.grad(loss))(logits)

    def reverse(x):  # KL(policy || reference)
        logps = jax.nn.log_softmax(x)
        return jnp.sum(jnp.exp(logps) * (logps - reference_logps))

    def forward(x):  # KL(reference || policy)
        return jnp.sum(jnp.exp(reference_logps) * (reference_logps - jax.nn.log_softmax(x)))

    for estimator in (kl.k1, kl.k3):
        mean = jnp.sum(policy * estimator(jax.nn.log_softmax(logits), reference_logps))
        np.testing.assert_allclose(mean, reverse(logits), rtol=1e-5)
    reverse_gradient, forward_gradient = jax.jit(
        lambda x: (jax.grad(reverse)(x), jax.grad(forward)(x))
    )(logits)
    assert np.abs(reverse_gradient).max() > 0.05
    np.testing.assert_allclose(mean_gradient(kl.k1), np.zeros(5), atol=1e-6)
    np.testing.assert_allclose(mean_gradient(kl.k2), reverse_gradient, atol=1e-6)
    np.testing.assert_allclose(mean_gradient(kl.k3), forward_gradient, atol=1e-6)


LOGPS = st.lists(st.floats(-200, 0, width=32), min_size=16, max_size=16)


@settings(max_examples=30, deadline=None)
@given(LOGPS, LOGPS)
def test_k2_and_k3_are_never_negative_and_always_finite(logps, reference_logps):
    for estimator in (kl.k2, kl.k3):
        value, slope = value_and_slope(estimator, logps, reference_logps)
        assert np.all(np.asarray(value) >= 0)
        assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))
