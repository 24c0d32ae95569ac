"""Every file in configs/ builds, and the paper's one holds the paper's numbers (R1_FACTS 1.3)."""

import dataclasses
import importlib.util
import pathlib

import pytest

from r1_jax.core import build
from r1_jax.data.tasks import benchmarks
from r1_jax.pipeline import experiment, suite

ALL = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))
FILES = [path for path in ALL if not path.stem.startswith("eval_")]  # those are suites


def _get_config(name: str):
    path = next(path for path in ALL if path.stem == name)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def load(name: str) -> experiment.ExperimentConfig:
    return build.build(experiment.ExperimentConfig, _get_config(name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_builds_and_its_docstring_gives_command_and_hardware(path):
    assert isinstance(load(path.stem), experiment.ExperimentConfig)
    text = path.read_text()
    assert f"--config=configs/{path.name}" in text
    assert "Hardware:" in text


def test_the_paper_s_numbers():
    config = load("r1_zero_paper")
    grpo = config.grpo
    assert config.optim.learning_rate == 3e-6
    assert (grpo.kl_coef, grpo.kl_estimator, grpo.kl_place) == (0.001, "k3", "loss")
    assert (grpo.group_size, grpo.prompts_per_rollout, grpo.num_minibatches) == (16, 512, 16)
    assert grpo.prompts_per_rollout * grpo.group_size // grpo.num_minibatches == 512
    assert grpo.inner_epochs == 1
    assert (grpo.num_steps, grpo.reference_every, grpo.reference_mix) == (10_400, 400, 1.0)
    assert config.sampling.temperature == 1.0
    assert grpo.response_limit(8199) == 32_768 and grpo.response_limit(8200) == 65_536
    assert config.reward.accuracy_weight == config.reward.format_weight


def test_the_paper_s_protocol_of_evaluation():
    config = build.build(suite.SuiteConfig, _get_config("eval_paper"))
    assert (config.sampling.temperature, config.sampling.top_p) == (0.6, 0.95)
    assert config.max_response == 32_768
    samples = {name: entry.num_samples for name, entry in config.entries.items()}
    assert samples["aime_2024"] == samples["gpqa_diamond"] == 64 and samples["math_500"] == 16
    assert all(4 <= num <= 64 for num in samples.values())
    assert 64 in config.entries["aime_2024"].ks
    published = {name for name, entry in config.entries.items() if entry.task is None}
    assert published == set(benchmarks.BENCHMARKS)
    assert "--suite=configs/eval_paper.py" in (ALL[0].parent / "eval_paper.py").read_text()


def test_the_control_differs_from_the_quickstart_in_what_is_paid_alone():
    quickstart, control = load("r1_zero_countdown"), load("ablate_random_reward")
    differing = [
        room
        for room in build.to_dict(quickstart)
        if getattr(quickstart, room) != getattr(control, room)
    ]
    assert differing == ["grpo", "reward"]
    assert dataclasses.replace(control.grpo, truncated="zero_reward") == quickstart.grpo
    assert control.grpo.truncated == "mask"  # 0 for what is cut off would not be random
    assert control.reward.accuracy_weight == control.reward.format_weight == 0
