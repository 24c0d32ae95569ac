"""The rules table: the names of weights and activations, and nothing else."""

import pytest

from r1_jax.sharding import axes


def test_the_table_has_exactly_the_documented_names():
    weights = {"vocab", "embed", "heads", "kv_heads", "head_dim", "mlp", "layers"}
    weights |= {"latent", "from_latent", "experts", "rank"}
    activations = {"batch", "length", "cache_length"} | {
        f"act_{name}" for name in ("embed", "heads", "kv_heads", "mlp", "vocab", "experts")
    }
    assert set(axes.RULES) == weights | activations


def test_mesh_axes_is_a_tuple_for_every_form_of_rule():
    assert axes.mesh_axes("batch", axes.RULES) == ("data", "fsdp", "expert")
    assert axes.mesh_axes("batch", axes.SAMPLER_RULES) == ("data", "fsdp", "expert", "context")
    assert axes.mesh_axes("mlp", axes.RULES) == ("tensor",)
    assert axes.mesh_axes("length", axes.RULES) == ("context",)
    assert axes.mesh_axes("length", axes.SAMPLER_RULES) == ()


def test_only_the_axes_of_experts_and_of_context_may_be_absent():
    three = ("data", "fsdp", "tensor")
    assert axes.mesh_axes("batch", axes.RULES, three) == ("data", "fsdp")
    assert axes.mesh_axes("experts", axes.RULES, three) == ()
    assert axes.mesh_axes("experts", axes.RULES, axes.MESH_AXES) == ("expert",)
    assert axes.mesh_axes("length", axes.RULES, three) == ()
    assert axes.mesh_axes("embed", axes.RULES, three) == ("fsdp",)
    assert axes.mesh_axes("mlp", axes.RULES, ("data",)) == ("tensor",)


def test_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'embedd'.*act_embed.*vocab"):
        axes.mesh_axes("embedd", axes.RULES)
