"""Adapters: fresh ones change nothing, merged ones compute the same, only they have gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from r1_jax.core import trees
from r1_jax.models import layers, lora, sizes, transformer
from tests.models import tiny

MODELS = {"qwen": tiny.MODEL, "deepseek": tiny.DEEPSEEK}
LORA = lora.LoraConfig(rank=3, alpha=12.0)


@functools.cache
def _adapters(name, *, is_fresh):
    adapters = lora.init(MODELS[name], LORA, jax.random.key(1))
    rng = np.random.default_rng(2)
    drawn = jax.tree.map(lambda x: (0.2 * rng.normal(size=x.shape)).astype(np.float32), adapters)
    return adapters if is_fresh else drawn


def _frozen(name):
    return lora.Frozen(tiny.params(MODELS[name]), LORA.alpha / LORA.rank)


@functools.cache
@pytest.mark.parametrize("name", MODELS)
def test_a_fresh_adapter_changes_nothing_to_the_bit(name):
    plain = tiny.logits(MODELS[name])(tiny.params(MODELS[name]))
    adapted = tiny.logits(MODELS[name])(lora.join(_frozen(name), _adapters(name, is_fresh=True)))
    for one, other in zip(plain, adapted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_merged_is_unmerged_in_a_pass_and_in_every_step(name):
    adapters = _adapters(name, is_fresh=False)
    plain = tiny.logits(MODELS[name])(tiny.params(MODELS[name]))
    adapted = tiny.logits(MODELS[name])(lora.join(_frozen(name), adapters))
    merged = lora.merge(_frozen(name), adapters)
    assert jax.tree.structure(merged) == jax.tree.structure(tiny.params(MODELS[name]))
    for one, other in zip(adapted, tiny.logits(MODELS[name])(merged), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(adapted[0][:, 5:], adapted[1], rtol=1e-4, atol=1e-4)
    assert np.abs(adapted[0] - plain[0]).max() > 0.5


def test_an_adapted_linear_by_hand():
    # 2 features in as 1 x 2, out as 2: y = x W + x A B
    params = {
        "kernel": jnp.array([[[1.0, 0.0], [0.0, 1.0]]]),
        "bias": jnp.array([0.5, 0.0]),
        "lora_in": jnp.array([[[1.0], [2.0]]]),
        "lora_out": jnp.array([[10.0, -1.0]]),
    }
    module = layers.Linear((1, 2), (2,), ("heads", "head_dim", "embed"), 0.02, bias=True)
    y = module.apply({"params": params}, jnp.array([[[[3.0, 4.0]]]]))
    np.testing.assert_allclose(y, [[[3.5 + 110.0, 4.0 - 11.0]]])


def test_joined_and_merged_by_hand():
    base = {"layers": {"block": {"mlp": {"up": {"kernel": jnp.ones((1, 2, 2))}}}}}
    a, b = jnp.array([[[1.0], [2.0]]]), jnp.array([[[3.0, 4.0]]])
    mine = {"layers": {"block": {"mlp": {"up": {"lora_in": a, "lora_out": b}}}}}
    frozen = lora.Frozen(base, 0.5)
    up = lora.join(frozen, mine)["layers"]["block"]["mlp"]["up"]
    np.testing.assert_array_equal(up["lora_out"], [[[1.5, 2.0]]])
    assert up["kernel"] is base["layers"]["block"]["mlp"]["up"]["kernel"] and up["lora_in"] is a
    merged = lora.merge(frozen, mine)["layers"]["block"]["mlp"]["up"]
    np.testing.assert_array_equal(merged["kernel"], [[[2.5, 3.0], [4.0, 5.0]]])
    assert lora.join(None, mine) is lora.merge(None, mine) is mine


def test_no_gradient_of_a_frozen_matrix_is_ever_made():
    frozen, adapters = _frozen("qwen"), _adapters("qwen", is_fresh=False)
    tokens_BT = jnp.zeros((2, 5), jnp.int32)

    def loss(adapters):
        hidden_BTD, _ = transformer.forward(tiny.MODEL, lora.join(frozen, adapters), tokens_BT)
        return jnp.sum(hidden_BTD**2)

    def products(function, x):
        """Shapes, their dimensions in order of size, of what the gradient's products make."""
        program = jax.make_jaxpr(jax.grad(function))(x)
        found = [e for e in tiny.equations(program) if e.primitive.name == "dot_general"]
        return {tuple(sorted(e.outvars[0].aval.shape)) for e in found}

    def whole(params):
        return jnp.sum(transformer.forward(tiny.MODEL, params, tokens_BT)[0] ** 2)

    kernels = {(32, 48), (4 * 8, 32), (2 * 8, 32)}
    assert kernels <= products(whole, frozen.params)
    mine = products(loss, adapters)
    assert {(3, 32), (3, 48)} <= mine and not kernels & mine


def _names(name, *chosen):
    config = lora.LoraConfig(rank=2, layers=chosen)
    paths = traverse_util.flatten_dict(
        jax.eval_shape(lambda: lora.init_boxed(MODELS[name], config, jax.random.key(0)))
    )
    return {"/".join(path[:-1]) for path in paths}


def test_every_linear_layer_of_every_block_unless_some_are_named():
    block = "layers/block"
    attention = {f"{block}/attention/{x}" for x in ("query", "key", "value", "out")}
    mlp = {f"{block}/mlp/{x}" for x in ("gate", "up", "down")}
    assert _names("qwen") == attention | mlp
    assert _names("qwen", "attention") == attention
    assert _names("qwen", "mlp/up", "attention/out") == {
        f"{block}/mlp/up", f"{block}/attention/out"
    }  # fmt: skip
    shared = {f"{block}/experts/shared/{x}" for x in ("gate", "up", "down")}
    assert _names("deepseek", "experts/shared") == shared
    both = _names("deepseek")
    assert shared < both and "dense_layers/block/mlp/up" in both
    assert {f"{x}/block/attention/latent_down" for x in ("layers", "dense_layers")} < both
    assert not any("latent_up" in path or "router" in path for path in both)


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("qwen", "attention/querry", "'attention/querry' names what is no linear layer of this"),
        ("qwen", "embedding", "they are attention/key, attention/out, attention/query,"),
        ("qwen", "att", "'att' names what"),
        ("deepseek", "experts", "'experts' covers experts/down, which is no linear layer"),
        ("deepseek", "experts/router", "'experts/router' covers experts/router, which"),
        ("deepseek", "attention/latent_up", "covers attention/latent_up, which"),
        ("deepseek", "attention", "'attention' covers attention/latent_up, which"),
    ],
)
def test_what_can_have_no_adapter_is_named(name, chosen, message):
    with pytest.raises(ValueError, match=rf"lora\.layers: .*{message}"):
        _names(name, chosen)


def test_sizes_and_axes_of_a_published_model_s_adapters():
    model = sizes.SIZES["qwen2p5_7b"]
    config = lora.LoraConfig(rank=16)
    boxed = jax.eval_shape(lambda: lora.init_boxed(model, config, jax.random.key(0)))
    # 28 layers of rank * (in + out): query and out, key and value, three of the MLP
    ins_and_outs = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18_944)
    assert trees.num_params(boxed) == 28 * 16 * ins_and_outs == 40_370_176
    query = boxed["layers"]["block"]["attention"]["query"]
    assert query["lora_in"].names == ("layers", "embed", "rank")
    assert query["lora_out"].names == ("layers", "rank", "heads", "head_dim")
    assert query["lora_out"].value.shape == (28, 16, 28, 128)


def test_a_drawn_matrix_has_the_spread_of_its_inputs_and_none_is_another_s():
    model = sizes.SIZES["tiny"]
    adapters = lora.init(model, lora.LoraConfig(), jax.random.key(0))
    block = adapters["layers"]["block"]
    for path, num_in in (("attention/out", 128), ("mlp/down", 384)):
        room, name = path.split("/")
        assert np.std(block[room][name]["lora_in"]) == pytest.approx(num_in**-0.5, rel=0.05)
    assert np.abs(block["mlp"]["up"]["lora_in"] - block["mlp"]["gate"]["lora_in"]).min() > 0


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"alpha": -1.0}])
def test_an_adapter_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="without an adapter, leave lora out"):
        lora.LoraConfig(**wrong)
