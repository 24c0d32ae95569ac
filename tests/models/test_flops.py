"""FLOPs by formula are those that XLA counts, and the published sizes' active parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from r1_jax.models import config as model_config
from r1_jax.models import flops, heads, sizes, transformer
from tests.models import tiny


@pytest.mark.parametrize("tied", [True, False])
def test_a_dense_model_s_are_those_xla_counts(tied):
    config = dataclasses.replace(
        model_config.ModelConfig(), num_layers=2, tied_embeddings=tied, qkv_bias=False
    )
    B, T = 2, 64  # one block of attention, in which every query meets every key

    def scored(params, tokens_BT):
        hidden_BTD, _ = transformer.forward(config, params, tokens_BT)
        return heads.logits(hidden_BTD, heads.kernel(config, params))

    lowered = jax.jit(scored).lower(tiny.params(config), jnp.zeros((B, T), jnp.int32))
    counted = lowered.cost_analysis()["flops"]
    cost = flops.of(config)
    whole = cost.forward(B * T, num_scored=B * T, num_pairs=B * T * T)
    assert whole == pytest.approx(counted, rel=0.04)  # norms, rotary, softmax besides
    assert whole < counted


def test_of_experts_those_count_that_a_token_chooses():
    """R1_FACTS 7.3: 37 billion of DeepSeek-V3's 671 are active, its embedding counted once."""
    config = sizes.SIZES["deepseek_v3"]
    cost = flops.of(config)
    active = cost.token / 2 + config.vocab_size * config.embed_dim
    assert active == pytest.approx(36.6e9, rel=0.01)
    assert cost.pair == 2 * 61 * 128 * (192 + 128)
