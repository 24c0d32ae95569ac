"""Tokens a second and shares of the ceiling, of a row written by hand."""

import dataclasses

import pytest

from r1_jax.models import flops, lora
from r1_jax.pipeline import accounts, experiment

ROW = {  # two prompts, two completions of each, and as many that resampling left out
    "length/mean": 75.0,
    "tokens/rollout": 600,
    "tokens/sequences": 1000,
    "pairs/sequences": 50_000.0,
    "pairs/completions": 40_000.0,
    "seconds/rollout": 2.0,
    "seconds/reference": 0.5,
    "seconds/update": 4.0,
}


def _config(**grpo):
    config = experiment.ExperimentConfig()
    grpo = {"prompts_per_rollout": 2, "group_size": 2, "num_minibatches": 1} | grpo
    return dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, **grpo))


def test_useful_work_over_seconds_and_ceiling(monkeypatch):
    monkeypatch.setattr(flops, "of", lambda model: flops.Cost(token=100, logits=10, pair=2))
    found = accounts.speeds(_config(inner_epochs=2), ROW, peak=1e5)
    forward = 1000 * 100 + 300 * 10 + 50_000 * 2
    assert found == pytest.approx(
        {
            "speed/rollout_tokens": 300,
            "speed/rollout_share": (600 * 110 + 40_000 * 2) / 2 / 1e5,
            "speed/reference_tokens": 2000,
            "speed/reference_share": forward / 0.5 / 1e5,
            "speed/update_tokens": 500,
            "speed/update_share": 3 * 2 * forward / 4 / 1e5,
        }
    )
    frozen = dataclasses.replace(_config(), lora=lora.LoraConfig(rank=2))
    of_adapters = accounts.speeds(frozen, ROW, peak=1e5)
    assert of_adapters["speed/update_share"] == pytest.approx(2 * forward / 4 / 1e5)


def test_a_phase_that_took_no_time_has_no_speed():
    row = {name: value for name, value in ROW.items() if name != "seconds/rollout"}
    found = accounts.speeds(_config(kl_coef=0.0), row, peak=1e5)
    assert sorted(found) == ["speed/update_share", "speed/update_tokens"]
