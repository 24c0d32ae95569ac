"""Positions split over the mesh axis "context": the same values and gradients as on one device."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import attention, flash, scoring, transformer
from r1_jax.sharding import axes, place
from r1_jax.sharding import mesh as meshes
from tests.models import tiny

B, T = 4, 77  # of two devices one has padding, of four as well


def _packed():
    rng = np.random.default_rng(0)
    tokens_BT = rng.integers(0, tiny.MODEL.vocab_size, (B, T), np.int32)
    second_BT = np.arange(T)[None, :] >= np.array([[20], [38], [39], [76]])
    position_BT = np.where(second_BT, np.arange(T) - np.argmax(second_BT, 1)[:, None], np.arange(T))
    return tokens_BT, position_BT.astype(np.int32), second_BT.astype(np.int32)


def _loss(config, params, tokens_BT, position_BT, segment_BT):
    T = tokens_BT.shape[1]
    logps_BT, entropy_BT, routed = scoring.routed_scores(
        config,
        params,
        tokens_BT,
        adjust=lambda x: x,
        position_BT=position_BT,
        segment_BT=segment_BT,
        chunk=8,
    )
    weight_BT = jnp.cos(jnp.arange(B * T, dtype=jnp.float32)).reshape(B, T)
    balance = 0.0 if routed is None else jnp.sum(routed.balance_B)
    return jnp.sum(weight_BT * logps_BT) + 0.1 * jnp.sum(entropy_BT) + balance, logps_BT


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (tiny.MODEL, {"data": 2, "tensor": 2, "context": 2}),
        (tiny.MODEL, {"fsdp": 2, "context": 4}),
        (tiny.DEEPSEEK, {"data": 2, "expert": 2, "context": 2}),
    ],
    ids=["tensor 2, context 2", "fsdp 2, context 4", "experts 2, context 2"],
)
def test_it_is_what_one_device_computes(config, sizes):
    whole, batch = tiny.params(config), _packed()
    differentiate = jax.value_and_grad(partial(_loss, config), has_aux=True)
    (value, logps_BT), gradient = tiny.jit(differentiate)(whole, *batch)
    made = meshes.make_mesh(**sizes)
    boxed = jax.eval_shape(partial(transformer.init_boxed, config), jax.random.key(0))
    with meshes.activate(made):
        params = jax.device_put(whole, place.shardings(boxed, made))
        rows = place.from_host(batch, made, place.batch_sharding(made).spec)
        compiled = tiny.jit(differentiate).lower(params, *rows).compile()
        (split_value, split_logps_BT), split = compiled(params, *rows)
    np.testing.assert_allclose(split_value, value, rtol=1e-4)
    np.testing.assert_allclose(split_logps_BT, logps_BT, atol=1e-4)
    tiny.assert_same_gradients(split, gradient)


def test_no_device_sees_the_hidden_states_or_logits_of_all_positions():
    made, length = meshes.make_mesh(data=2, tensor=2, context=2), 64
    whole = tiny.params(tiny.MODEL)
    boxed = jax.eval_shape(partial(transformer.init_boxed, tiny.MODEL), jax.random.key(0))
    with meshes.activate(made):
        params = jax.device_put(whole, place.shardings(boxed, made))
        spec = place.batch_sharding(made).spec
        rows = place.from_host([x[:, :length] for x in _packed()], made, spec)
        differentiate = jax.jit(jax.value_and_grad(partial(_loss, tiny.MODEL), has_aux=True))
        text = differentiate.lower(params, *rows).compile().as_text()
    keys = "f32[2,64,1,8]"  # [b, S, k, H], of two key heads one
    assert re.search(re.escape(keys) + r"\S* all-gather\(", text)
    for name, width in (("hidden", 32), ("middle", 24), ("logits", 13)):
        assert f"f32[2,64,{width}]" not in text, name
        assert width == 13 or f"f32[2,32,{width}]" in text, name


def test_the_kernel_of_a_tpu_gathers_keys_too():
    shapes = [(1, 160, 4, 16), (1, 160, 2, 16), (1, 160, 2, 16), (1, 160, 4, 16)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    q, k, v, cotangent = (jax.random.normal(x, s) for x, s in zip(keys, shapes, strict=True))
    segment_BT = jnp.asarray(np.arange(160)[None] >= 100, jnp.int32)
    ours, ours_back = jax.vjp(lambda *a: attention.causal(*a, segment_BT, 0.2), q, k, v)

    def differentiated(q, k, v, cotangent):
        def kernel(*inputs):
            return flash.causal(*inputs, segment_BT, 0.2, interpret=True)

        out, back = jax.vjp(kernel, q, k, v)
        return out, back(cotangent)

    with meshes.activate(meshes.make_mesh(tensor=2, context=2, devices=jax.devices()[:4])):
        out, found = tiny.jit(differentiated)(q, k, v, cotangent)
    np.testing.assert_allclose(out, ours, atol=1e-5)
    for got, want in zip(found, ours_back(cotangent), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_where_completions_are_sampled_context_splits_rows():
    with meshes.activate(meshes.make_mesh(fsdp=2, tensor=2, context=2)):
        assert (place.ways("batch"), place.ways("length")) == (2, 2)
        with meshes.under(axes.SAMPLER_RULES):
            assert (place.ways("batch"), place.ways("length")) == (4, 1)
        assert (place.ways("batch"), place.ways("length")) == (2, 2)
    assert (place.ways("batch"), place.ways("length")) == (1, 1)
