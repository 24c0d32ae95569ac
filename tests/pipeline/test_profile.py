"""A few steps under the profiler: the run's own programs are in the table, and nothing is kept."""

import dataclasses

import pytest

from r1_jax.core import build
from r1_jax.pipeline import experiment, profile
from r1_jax.training import actor_critic, switches

CONFIG = {
    "task": {"num_train": 8, "num_validation": 2, "num_test": 2, "min_target": 10},
    "tokenizer": {"path": "bases/countdown.model"},
    "model": {
        "vocab_size": 576, "num_layers": 1, "embed_dim": 16, "num_heads": 2, "head_dim": 8,
        "mlp_dim": 16,
    },
    "grpo": {
        "num_steps": 10, "prompts_per_rollout": 8, "group_size": 2, "num_minibatches": 2,
        "max_prompt": 24, "max_response": 8,
    },
}  # fmt: skip


def test_the_run_s_own_programs_are_ranked(tmp_path):
    mapping = build.merge(CONFIG, "task.data_dir", str(tmp_path / "data"))
    config = build.build(experiment.ExperimentConfig, mapping)
    found, seconds = profile.run(config, tmp_path / "trace", 2)
    own = [region.seconds for region in found]
    assert own == sorted(own, reverse=True) and own[-1] >= 0
    scopes = {region.scope for region in found}
    assert any(name.startswith("backward ") and "mlp" in name for name in scopes)
    assert any(region.program == "jit_generate" for region in found)
    assert {"rollout", "reference", "update"} <= seconds.keys()
    assert 0 < seconds["update"] < 600


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"ppo": actor_critic.PPOConfig()}, "ppo"),
        ({"teacher": "x", "grpo": switches.GRPOConfig(reference_every=0)}, "teacher"),
    ],
)
def test_a_run_it_does_not_know_is_refused(changes, name, tmp_path):
    config = dataclasses.replace(experiment.ExperimentConfig(), **changes)
    with pytest.raises(ValueError, match=f"has {name}; profile one without it"):
        profile.run(config, tmp_path, 1)
