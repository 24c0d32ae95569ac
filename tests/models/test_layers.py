"""Norm, linear, SwiGLU, embedding: by hand and against NumPy in float64."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import layers
from r1_jax.sharding import mesh as meshes
from tests.golden import decoder_numpy as golden
from tests.models import tiny


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_rms_norm_by_hand_and_its_epsilon():
    # rms of (3, 4) is sqrt(25/2 + epsilon)
    for epsilon in (1e-6, 12.5):
        norm, scale = layers.RMSNorm(epsilon), jnp.array([2.0, 10.0])
        y = norm.apply({"params": {"scale": scale}}, jnp.array([[[3.0, 4.0]]]))
        expected = np.array([6.0, 40.0]) / np.sqrt(12.5 + epsilon)
        np.testing.assert_allclose(y, expected[None, None], rtol=1e-6)


def test_rms_norm_per_head_has_one_scale_for_all_heads():
    x_BTNH, scale = _normal(2, 3, 4, 6), _normal(6, seed=1)
    norm = layers.RMSNorm(1e-6, "head_dim")
    y = norm.apply({"params": {"scale": scale}}, x_BTNH)
    np.testing.assert_allclose(y, golden.rms_norm(x_BTNH.astype(float), scale, 1e-6), rtol=1e-5)
    boxed = jax.eval_shape(norm.init, jax.random.key(0), x_BTNH)["params"]
    assert boxed["scale"].names == ("head_dim",)


def test_rms_norm_of_bfloat16_is_taken_in_float32():
    # rounded once, at the end: the bfloat16 that is nearest to the float64 result
    x_BTD = jnp.asarray(_normal(1, 1, 64), jnp.bfloat16)
    scale = _normal(64, seed=1)
    y = layers.RMSNorm(1e-6).apply({"params": {"scale": scale}}, x_BTD)
    expected = golden.rms_norm(np.asarray(x_BTD, float), scale, 1e-6)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, jnp.asarray(expected, jnp.bfloat16))


@pytest.mark.parametrize("bias", [False, True])
def test_linear_sums_over_trailing_dimensions(bias):
    module = layers.Linear((3, 4), (5, 2), ("heads", "head_dim", "mlp", None), 0.02, bias=bias)
    x, kernel = _normal(2, 6, 3, 4), _normal(3, 4, 5, 2, seed=1)
    params = {"kernel": kernel} | ({"bias": _normal(5, 2, seed=2)} if bias else {})
    y = tiny.jit(module.apply)({"params": params}, x)
    expected = np.einsum("btnh,nhfo->btfo", x.astype(float), kernel) + params.get("bias", 0.0)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_linear_s_products_are_of_matrices_in_its_gradient_too():
    module = layers.Linear((3, 4), (5, 2), ("heads", "head_dim", "mlp", None), 0.02)
    x, kernel = _normal(2, 6, 3, 4), _normal(3, 4, 5, 2, seed=1)

    def total(kernel, x):
        return jnp.sum(jnp.sin(module.apply({"params": {"kernel": kernel}}, x)))

    program = str(jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(kernel, x))
    assert program.count("dot_general[") == 3
    assert (
        len(re.findall(r"dimension_numbers=\(\(\[\d\], \[\d\]\), \(\[\], \[\]\)\)", program)) == 3
    )


@pytest.mark.parametrize("width", [3, 8])  # narrower and wider than x
@pytest.mark.parametrize("learnt", ["x", "kernel", "both"])
def test_a_product_has_its_own_gradient_on_a_cpu(learnt, width):
    x_TI, kernel_IO, g_TO = _normal(7, 5), _normal(5, width, seed=1), _normal(7, width, seed=2)
    given = {"x": x_TI, "kernel": kernel_IO}
    mine = given if learnt == "both" else {learnt: given[learnt]}

    def gradient(product):
        def loss(mine):
            return jnp.sum(product(**(given | mine)) * g_TO)

        return jax.grad(loss)

    found = gradient(lambda x, kernel: layers._product(x, kernel, 1))
    expected = gradient(lambda x, kernel: x @ kernel)(mine)
    for name, value in tiny.jit(found)(mine).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    names = [e.primitive.name for e in tiny.equations(jax.make_jaxpr(found)(mine))]
    assert names.count("dot_general") == 1 + len(mine)  # none of what is not learnt
    # of the compiled ones none sums over the first dimension of both
    compiled = jax.jit(found).lower(mine).compile().as_text()
    assert "lhs_contracting_dims={0}, rhs_contracting_dims={0}" not in compiled


def test_linear_names_its_axes():
    module = layers.Linear((3, 4), (5,), ("heads", "head_dim", "embed"), 0.02, bias=True)
    boxed = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 3, 4)))["params"]
    assert boxed["kernel"].names == ("heads", "head_dim", "embed")
    assert boxed["bias"].names == ("embed",)
    assert (boxed["kernel"].value.shape, boxed["bias"].value.shape) == ((3, 4, 5), (5,))


def test_swiglu_against_numpy():
    params = tiny.params()["layers"]["block"]["mlp"]
    params = jax.tree.map(lambda x: x[0], params)
    x_BTD = _normal(2, 3, tiny.MODEL.embed_dim)
    y = tiny.jit(layers.SwiGLU(tiny.MODEL, tiny.MODEL.mlp_dim).apply)({"params": params}, x_BTD)
    gate, up, down = (params[name]["kernel"].astype(float) for name in ("gate", "up", "down"))
    np.testing.assert_allclose(y, (golden.silu(x_BTD @ gate) * (x_BTD @ up)) @ down, rtol=1e-4)


def test_swiglu_keeps_gate_up_and_their_product_for_its_gradient():
    model = dataclasses.replace(tiny.MODEL, remat="none")
    module, x_BTD = layers.SwiGLU(model, 40), jnp.ones((2, 3, 32))
    params = module.init(jax.random.key(0), x_BTD)
    pull = jax.vjp(module.apply, params, x_BTD)[1]
    kept = [x.shape for x in jax.tree.leaves(pull)]
    assert sum(np.prod(shape) == 2 * 3 * 40 for shape in kept) == 3


def _block(config=tiny.MODEL, **further):
    block = jax.tree.map(lambda x: x[0], tiny.params(config)["layers"]["block"])
    return {**block, "mlp": {**block["mlp"], **further}}


def test_linears_that_read_the_same_are_one_product_in_a_decoding_step_on_a_cpu():
    block, module = _block(), layers.SwiGLU(tiny.MODEL, tiny.MODEL.mlp_dim)
    joined = layers.join(block)
    for part, names in {"attention": ("query", "key", "value"), "mlp": ("gate", "up")}.items():
        kernel = np.concatenate([block[part][name]["kernel"] for name in names], axis=1)
        np.testing.assert_array_equal(joined[part]["joined"], kernel)
        assert all("kernel" not in joined[part][name] for name in names)
    assert joined["attention"]["key"]["bias"] is block["attention"]["key"]["bias"]
    assert joined["attention_norm"] is block["attention_norm"]
    x_B1D = _normal(4, 1, tiny.MODEL.embed_dim)
    found, expected = (module.apply({"params": of["mlp"]}, x_B1D) for of in (joined, block))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    program = jax.make_jaxpr(lambda mlp: module.apply({"params": mlp}, x_B1D))(joined["mlp"])
    assert tiny.count(program, "dot_general") == 2


def test_logits_of_decoding_with_joined_linears_are_those_without(monkeypatch):
    for model in (tiny.MODEL, tiny.QWEN3):
        joined = tiny.logits(model)(tiny.params(model))[1]
        with monkeypatch.context() as patch:
            patch.setattr(layers, "join", lambda block: block)
            apart = tiny.logits(model)(tiny.params(model))[1]
        np.testing.assert_allclose(joined, apart, rtol=1e-5, atol=1e-5)


def test_kernels_stay_apart_where_they_are_split_in_8_bits_latent_or_not_a_cpu_s(monkeypatch):
    block = _block()
    with meshes.activate(meshes.make_mesh(fsdp=4, tensor=2)):
        assert layers.join(block) is block
    with meshes.activate(meshes.make_mesh(fsdp=8)):
        assert "joined" in layers.join(block)["mlp"]
    in_8_bits = _block(up={"kernel": block["mlp"]["up"]["kernel"].astype(np.int8)})
    assert layers.join(in_8_bits)["mlp"] is in_8_bits["mlp"]
    latent = jax.tree.map(lambda x: x[0], tiny.params(tiny.DEEPSEEK_V2)["layers"]["block"])
    assert layers.join(latent) is latent
    monkeypatch.setattr(meshes, "is_of_cpus", lambda: False)
    assert layers.join(block) is block


@pytest.mark.parametrize(("num_tokens", "is_apart"), [(128, False), (256, True), (4096, False)])
def test_on_a_gpu_gate_and_up_stay_apart_for_some_numbers_of_tokens(
    num_tokens, is_apart, monkeypatch
):
    module = layers.SwiGLU(tiny.MODEL, 48)
    x_BTD = jnp.ones((num_tokens, 1, 32))
    params = module.init(jax.random.key(0), x_BTD)

    def barriers():
        program = jax.make_jaxpr(lambda params, x: module.apply(params, x))(params, x_BTD)
        return tiny.count(program, "optimization_barrier")

    assert barriers() == 0
    monkeypatch.setattr(meshes, "is_of_gpus", lambda: True)
    assert barriers() == int(is_apart)


def test_embed_takes_rows_in_the_compute_dtype():
    table_VD = jnp.arange(8.0).reshape(4, 2)
    x_BTD = layers.embed(
        table_VD, jnp.array([[3, 0]]), ("batch", "length", "act_embed"), jnp.bfloat16
    )
    assert x_BTD.dtype == jnp.bfloat16
    np.testing.assert_array_equal(x_BTD.astype(float), [[[6.0, 7.0], [0.0, 1.0]]])
