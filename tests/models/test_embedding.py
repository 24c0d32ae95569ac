"""The embedding with a split table: rows and gradient of a whole one, and no table on the move."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import embedding
from r1_jax.sharding import axes
from r1_jax.sharding import mesh as meshes
from tests.models import tiny

V, D = 24, 16


def _arrays(num_rows=8):
    rng = np.random.default_rng(0)
    table_VD = rng.normal(size=(V, D)).astype(np.float32)
    tokens_BT = rng.integers(0, V, size=(num_rows, 6))
    return table_VD, tokens_BT, rng.normal(size=(num_rows, 6, D)).astype(np.float32)


MESHES = (
    {"fsdp": 8},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"fsdp": 2, "tensor": 2, "expert": 2},
    {"data": 2, "fsdp": 2, "context": 2},
)


@pytest.mark.parametrize("rules", [axes.RULES, axes.SAMPLER_RULES], ids=["learner", "sampler"])
@pytest.mark.parametrize("sizes", MESHES)
def test_rows_and_gradient_are_those_of_a_whole_table(sizes, rules):
    table_VD, tokens_BT, weight_BTD = _arrays()

    def total(table_VD):
        x_BTD = embedding.rows(table_VD, jnp.asarray(tokens_BT), jnp.float32)
        return jnp.sum(x_BTD * weight_BTD), x_BTD

    with meshes.activate(meshes.make_mesh(**sizes)), meshes.under(rules):
        gradient_VD, x_BTD = tiny.jit(jax.grad(total, has_aux=True))(table_VD)
    np.testing.assert_array_equal(x_BTD, table_VD[tokens_BT])
    expected_VD = np.zeros((V, D))
    np.add.at(expected_VD, tokens_BT, weight_BTD)
    np.testing.assert_allclose(gradient_VD, expected_VD, rtol=1e-6, atol=1e-6)


def test_no_device_gets_the_table_or_its_gradient():
    table_VD, tokens_BT, _ = _arrays()
    made = meshes.make_mesh(fsdp=4, tensor=2)
    table_VD = jax.device_put(table_VD, jax.NamedSharding(made, jax.P("tensor", "fsdp")))
    with meshes.activate(made):
        total = jax.grad(lambda t: jnp.sum(embedding.rows(t, jnp.asarray(tokens_BT), jnp.float32)))
        text = jax.jit(total).lower(table_VD).compile().as_text()
    moved = re.findall(r"= \(?\w+\[([\d,]*)\]\S* all-(?:gather|reduce)\(", text)
    assert moved and not any(shape in (f"{V},{D}", f"{V // 2},{D}") for shape in moved)


def test_a_lone_row_is_looked_up_as_well():
    table_VD, tokens_BT, _ = _arrays(num_rows=1)
    with meshes.activate(meshes.make_mesh(fsdp=8)):
        x_BTD = embedding.rows(jnp.asarray(table_VD), jnp.asarray(tokens_BT), jnp.bfloat16)
    np.testing.assert_array_equal(x_BTD, jnp.asarray(table_VD[tokens_BT], jnp.bfloat16))
