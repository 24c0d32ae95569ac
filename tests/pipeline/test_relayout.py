"""The sampler's weights: where they lie, in which type, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.core import keys
from r1_jax.models import config as model_config
from r1_jax.models import transformer
from r1_jax.pipeline import relayout
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

SMALL = {"vocab_size": 64, "num_layers": 2, "embed_dim": 32, "mlp_dim": 64, "head_dim": 16}


def _params(model, mesh):
    boxed = jax.eval_shape(lambda: transformer.init_boxed(model, keys.root(0)))
    return jax.device_put(transformer.init(model, keys.root(0)), place.shardings(boxed, mesh))


def test_weights_are_whole_along_fsdp_and_split_over_tensor():
    mesh = meshes.make_mesh(fsdp=4, tensor=2)
    params = _params(model_config.ModelConfig(**SMALL), mesh)
    relaid = relayout.make_relayout(model_config.ModelConfig(**SMALL), "float")(params)
    up = relaid["layers"]["block"]["mlp"]["up"]["kernel"]
    assert up.sharding.shard_shape(up.shape) == (2, 32, 32)
    for ours, theirs in zip(jax.tree.leaves(relaid), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_on_one_device_in_float32_they_are_the_learners_own():
    mesh = meshes.make_mesh(devices=jax.devices()[:1])
    params = _params(model_config.ModelConfig(**SMALL), mesh)
    assert relayout.make_relayout(model_config.ModelConfig(**SMALL), "float")(params) is params


def test_in_bfloat16_the_model_computes_the_same_to_the_bit():
    model = model_config.ModelConfig(**SMALL, compute_dtype="bfloat16")
    params = transformer.init(model, keys.root(0))
    cast = relayout.cast(model, params, "float")
    assert cast["embedding"].dtype == jnp.bfloat16
    assert cast["final_norm"]["scale"].dtype == jnp.float32
    tokens_BT = jnp.arange(12)[None] % 64
    ours, _ = transformer.forward(model, cast, tokens_BT)
    theirs, _ = transformer.forward(model, params, tokens_BT)
    np.testing.assert_array_equal(ours, theirs)


def test_in_8_bits_a_kernel_s_scale_lies_as_its_outputs_do():
    mesh = meshes.make_mesh(fsdp=4, tensor=2)
    model = model_config.ModelConfig(**SMALL, compute_dtype="bfloat16")
    params = _params(model, mesh)
    relaid = relayout.make_relayout(model, "int8")(params)
    expected = relayout.cast(model, jax.device_get(params), "int8")
    for ours, theirs in zip(jax.tree.leaves(relaid), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    block = relaid["layers"]["block"]
    # hidden units and heads are split over tensor; the width, what comes out of heads, is whole
    up, out = block["mlp"]["up"], block["attention"]["out"]
    arrays = [up["kernel"], up["scale"], out["kernel"], out["scale"]]
    shapes = [x.sharding.shard_shape(x.shape) for x in arrays]
    assert shapes == [(2, 32, 32), (2, 32), (2, 2, 16, 32), (2, 32)]
    assert up["kernel"].dtype == jnp.int8
    assert up["scale"].dtype == jnp.float32
    assert relaid["embedding"].dtype == block["attention"]["query"]["bias"].dtype == jnp.bfloat16


def test_on_one_device_in_float32_8_bits_are_made_all_the_same():
    mesh = meshes.make_mesh(devices=jax.devices()[:1])
    params = _params(model_config.ModelConfig(**SMALL), mesh)
    relaid = relayout.make_relayout(model_config.ModelConfig(**SMALL), "fp8")(params)
    assert relaid["layers"]["block"]["mlp"]["up"]["kernel"].dtype == jnp.float8_e4m3fn
