"""trees: sizes by hand, digests that see every change and nothing else."""

import jax
import jax.numpy as jnp
import pytest

from r1_jax.core import trees

TREE = {"b": {"w": jnp.full((2, 3), 2.0), "n": jnp.array([3], jnp.int32)}, "a": [jnp.ones(4)]}


def test_sizes_by_hand():
    # 6 + 1 + 4 elements, four bytes each
    assert trees.num_params(TREE) == 11
    assert trees.num_bytes(TREE) == 44
    abstract = jax.eval_shape(lambda: trees.cast(TREE, jnp.bfloat16))
    assert trees.num_bytes(abstract) == 2 * 10 + 4


def test_global_norm_by_hand_and_in_float32():
    assert jnp.isclose(trees.global_norm(TREE), (6 * 4 + 9 + 4) ** 0.5)
    assert trees.global_norm({}) == 0
    ones = {"w": jnp.ones(1001, jnp.bfloat16)}  # the next bfloat16 to 1001 is 1000
    assert jnp.isclose(trees.global_norm(ones) ** 2, 1001, rtol=1e-5)
    assert trees.global_norm(ones).dtype == jnp.float32


def test_cast_changes_floats_only():
    out = trees.cast(TREE, jnp.bfloat16)
    assert out["b"]["w"].dtype == jnp.bfloat16
    assert out["b"]["n"].dtype == jnp.int32


def test_paths_name_every_leaf():
    assert list(trees.paths(TREE)) == ["a/0", "b/n", "b/w"]
    assert trees.paths(TREE)["b/n"] is TREE["b"]["n"]
    assert list(trees.paths(jnp.ones(1))) == [""]


@pytest.mark.parametrize(
    "other",
    [
        {"w": jnp.ones((2, 2)), "x": jnp.zeros(1)},  # a leaf more
        {"v": jnp.ones((2, 2))},  # another name
        {"w": jnp.ones((4,))},  # another shape
        {"w": jnp.ones((2, 2), jnp.int32)},  # another dtype
        {"w": jnp.ones((2, 2)).at[1, 1].add(1e-7)},  # another bit
        {"w": jax.random.key(0)},
    ],
)
def test_digest_sees_every_change(other):
    assert trees.digest({"w": jnp.ones((2, 2))}) != trees.digest(other)


def test_digest_does_not_see_insertion_order_or_placement():
    one = {"a": jnp.arange(8.0), "b": jax.random.key(1)}
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("x"))
    two = {"b": jax.random.key(1), "a": jax.device_put(jnp.arange(8.0), sharding)}
    assert trees.digest(one) == trees.digest(two)
    # independent of this code: sha256 of "a|[2]|float32|" and the bytes of 1.0, 2.0
    expected = "4a6435fb9cebdfd1"
    assert trees.digest({"a": jnp.array([1.0, 2.0])}).startswith(expected)
