"""The vocabulary head: which weights, and float32 whatever comes in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.models import heads
from r1_jax.sharding import mesh as meshes
from tests.models import tiny


def test_tied_reads_the_embedding_and_untied_its_own():
    params = tiny.params()
    tied = dataclasses.replace(tiny.MODEL, tied_embeddings=True)
    np.testing.assert_array_equal(heads.kernel(tiny.MODEL, params), params["head"])
    np.testing.assert_array_equal(heads.kernel(tied, params), params["embedding"].T)


def test_on_a_mesh_it_is_split_by_the_vocabulary_alone():
    made = meshes.make_mesh(2, 2, 2)
    params = {"embedding": jnp.zeros((26, 32)), "head": jnp.zeros((32, 26))}
    with meshes.activate(made):
        for tied in (False, True):
            config = dataclasses.replace(tiny.MODEL, tied_embeddings=tied)
            kernel_DV = tiny.jit(heads.kernel, static_argnums=0)(config, params)
            assert kernel_DV.sharding.spec == jax.P(None, "tensor")


def test_logits_by_hand():
    # [1, 2] . [[1, 0, 3], [0, 1, -1]] = [1, 2, 1]
    logits = heads.logits(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0, 3.0], [0.0, 1.0, -1.0]]))
    np.testing.assert_array_equal(logits, [[1.0, 2.0, 1.0]])


def test_bfloat16_products_are_summed_in_float32():
    # 256 + 1 is 256 in bfloat16: a sum that were rounded on its way would lose the ones
    hidden_D = jnp.array([256.0] + [1.0] * 7, jnp.bfloat16)
    logits_V = heads.logits(hidden_D, jnp.ones((8, 3), jnp.float32))
    assert logits_V.dtype == jnp.float32
    np.testing.assert_array_equal(logits_V, [263.0] * 3)
    program = jax.make_jaxpr(heads.logits)(hidden_D, jnp.ones((8, 3), jnp.float32))
    (product,) = [e for e in tiny.equations(program) if e.primitive.name == "dot_general"]
    assert {v.aval.dtype for v in product.invars} == {jnp.dtype(jnp.bfloat16)}
