"""The heads: which weights, and float32 whatever comes in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.models import heads
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from tests.models import tiny


def test_tied_reads_the_embedding_and_untied_its_own():
    params = tiny.params()
    tied = dataclasses.replace(tiny.MODEL, tied_embeddings=True)
    np.testing.assert_array_equal(heads.kernel(tiny.MODEL, params).read_DV, params["head"])
    np.testing.assert_array_equal(heads.kernel(tied, params).read_DV, params["embedding"].T)


def test_on_a_mesh_it_is_split_by_the_vocabulary_alone():
    made = meshes.make_mesh(2, 2, 2)
    params = {"embedding": jnp.zeros((26, 32)), "head": jnp.zeros((32, 26))}
    with meshes.activate(made):
        for tied in (False, True):
            config = dataclasses.replace(tiny.MODEL, tied_embeddings=tied)
            kernel = tiny.jit(heads.kernel, static_argnums=0)(config, params)
            assert kernel.read_DV.sharding.spec == jax.P(None, "tensor")


def test_logits_by_hand():
    # [1, 2] . [[1, 0, 3], [0, 1, -1]] = [1, 2, 1]
    kernel = heads.Kernel(jnp.array([[1.0, 0.0, 3.0], [0.0, 1.0, -1.0]]), None)
    logits = heads.logits(jnp.array([[1.0, 2.0]]), kernel)
    np.testing.assert_array_equal(logits, [[1.0, 2.0, 1.0]])


def test_bfloat16_products_are_summed_in_float32():
    # 256 + 1 is 256 in bfloat16: a sum that were rounded on its way would lose the ones
    hidden_D = jnp.array([256.0] + [1.0] * 7, jnp.bfloat16)
    ones = heads.Kernel(jnp.ones((8, 3), jnp.bfloat16), None)
    logits_V = heads.logits(hidden_D, ones)
    assert logits_V.dtype == jnp.float32
    np.testing.assert_array_equal(logits_V, [263.0] * 3)
    program = jax.make_jaxpr(heads.logits)(hidden_D, ones)
    (product,) = [e for e in tiny.equations(program) if e.primitive.name == "dot_general"]
    assert {v.aval.dtype for v in product.invars} == {jnp.dtype(jnp.bfloat16)}


def test_the_gradient_of_rounded_weights_is_summed_in_the_masters_type():
    # Products of ones, one turn after the other: bfloat16 would stay at 256.
    model = dataclasses.replace(tiny.MODEL, compute_dtype="bfloat16")
    ones_CD = jnp.ones((300, 1, 32), jnp.bfloat16)

    def total(params):
        kernel = heads.kernel(model, params)
        assert kernel.read_DV.dtype == jnp.bfloat16
        return jnp.sum(jax.lax.map(lambda hidden: heads.logits(hidden, kernel), ones_CD))

    gradient = jax.grad(total)({"head": jnp.full((32, 26), 0.3)})["head"]
    assert gradient.dtype == jnp.float32
    np.testing.assert_array_equal(gradient, np.full((32, 26), 300.0))


def test_on_a_gpu_the_gradients_products_are_of_the_compute_type(monkeypatch):
    model = dataclasses.replace(tiny.MODEL, compute_dtype="bfloat16")
    hidden_CD = jax.random.normal(jax.random.key(0), (5, 32), jnp.bfloat16)
    weight_CV = jax.random.normal(jax.random.key(1), (5, 26))

    def total(hidden_CD, params):
        return jnp.sum(heads.logits(hidden_CD, heads.kernel(model, params)) * weight_CV)

    gradient = jax.grad(total, argnums=(0, 1))
    inputs = hidden_CD, {"head": jax.random.normal(jax.random.key(2), (32, 26))}
    want = gradient(*inputs)
    monkeypatch.setattr(meshes, "is_of_cpus", lambda: False)
    program = jax.make_jaxpr(gradient)(*inputs)
    products = [e for e in tiny.equations(program) if e.primitive.name == "dot_general"]
    assert len(products) == 3
    for product in products:
        assert {v.aval.dtype for v in product.invars} == {jnp.dtype(jnp.bfloat16)}
        assert product.params["preferred_element_type"] == jnp.float32
    got = gradient(*inputs)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.dtype == y.dtype
        x, y = (np.asarray(a, np.float32) for a in (x, y))
        np.testing.assert_allclose(x, y, atol=2e-2 * np.abs(y).max())


def test_scalar_by_hand_for_any_leading_shape():
    # [1, 2] . [3, -1] + 0.5 = 1.5; [0, 4] . [3, -1] + 0.5 = -3.5
    params = {"kernel": jnp.array([3.0, -1.0]), "bias": jnp.array(0.5)}
    hidden_BD = jnp.array([[1.0, 2.0], [0.0, 4.0]])
    np.testing.assert_array_equal(heads.scalar(params, hidden_BD), [1.5, -3.5])
    np.testing.assert_array_equal(heads.scalar(params, hidden_BD[:, None]), [[1.5], [-3.5]])


def test_scalar_of_bfloat16_is_summed_in_float32():
    hidden_D = jnp.array([256.0] + [1.0] * 7, jnp.bfloat16)
    value = heads.scalar({"kernel": jnp.ones(8), "bias": jnp.array(0.0)}, hidden_D)
    assert (value.dtype, float(value)) == (jnp.float32, 263.0)


def test_a_new_scalar_head_says_0_and_its_gradient_is_the_hidden_state():
    params = heads.init_scalar(tiny.MODEL)
    hidden_D = jnp.arange(tiny.MODEL.embed_dim, dtype=jnp.float32)
    value, grads = jax.value_and_grad(heads.scalar)(params, hidden_D)
    assert float(value) == 0.0
    np.testing.assert_array_equal(grads["kernel"], hidden_D)
    assert float(grads["bias"]) == 1.0


def test_a_scalar_head_is_split_like_the_width_of_the_model():
    made = meshes.make_mesh(2, 2, 2)
    boxed = jax.eval_shape(lambda: heads.init_scalar_boxed(tiny.MODEL))
    found = place.shardings(boxed, made)
    assert found["kernel"].spec == jax.P("fsdp") and found["bias"].spec == jax.P()
    params = jax.device_put({"kernel": jnp.arange(32.0), "bias": jnp.array(1.0)}, found)
    hidden_BD = jnp.ones((8, 32))
    with meshes.activate(made):
        value_B = tiny.jit(heads.scalar)(params, hidden_BD)
    np.testing.assert_allclose(value_B, [31 * 16 + 1.0] * 8)
