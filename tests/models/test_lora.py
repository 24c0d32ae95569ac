"""Adapters: fresh ones change nothing, merged ones compute the same, and only they have gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from r1_jax.core import trees
from r1_jax.models import cache as kv_cache
from r1_jax.models import heads, layers, lora, sizes, transformer
from tests.models import tiny

MODELS = {"qwen": tiny.MODEL, "deepseek": tiny.DEEPSEEK, "v2": tiny.DEEPSEEK_V2}
LORA = lora.LoraConfig(rank=3, alpha=12.0)


def _adapters(model, config=LORA, *, fresh=True):
    adapters = nn.unbox(lora.init_boxed(model, config, jax.random.key(1)))
    if fresh:
        return adapters
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: (0.2 * rng.normal(size=x.shape)).astype(np.float32), adapters)


def _frozen(model, config=LORA):
    return lora.Frozen(tiny.params(model), config.alpha / config.rank)


@functools.cache
def _both(name):
    """jitted (params) -> (logits of a sequence, logits of the steps that decode its end)."""
    model = MODELS[name]
    tokens_BT = jnp.asarray(np.random.default_rng(0).integers(0, 26, (2, 9)), jnp.int32)

    def run(params):
        kernel_DV = heads.kernel(model, params)
        hidden_BTD, kv = transformer.forward(model, params, tokens_BT, collect=True)
        blocks, steps = transformer.unstack(model, params), []
        start = [x if x is None else x[:, :, :5] for x in kv]
        cache = kv_cache.allocate(model, *start, jnp.full(2, 5, jnp.int32), 4)
        for t in range(5, 9):
            slot = jnp.int32(t - 5)
            hidden_BD, cache = transformer.step(model, params, blocks, tokens_BT[:, t], cache, slot)
            steps.append(heads.logits(hidden_BD, kernel_DV))
        return heads.logits(hidden_BTD, kernel_DV), jnp.stack(steps, axis=1)

    return tiny.jit(run)


@pytest.mark.parametrize("name", MODELS)
def test_a_fresh_adapter_changes_nothing_to_the_bit(name):
    plain = _both(name)(tiny.params(MODELS[name]))
    adapted = _both(name)(lora.join(_frozen(MODELS[name]), _adapters(MODELS[name])))
    for one, other in zip(plain, adapted, strict=True):
        np.testing.assert_array_equal(one, other)
