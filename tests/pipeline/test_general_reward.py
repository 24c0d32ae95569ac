"""A reward model pays general requests alone, late, within bounds; what it pays is logged."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from r1_jax.core import build, types
from r1_jax.data.tasks import task as tasks
from r1_jax.pipeline import experiment, general_reward, reward_score
from r1_jax.training import rollout

PROMPTS = [tasks.Prompt(uid, f"q{uid}", "{}") for uid in range(3)]
TASK = SimpleNamespace(is_general=lambda prompt: prompt.uid == 1)


def _rollouts():
    per_B = np.zeros(6, np.int32)
    return types.Rollouts(
        np.arange(6, dtype=np.int32)[:, None], per_B, per_B, np.zeros((6, 1), np.float32), per_B,
        np.repeat(np.arange(3, dtype=np.int32), 2), per_B, np.int32(0), np.int32(0),
    )  # fmt: skip


def _start(prompts, rollouts, step):
    rules_B = np.array([1, 0, 1, 0, 1, 0], np.float32)
    scores = types.Scores(rules_B, {"accuracy": rules_B}, np.zeros(6, np.int32), np.arange(6) != 3)
    samples = [{"reward": float(x), "parts": {"accuracy": float(x)}} for x in rules_B]
    return lambda: rollout.Scored(scores, {"reward/mean": 0.6}, samples)


def _config(**changes):
    given = {"path": "rm.safetensors", "weight": 0.5, "last_steps": 4} | changes
    mapping = {"general_reward": given, "grpo": {"num_steps": 10, "num_minibatches": 1}}
    return build.build(experiment.ExperimentConfig, mapping)


@pytest.fixture
def asked(monkeypatch):
    """The rows that the reward model was shown, by their first token."""
    seen = []

    def make_rollout_rewards(judge, tokens, mesh, *, batch_rows, capacity):
        def rewards(params, rollouts):
            seen.extend(rollouts.tokens_BT[:, 0].tolist())
            return np.array([5.0, -99.0], np.float32)

        return rewards

    judge = SimpleNamespace(params=None, mean=1.0, std=2.0)
    monkeypatch.setattr(reward_score, "open_model", lambda path, mesh: judge)
    monkeypatch.setattr(reward_score, "make_rollout_rewards", make_rollout_rewards)
    return seen


def test_without_a_reward_model_nothing_is_between_policy_and_rules():
    config = dataclasses.replace(_config(), general_reward=experiment.GeneralRewardConfig())
    assert general_reward.add(config, _start, TASK, None, None) is _start


def test_general_requests_alone_are_paid_within_bounds(asked):
    scored = general_reward.add(_config(), _start, TASK, None, None)(PROMPTS, _rollouts(), 6)()
    assert asked == [2, 3]
    np.testing.assert_allclose(scored.scores.parts["preference"], [0, 0, 2, -3, 0, 0], atol=1e-5)
    np.testing.assert_allclose(scored.scores.reward_B, [1, 0, 2, -1.5, 1, 0], atol=1e-5)
    assert scored.facts["reward/preference"] == pytest.approx(-0.5, abs=1e-5)
    assert scored.facts["reward/mean"] == pytest.approx(4 / 5, abs=1e-5)  # row 3 is not valid
    assert [row["reward"] for row in scored.samples] == pytest.approx([1, 0, 2, -1.5, 1, 0])
    assert scored.samples[2]["parts"] == pytest.approx({"accuracy": 1.0, "preference": 2.0})


def test_it_pays_in_the_last_steps_alone(asked):
    begin = general_reward.add(_config(), _start, TASK, None, None)
    scored = begin(PROMPTS, _rollouts(), 5)()
    assert asked == [] and not scored.scores.parts["preference"].any()
    assert scored.facts["reward/preference"] == 0 and scored.scores.reward_B[2] == 1
    begin = general_reward.add(_config(last_steps=0), _start, TASK, None, None)
    begin(PROMPTS, _rollouts(), 0)()
    assert asked == [2, 3]


def test_a_general_answer_s_own_accuracy_need_not_be_paid(asked):
    config = _config(accuracy=False)
    scored = general_reward.add(config, _start, TASK, None, None)(PROMPTS, _rollouts(), 5)()
    np.testing.assert_allclose(scored.scores.reward_B, [1, 0, 0, 0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(scored.scores.parts["accuracy"], [1, 0, 1, 0, 1, 0])  # logged
    assert [row["reward"] for row in scored.samples] == pytest.approx([1, 0, 0, 0, 1, 0])
    assert scored.facts["reward/mean"] == pytest.approx(2 / 5)
    scored = general_reward.add(config, _start, TASK, None, None)(PROMPTS, _rollouts(), 6)()
    np.testing.assert_allclose(scored.scores.reward_B, [1, 0, 1, -1.5, 1, 0], atol=1e-5)
    alone = general_reward.add(_config(accuracy=False, path=""), _start, TASK, None, None)
    np.testing.assert_allclose(
        alone(PROMPTS, _rollouts(), 9)().scores.reward_B, [1, 0, 0, 0, 1, 0], atol=1e-6
    )


@pytest.mark.parametrize("reward", [{"composition": "product"}, {"gates": ("accuracy",)}])
def test_one_part_cannot_be_taken_out_of_a_product(reward):
    mapping = {"reward": reward, "general_reward": {"accuracy": False}}
    with pytest.raises(ValueError, match="takes one part out of a sum"):
        build.build(experiment.ExperimentConfig, mapping)


@pytest.mark.parametrize("name", ["last_steps", "asked_last_steps"])
def test_negative_steps_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=-1"):
        _config(**{name: -1})


def test_a_general_answer_without_thinking_is_in_no_wrong_language():
    def start(prompts, rollouts, step):
        scored = _start(prompts, rollouts, step)()
        language_B = np.array([0, 0.5, 0, 0, 0.25, 1], np.float32)
        scores = dataclasses.replace(
            scored.scores, parts=scored.scores.parts | {"language": language_B}
        )
        texts = ["<think> </think> a", "<think> b </think> a", "no tags"]
        silent = [texts[i] for i in (0, 1, 0, 0, 1, 0)]
        rows = [row | {"completion": x} for row, x in zip(scored.samples, silent, strict=True)]
        return lambda: rollout.Scored(scores, scored.facts, rows)

    mapping = {"reward": {"language_weight": 2.0}, "general_reward": {"accuracy": True}}
    config = build.build(experiment.ExperimentConfig, mapping)
    scored = general_reward.add(config, start, TASK, None, None)(PROMPTS, _rollouts(), 0)()
    # Rows 2 and 3 are the general request's, and row 3 is not valid.
    np.testing.assert_allclose(scored.scores.reward_B, [1, 0, 3, 0, 1, 0], atol=1e-6)
    assert scored.scores.parts["language"][2] == 0  # logged as it was graded
    gated = build.build(
        experiment.ExperimentConfig, {"reward": {"language_weight": 2.0, "gates": ("format",)}}
    )
    assert general_reward.add(gated, start, TASK, None, None) is start


def test_general_requests_are_asked_in_the_last_steps_alone():
    known = [tasks.Prompt(uid, f"q{uid}", "{}") for uid in range(8)]
    reasoning = [prompt for prompt in known if prompt.uid % 2]
    task = SimpleNamespace(splits={"train": known}, reasoning=reasoning)
    grpo = {"num_steps": 12, "num_minibatches": 2, "prompts_per_rollout": 4}

    def asked(task, **given):
        mapping = {"grpo": grpo, "general_reward": given}
        prompts = general_reward.stream(build.build(experiment.ExperimentConfig, mapping), task)
        return [any(prompt.uid % 2 == 0 for prompt in next(prompts)) for _ in range(6)]

    assert asked(task, asked_last_steps=4) == [False] * 4 + [True] * 2  # two updates a rollout
    assert all(asked(task))
    alone = SimpleNamespace(splits={"train": known}, reasoning=None)  # no mixture
    assert all(asked(alone, asked_last_steps=4))
