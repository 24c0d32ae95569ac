"""Constraints reach the compiled program; shardings follow the table; rows arrive and come back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from r1_jax.sharding import mesh, place


class TwoLayers(nn.Module):
    """A weight per logical name of interest, and three constraints."""

    @nn.compact
    def __call__(self, x_BTD):
        normal = nn.initializers.normal()
        split = nn.with_logical_partitioning
        up_DF = self.param("up", split(normal, ("embed", "mlp")), (8, 16))
        down_FD = self.param("down", split(normal, ("mlp", "embed")), (16, 8))
        scale_D = self.param("scale", split(nn.initializers.ones, ("act_embed",)), (8,))
        x_BTD = place.constrain(x_BTD, "batch", "length", "act_embed")
        h_BTF = place.constrain(x_BTD @ up_DF, "batch", "length", "act_mlp")
        out_BTD = h_BTF @ down_FD * scale_D[None, None]
        return place.constrain(out_BTD, "batch", "length", "act_embed")


def _init(key):
    return TwoLayers().init(key, jnp.zeros((1, 3, 8)))


def _count(text, spec):
    return sum(spec in line for line in text.splitlines() if "sdy.sharding_constraint" in line)


def test_constraints_are_in_the_lowered_program_and_split_the_result():
    made = mesh.make_mesh(2, 2, 2)
    x_BTD = np.arange(4 * 3 * 8, dtype=np.float32).reshape(4, 3, 8)
    params = nn.unbox(_init(jax.random.key(0)))
    alone = TwoLayers().apply(params, x_BTD)
    with mesh.activate(made):
        apply = jax.jit(TwoLayers().apply)
        text = apply.lower(params, x_BTD).as_text()
        split = apply(params, x_BTD)
    assert _count(text, '[{"data", "fsdp"}, {}, {}]') == 2
    assert _count(text, '[{"data", "fsdp"}, {}, {"tensor"}]') == 1
    assert text.count("sdy.sharding_constraint") == 3
    assert split.sharding.shard_shape(split.shape) == (1, 3, 8)
    np.testing.assert_allclose(split, alone, rtol=1e-5, atol=1e-7)


def test_the_same_function_lowers_without_constraints_outside():
    params = nn.unbox(_init(jax.random.key(0)))
    text = jax.jit(TwoLayers().apply).lower(params, jnp.ones((4, 3, 8))).as_text()
    assert "sharding_constraint" not in text


def test_unknown_names_raise_inside_and_outside():
    with pytest.raises(ValueError, match="unknown logical axis 'btach'"):
        place.constrain(jnp.ones((8, 2)), "btach", None)
    with (
        mesh.activate(mesh.make_mesh(8)),
        pytest.raises(ValueError, match="unknown logical axis 'btach'"),
    ):
        place.constrain(jnp.ones((8, 2)), "btach", None)
    with (
        mesh.activate(mesh.make_mesh(8)),
        pytest.raises(ValueError, match="unknown logical axis 'btach'"),
    ):
        place.constrain(jnp.ones((1, 2)), "btach", None)


def test_wrong_number_of_names_raises_inside_and_outside():
    with pytest.raises(ValueError, match="axis names"):
        place.constrain(jnp.ones((8, 2)), "batch")
    with mesh.activate(mesh.make_mesh(8)), pytest.raises(ValueError, match="axis names"):
        place.constrain(jnp.ones((8, 2)), "batch")
    with mesh.activate(mesh.make_mesh(8)), pytest.raises(ValueError, match="axis names"):
        place.constrain(jnp.ones((8,)), "batch", "length")


def test_a_mesh_without_rules_raises():
    with jax.set_mesh(mesh.make_mesh(8)), pytest.raises(RuntimeError, match="no sharding rules"):
        place.constrain(jnp.ones((8, 2)), "batch", "length")


def test_rows_that_do_not_divide_say_what_would():
    with (
        mesh.activate(mesh.make_mesh(4, 2)),
        pytest.raises(ValueError, match=r"'batch' of size 12 .* data=4\*fsdp=2; use a size of 16"),
    ):
        place.constrain(jnp.ones((12, 2)), "batch", "length")


def test_a_dimension_of_one_stays_whole():
    with mesh.activate(mesh.make_mesh(4, 2)):
        x = jax.jit(lambda x: place.constrain(x, "batch", "act_embed"))(jnp.ones((1, 2)))
    assert x.sharding.is_fully_replicated


def test_shardings_follow_the_table_and_parameters_are_born_split():
    made = mesh.make_mesh(1, 4, 2)
    abstract = jax.eval_shape(_init, jax.random.key(0))
    tree = place.shardings(abstract, made)
    specs = {name: sharding.spec for name, sharding in tree["params"].items()}
    assert specs == {
        "up": jax.P("fsdp", "tensor"),
        "down": jax.P("tensor", "fsdp"),
        "scale": jax.P(None),
    }
    with mesh.activate(made):
        params = jax.jit(lambda key: nn.unbox(_init(key)), out_shardings=tree)(jax.random.key(0))
    assert {shard.data.shape for shard in params["params"]["up"].addressable_shards} == {(2, 8)}
    assert jax.tree.structure(params) == jax.tree.structure(tree)


def test_shardings_of_optimizer_state_follow_the_parameters():
    made = mesh.make_mesh(1, 4, 2)
    tx = optax.adamw(1e-3)
    abstract = jax.eval_shape(lambda key: tx.init(_init(key)), jax.random.key(0))
    tree = place.shardings(abstract, made)
    assert jax.tree.structure(tree) == jax.tree.structure(nn.unbox(abstract))
    assert tree[0].mu["params"]["up"].spec == jax.P("fsdp", "tensor")
    assert tree[0].count.spec == jax.P()


def _boxed(shape, names, box=nn.LogicallyPartitioned):
    return {"attention": {"key": box(jax.ShapeDtypeStruct(shape, jnp.float32), names)}}


@pytest.mark.parametrize("box", [nn.LogicallyPartitioned, nn.Partitioned])
def test_kv_heads_fewer_than_tensor_name_leaf_size_axis_and_way_out(box):
    tree = _boxed((8, 6, 4), ("embed", "kv_heads", "head_dim"), box)
    message = r"attention/key: dimension 'kv_heads' of size 6 .* tensor=4; use a size of 8, or a "
    with pytest.raises(ValueError, match=message + "mesh with tensor one of 1, 2, 3, 6$"):
        place.shardings(tree, mesh.make_mesh(2, 1, 4))


@pytest.mark.parametrize(
    ("shape", "names", "message"),
    [
        ((8, 8), ("embed", "mpl"), "unknown logical axis 'mpl'"),
        ((8, 8), ("embed",), r"attention/key has shape \(8, 8\) but 1 axis names"),
        ((8, 8), ("mlp", "vocab"), "'mlp' and 'vocab' would both be split over mesh axis 'tensor'"),
    ],
)
def test_wrong_boxes_name_the_leaf(shape, names, message):
    with pytest.raises(ValueError, match=message):
        place.shardings(_boxed(shape, names), mesh.make_mesh(2, 2, 2))


def test_an_array_without_names_is_an_error_a_scalar_is_not():
    made = mesh.make_mesh(8)
    assert place.shardings({"step": jax.ShapeDtypeStruct((), jnp.int32)}, made) == {
        "step": place.replicated(made)
    }
    with pytest.raises(ValueError, match="bias of shape"):
        place.shardings({"bias": jax.ShapeDtypeStruct((8,), jnp.float32)}, made)


def test_rows_go_to_devices_and_come_back():
    made = mesh.make_mesh(2, 2, 2)
    batch = {
        "tokens": np.arange(24, dtype=np.int32).reshape(8, 3),
        "length": np.arange(8, dtype=np.int32),
        "step": np.int32(7),
    }
    arrays = place.from_host(batch, made, place.batch_sharding(made).spec)
    assert {shard.data.shape for shard in arrays["tokens"].addressable_shards} == {(2, 3)}
    assert arrays["step"].sharding.is_fully_replicated
    back = place.to_host(arrays)
    for name, expected in batch.items():
        assert isinstance(back[name], np.ndarray)
        np.testing.assert_array_equal(back[name], expected)


def test_host_rows_that_do_not_split_are_an_error():
    made = mesh.make_mesh(2, 2, 2)
    with pytest.raises(ValueError, match=r"shape \(6, 3\) .* data=2\*fsdp=2\*tensor=2"):
        place.from_host(np.zeros((6, 3)), made, place.batch_sharding(made).spec)
