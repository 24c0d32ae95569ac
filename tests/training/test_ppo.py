"""PPO's loop: what it calls and in which order; that its switches matter; that it learns."""

import dataclasses

import numpy as np
import pytest

from r1_jax.training import actor_critic, grpo
from tests import tiny

CONFIG = tiny.change(clip_low=0.2, clip_high=0.28, kl_estimator="k1", kl_place="reward")
PPO = actor_critic.PPOConfig(gae_lambda=0.9, learning_rate=0.5)


@pytest.fixture(autouse=True)
def _table_policy(monkeypatch):
    tiny.patch(monkeypatch)


def run(of_ppo=PPO, changes=None, **how) -> tiny.Run:
    config = dataclasses.replace(CONFIG, **(changes or {}))
    return tiny.run(config, of_ppo=of_ppo, **how)


def test_a_rollout_is_valued_before_it_is_trained_on():
    done = run()
    rollout = [
        "evaluate", "next_prompts", "generate", "score",
        "logps", "values", "scored",  # grading goes on while the device scores
        "update", "update", "log", "save",
    ]  # fmt: skip
    assert done.names() == [*rollout, *rollout, "evaluate"]
    said = [call[1] for call in done.calls if call[0] == "values"]
    assert said[0] == 0 and said[1] != 0  # the second time by a critic that has learnt
    assert int(done.state.step) == int(done.state.critic.step) == 4


def test_what_it_logs_is_grpo_s_and_the_critic_s():
    with_critic, without = run().rows[0], tiny.run(CONFIG).rows[0]
    assert with_critic.keys() - without.keys() == {
        "value/loss", "value/mean", "value/clip_share", "value/gradient_norm", "value/skipped",
        "value/explained_variance",
    }  # fmt: skip
    assert without.keys() <= with_critic.keys()
    same = [k for k in without if k.startswith(("length", "reward", "tokens", "groups", "rows"))]
    assert same and all(with_critic[k] == without[k] for k in same)  # the same rollout


def test_without_a_kl_term_nothing_is_kept_or_scored_of_a_reference():
    done = run(changes={"kl_coef": 0.0, "reference_every": 2})
    assert done.references == [None, None]
    assert {"logps", "mix"}.isdisjoint(done.names())
    assert "kl/reference" not in done.rows[0]


def test_the_reference_is_refreshed_as_grpo_does():
    done = run(changes={"reference_every": 2})
    np.testing.assert_array_equal(done.references, done.tables)


def test_a_gap_above_the_bound_stops_the_run():
    with pytest.raises(grpo.GapError, match=r"differ by 0.2 nats .* gap_bound=0.05;"):
        run(error=0.2)


def test_every_switch_of_the_critic_changes_the_policy():
    changes = {
        "gamma": 0.5, "gae_lambda": 0.3, "whiten": False, "value_clip": 0.001, "learning_rate": 0.1
    }  # fmt: skip
    assert changes.keys() == {field.name for field in dataclasses.fields(PPO)}
    # Three rollouts: what the critic has learnt is first heard of in the second.
    longer = {"num_steps": 6}
    one = np.array(run(changes=longer).tables)
    for name, value in changes.items():
        other = np.array(run(dataclasses.replace(PPO, **{name: value}), longer).tables)
        assert np.isfinite(other).all()
        assert np.abs(one - other).max() > 1e-4, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inner_epochs", 2), ("num_minibatches", 1), ("clip_high", 0.01), ("kl_coef", 0.5),
        ("kl_place", "loss"), ("kl_estimator", "k3"), ("aggregation", "token_mean"),
        ("truncated", "mask"), ("importance_cap", 1.01), ("entropy_coef", 0.1),
    ],
)  # fmt: skip
def test_the_switches_shared_with_grpo_change_the_policy(name, value):
    # A sampler that is a little off makes an importance cap matter.
    how = {"learning_rate": 2.0, "error": -0.04}
    one, other = run(**how).tables, run(changes={name: value}, **how).tables
    assert len(one) != len(other) or np.abs(np.array(one) - np.array(other)).max() > 1e-4


def test_a_reward_for_a_token_is_learnt_and_the_critic_learns_what_to_expect():
    config = tiny.change(num_steps=80, num_minibatches=1, truncated="mask", kl_coef=0.0)
    done = tiny.run(config, of_ppo=actor_critic.PPOConfig(learning_rate=0.5), learning_rate=0.1)
    rewards, explained, expected = (
        [row[name] for row in done.rows]
        for name in ("reward/mean", "value/explained_variance", "value/mean")
    )
    assert np.mean(rewards[:10]) < 0.25 and np.mean(rewards[-10:]) > 0.4
    # Until the policy outgrows it, the critic knows which token promises what.
    assert explained[0] == pytest.approx(0, abs=1e-5)
    assert np.mean(explained[1:30]) > 0.03
    assert np.mean(expected[-10:]) > 2 * np.mean(expected[:10]) > 0
