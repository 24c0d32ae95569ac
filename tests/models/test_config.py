"""ModelConfig refuses shapes that are no decoder, and says why."""

import dataclasses

import pytest

from r1_jax.core import build
from r1_jax.models import config as model_config


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0 must be at least 1"),
        ({"num_layers": 0}, "num_layers=0 must be at least 1"),
        ({"embed_dim": -8}, "embed_dim=-8 must be at least 1"),
        ({"num_kv_heads": 0}, "num_kv_heads=0 must be at least 1"),
        ({"mlp_dim": 0}, "mlp_dim=0 must be at least 1"),
        ({"head_dim": 0}, "head_dim=0 must be at least 1"),
        ({"num_heads": 6, "num_kv_heads": 4}, "num_heads=6 is not a multiple of num_kv_heads=4"),
        ({"num_heads": 2, "num_kv_heads": 4}, "num_heads=2 is not a multiple of num_kv_heads=4"),
        ({"head_dim": 7}, "head_dim=7 must be even"),
        ({"rope_theta": 0.0}, "rope_theta=0.0 must be above 0"),
        ({"norm_epsilon": -1e-6}, "norm_epsilon=-1e-06 must be above 0"),
        ({"init_std": 0.0}, "init_std=0.0 must be above 0"),
    ],
)
def test_impossible_values_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        model_config.ModelConfig(**bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"compute_dtype": "float16"}, "compute_dtype='float16' is not one of 'float32', 'bfl"),
        ({"remat": "some"}, "remat='some' is not one of 'none', 'dots', 'full'"),
        ({"num_layer": 2}, "unknown key num_layer=2; .*num_layers"),
        ({"head_dim": 7}, "head_dim=7 must be even"),
    ],
)
def test_a_configuration_file_cannot_hold_them_either(bad, message):
    with pytest.raises(ValueError, match=message):
        build.build(model_config.ModelConfig, bad)


def test_it_is_a_value():
    config = model_config.ModelConfig(num_layers=2)
    assert config == dataclasses.replace(model_config.ModelConfig(), num_layers=2)
    assert hash(config) == hash(model_config.ModelConfig(num_layers=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_layers = 3
