"""Named sizes have the published numbers of parameters; nothing of them is allocated."""

import dataclasses
import time
from functools import partial

import jax
import pytest

from r1_jax.core import build, trees
from r1_jax.models import config as model_config
from r1_jax.models import sizes, transformer

# as counted from the published configurations; floating-point numbers were rounded in print
PUBLISHED = {
    "qwen2p5_0p5b": 494_032_768,
    "qwen2p5_1p5b": 1_543_714_304,
    "qwen2p5_3b": 3_085_938_688,
    "qwen2p5_7b": 7_615_616_512,
    "qwen2p5_14b": 14_770_033_664,
    "qwen2p5_32b": 32_763_876_352,
    "qwen2p5_math_1p5b": 1_543_714_304,
    "qwen2p5_math_7b": 7_615_616_512,
    "r1_distill_qwen_1p5b": 1_777_088_000,
    "llama3p1_8b": 8_030_261_248,
    "llama3p3_70b": 70_553_706_496,
    "llama3p2_1b": 1_235_814_400,
    "llama3p2_3b": 3_212_749_824,
    "deepseek_v2_lite": 15.71e9,
    "deepseek_v2": 235.7e9,
    "deepseek_v3": 671_026_419_200,
}


def _abstract(config):
    return jax.eval_shape(partial(transformer.init, config), jax.random.key(0))


@pytest.mark.parametrize("name", PUBLISHED)
def test_number_of_parameters(name):
    began = time.process_time()
    params = _abstract(sizes.SIZES[name])
    assert time.process_time() - began < 20  # of a machine with much else to do; alone about 1
    found, published = trees.num_params(params), PUBLISHED[name]
    # the selection bias is kept among the weights, and counted where they were published
    if isinstance(published, int):
        assert found == published
    else:
        assert found == pytest.approx(published, rel=5e-4)


def test_the_tiny_ones_are_tiny_and_every_other_is_published():
    assert sizes.SIZES.keys() - PUBLISHED.keys() == {"tiny", "deepseek_tiny"}
    tiny, deepseek = sizes.SIZES["tiny"], sizes.SIZES["deepseek_tiny"]
    assert tiny == model_config.ModelConfig(vocab_size=deepseek.vocab_size)
    assert deepseek.latent is not None and deepseek.experts is not None
    assert trees.num_params(_abstract(deepseek)) <= 3_000_000


def test_multi_token_prediction_adds_what_was_published():
    whole = dataclasses.replace(sizes.SIZES["deepseek_v3"], mtp_layers=1)
    predictor = _abstract(whole)["mtp"]
    added = trees.num_params(predictor)
    assert trees.num_params(predictor["layer"]) == pytest.approx(11.5e9, rel=5e-3)
    copied = 2 * whole.vocab_size * whole.embed_dim  # stored once more: embedding and head
    assert added + copied + PUBLISHED["deepseek_v3"] == pytest.approx(685e9, rel=2e-3)


def test_a_deepseek_token_takes_576_values_of_cache_a_layer():
    latent = sizes.SIZES["deepseek_v3"].latent
    assert latent is not None
    assert latent.rank + latent.rope_dim == 576


@pytest.mark.parametrize("name", sizes.SIZES)
def test_every_size_goes_through_a_configuration_file(name):
    config = sizes.SIZES[name]
    assert build.build(model_config.ModelConfig, build.to_dict(config)) == config
