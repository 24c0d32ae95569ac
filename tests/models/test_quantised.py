"""8-bit weights: a layer means what they stand for, and reads them as bytes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import layers, quantised
from tests.models import tiny

MODELS = {
    "qwen2": tiny.MODEL,
    "latent": dataclasses.replace(tiny.DEEPSEEK, num_layers=2, experts=None),
}


def test_a_linear_in_8_bits_by_hand():
    params = {
        "kernel": jnp.array([[[1, 0], [0, 127]]], jnp.int8),
        "scale": jnp.array([0.5, 0.25]),
        "bias": jnp.array([0.5, 0.0]),
    }
    module = layers.Linear((1, 2), (2,), ("heads", "head_dim", "embed"), 0.02, bias=True)
    y = module.apply({"params": params}, jnp.array([[[[3.0, 4.0]]]]))
    np.testing.assert_allclose(y, [[[3 * 0.5 + 0.5, 4 * 127 * 0.25]]])


def meant(params):
    """`params` in which every kernel is again a float32 array: what its numbers stand for."""
    if not isinstance(params, dict):
        return params
    if "kernel" not in params or "scale" not in params:
        return {name: meant(below) for name, below in params.items()}
    rest = {name: x for name, x in params.items() if name != "scale"}
    kernel, scale = params["kernel"].astype(jnp.float32), params["scale"]
    gone = kernel.ndim - scale.ndim
    rest["kernel"] = kernel * scale.reshape(scale.shape[0], *(1,) * gone, *scale.shape[1:])
    return rest


@pytest.mark.parametrize(
    ("name", "kind"), [("qwen2", "int8"), ("qwen2", "fp8"), ("latent", "int8")]
)
def test_a_pass_and_every_step_are_those_of_the_weights_meant(name, kind):
    params = tiny.params(MODELS[name])
    bits = quantised.quantise(MODELS[name], params, kind)
    of_floats = meant(bits)
    assert jax.tree.structure(of_floats) == jax.tree.structure(params)
    small = [x.dtype.itemsize for x in jax.tree.leaves(bits)].count(1)
    assert small == 7  # three of the MLP, four of either attention
    logits = tiny.logits(MODELS[name])
    whole, steps = logits(bits)
    for one, other in zip((whole, steps), logits(of_floats), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(whole[:, 5:], steps, rtol=1e-4, atol=1e-4)
    error = np.abs(whole - logits(params)[0]).max()
    assert 0.01 < error < {"int8": 0.5, "fp8": 2.0}[kind]


def test_every_weight_is_within_half_a_step_of_what_it_was():
    params = tiny.params()
    bits = quantised.quantise(tiny.MODEL, params, "int8")
    out, after = params["layers"]["block"]["attention"]["out"], meant(bits)
    scale_LD = bits["layers"]["block"]["attention"]["out"]["scale"]
    assert scale_LD.shape == (2, 32)  # a scale for each of the layer's own outputs
    after_LNHD = after["layers"]["block"]["attention"]["out"]["kernel"]
    distance_LNHD = np.abs(after_LNHD - out["kernel"])
    assert (distance_LNHD <= 0.501 * scale_LD[:, None, None]).all()
    for name in ("embedding", "head"):
        assert after[name] is params[name]


def test_a_loop_of_steps_reads_bytes():
    linear = layers.Linear((96,), (96,), ("embed", "mlp"), 0.02)

    def steps(params, x_BD):
        def step(carry):
            return carry[0] + 1, jnp.tanh(linear.apply({"params": params}, carry[1]))

        return jax.lax.while_loop(lambda carry: carry[0] < 9, step, (0, x_BD))

    shapes = {"kernel": jnp.zeros((96, 96), jnp.int8), "scale": jnp.ones(96)}
    text = jax.jit(steps).lower(shapes, jnp.ones((3, 96))).compile().as_text()
    before_the_loop = text[text.index("ENTRY") :]
    assert "s8[96,96]" in before_the_loop and "f32[96,96]" not in before_the_loop
    assert "f32[96,96]" in text  # where there is no 8-bit product, a step makes them floats


def test_of_a_model_with_experts_weights_stay():
    with pytest.raises(ValueError, match=r"set sampling.weights='float'"):
        quantised.quantise(tiny.DEEPSEEK, tiny.params(tiny.DEEPSEEK), "int8")
