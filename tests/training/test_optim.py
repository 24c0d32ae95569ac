"""optim: the schedule by hand, and every setting moves what a parameter does."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.training import optim

BASE = {"learning_rate": 0.1, "schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.1}
CHANGES = {
    "learning_rate": 0.2,
    "schedule": "constant",
    "warmup_steps": 0,
    "final_share": 0.5,
    "b1": 0.5,
    "b2": 0.5,
    "epsilon": 0.1,
    "weight_decay": 0.5,
    "clip_norm": 0.01,
}


def _walk(config: optim.OptimConfig) -> np.ndarray:
    """A parameter under six gradients of changing size."""
    tx = optim.make_optimizer(config, 6)
    params = {"w": jnp.array([1.0, -2.0])}
    state, path = tx.init(params), []
    for i in range(6):
        grads = {"w": jnp.array([0.3 * (i - 2.0), 0.01 * 3.0**i])}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        path.append(np.asarray(params["w"]))
    return np.array(path)


@pytest.fixture(scope="module")
def base():
    return _walk(optim.OptimConfig(**BASE))


@pytest.mark.parametrize("name", CHANGES)
def test_changing_a_setting_changes_the_path(name, base):
    assert np.abs(_walk(optim.OptimConfig(**{**BASE, name: CHANGES[name]})) - base).max() > 1e-4


def test_every_setting_has_its_test():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(optim.OptimConfig)}


def test_the_schedule_by_hand():
    config = optim.OptimConfig(
        learning_rate=1.0, schedule="cosine", warmup_steps=2, final_share=0.1
    )
    rate = optim.learning_rate(config, 6)
    # Rises over two updates; then half a cosine over four, from 1 down to 0.1.
    halfway = 0.1 + 0.9 * 0.5
    expected = [0.0, 0.5, 1.0, 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi / 4)), halfway]
    np.testing.assert_allclose([float(rate(i)) for i in range(5)], expected, rtol=1e-6)
    np.testing.assert_allclose(float(rate(6)), 0.1, rtol=1e-6)
    constant = optim.learning_rate(dataclasses.replace(config, schedule="constant"), 6)
    np.testing.assert_allclose([float(constant(i)) for i in (0, 1, 2, 9)], [0, 0.5, 1, 1])


def test_clip_norm_0_switches_clipping_off():
    # Adam divides by the gradient's size: only the mix of large and small ones shows clipping.
    off = _walk(optim.OptimConfig(**BASE, clip_norm=0.0))
    large = _walk(optim.OptimConfig(**BASE, clip_norm=1e6))
    np.testing.assert_array_equal(off, large)


@pytest.mark.parametrize("name", ["learning_rate", "clip_norm", "warmup_steps"])
def test_negative_settings_are_named(name):
    with pytest.raises(ValueError, match=f"{name}=-1"):
        optim.OptimConfig(**{name: -1})
