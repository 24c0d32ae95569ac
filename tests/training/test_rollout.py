"""From prompts to the rows of an update: resampling, shaping, advantages, minibatches."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.core import keys, types
from r1_jax.metrics.clock import Clock
from r1_jax.training import grpo, rollout
from tests import tiny
from tests.golden import rl_numpy as golden

CONFIG, change = tiny.CONFIG, tiny.change


@pytest.fixture(autouse=True)
def _table_policy(monkeypatch):
    tiny.patch(monkeypatch)


def test_minibatches_are_a_function_of_seed_and_step():
    def orders(seed, step):
        return np.concatenate(rollout.minibatches(CONFIG, keys.root(seed), step, 16)).tolist()

    assert orders(0, 2) == orders(0, 2)
    assert orders(0, 2) != orders(0, 4) and orders(0, 2) != orders(1, 2)


# --- zero-spread groups -------------------------------------------------------------------------


def _sparse(ids):
    """Pays only completions that begin with GOOD: most groups of four have no spread."""
    return float(ids[0] == tiny.GOOD)


def _is_flat(run):
    return [row["groups/zero_spread_share"] for row in run.rows]


def test_resampling_replaces_groups_without_spread_and_counts_all_tokens():
    plain = tiny.run(change(num_steps=2), reward=_sparse)
    resampled = tiny.run(change(num_steps=2, resample=5), reward=_sparse)
    assert _is_flat(plain)[0] > 0.2 and _is_flat(resampled)[0] == 0
    num = resampled.names().count("generate")
    assert 1 < num <= 6 and resampled.rows[0]["resample/rollouts"] == num
    # Honest: every token that was generated, also of groups that were thrown away.
    key = keys.root(0)
    tokens = 0
    for attempt in range(num):
        rollouts = tiny.generate(
            tiny.initial_table(), tiny.prompt_batch(4 * attempt, 4),
            keys.at(key, "sample", 0, attempt), 0, 6, group_size=4, max_response=6,
        )  # fmt: skip
        tokens += int(rollouts.length_B.sum())
    assert resampled.rows[0]["tokens/rollout"] == tokens > plain.rows[0]["tokens/rollout"]
    assert resampled.rows[0]["tokens/useful_share"] < plain.rows[0]["tokens/useful_share"]
    assert resampled.rows[0]["num_samples"] == 16


def test_resampling_stops_at_its_limit_and_fills_up_with_flat_groups():
    run = tiny.run(change(num_steps=2, resample=2, truncated="mask"), reward=lambda ids: 1.0)
    assert run.names().count("generate") == 3
    assert _is_flat(run) == [1.0]
    assert run.rows[0]["num_samples"] == 16


def test_groups_with_their_scores_stay_together_when_they_are_chosen():
    config = change(resample=5, truncated="mask")
    batches = iter(range(0, 99, 4))
    hooks = grpo.Hooks(
        lambda: ([], tiny.prompt_batch(next(batches), 4)),
        lambda problems, rollouts, step: tiny.score(problems, rollouts, step, _sparse),
        None, None, None,
    )  # fmt: skip
    programs = grpo.Programs(
        partial(tiny.generate, group_size=4, max_response=6), None, None, None, None
    )
    draw = partial(
        rollout.draw, config, programs, hooks, tiny.initial_table(), 0,
        root=keys.root(0), step=0, clock=Clock(),
    )  # fmt: skip
    rollouts, finish = rollout.score(config, draw(), draw, hooks, step=0)
    scored = finish()
    uid_PG = rollouts.uid_B.reshape(4, 4)
    assert (uid_PG == uid_PG[:, :1]).all() and len(set(uid_PG[:, 0])) == 4
    assert uid_PG[:, 0].tolist() != [0, 1, 2, 3]
    np.testing.assert_array_equal(rollouts.sample_B.reshape(4, 4), [range(4)] * 4)
    paid = [_sparse(ids) for ids in tiny.completions(rollouts)]
    np.testing.assert_array_equal(scored.scores.reward_B, paid)
    assert [sample["uid"] for sample in scored.samples] == rollouts.uid_B.tolist()


def test_spread_is_judged_as_the_advantages_will_see_it():
    # Truncated completions are paid nothing: spread among them alone is none.
    def only_truncated_differ(ids):
        return float(len(ids) == 2 and ids[0] != tiny.STOP and ids[1] == tiny.GOOD)

    config = change(num_steps=2, resample=1, response_schedule=((0, 2),), kl_coef=0.0)
    run = tiny.run(config, reward=only_truncated_differ)
    assert run.names().count("generate") == 2
    assert run.rows[0]["groups/zero_spread_share"] == 1.0


# --- the rows of an update ----------------------------------------------------------------------


def _rollouts(limit=6):
    return tiny.generate(
        tiny.initial_table(), tiny.prompt_batch(0, 4), keys.root(3), 0, limit,
        group_size=4, max_response=6,
    )  # fmt: skip


def _scores(seed=0, valid=None):
    rng = np.random.default_rng(seed)
    reward_B = rng.normal(size=16).astype(np.float32)
    valid_B = np.ones(16, bool) if valid is None else valid
    return types.Scores(reward_B, {}, np.zeros(16, np.int32), valid_B)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("zscore", lambda r, v: golden.zscore(r, v, 1e-6, 0)),
        ("mean_only", golden.mean_only),
        ("leave_one_out", golden.leave_one_out),
    ],
)
@pytest.mark.parametrize("truncated", ["zero_reward", "mask", "soft_penalty"])
@pytest.mark.parametrize("kl", ["", "k1", "k2", "k3"])
def test_advantages_are_those_of_the_equations(name, formula, truncated, kl):
    valid_B = np.arange(16) % 7 != 5
    rollouts, scores = _rollouts(), _scores(valid=valid_B)
    rng = np.random.default_rng(1)
    reference_BT = rollouts.logps_BT + np.float32(rng.normal(0, 0.5, rollouts.logps_BT.shape))
    config = change(advantage=name, truncated=truncated, kl_coef=0.3)
    if kl:
        config = dataclasses.replace(config, kl_place="reward", kl_estimator=kl)
    batch, facts = rollout.policy_batch(
        config, rollouts, scores, jnp.asarray(reference_BT), None, limit=6
    )
    reward_B = scores.reward_B.astype(np.float64)
    is_cut_B = rollouts.stop_B < 0
    assert 0 < is_cut_B.sum() < 16
    for b in range(16):
        if truncated == "zero_reward" and is_cut_B[b]:
            reward_B[b] = 0.0
        if truncated == "soft_penalty":
            reward_B[b] += golden.soft_penalty(rollouts.length_B[b], 6, 2)
        start = rollouts.prompt_length_B[b]
        for t in range(start, start + rollouts.length_B[b]):
            if kl:
                estimate = {"k1": golden.k1, "k2": golden.k2, "k3": golden.k3}[kl]
                logp, reference = float(rollouts.logps_BT[b, t]), float(reference_BT[b, t])
                reward_B[b] -= 0.3 * estimate(logp, reference)[0]
    expected_PG = formula(reward_B.reshape(4, 4), valid_B.reshape(4, 4))
    np.testing.assert_allclose(batch.advantage_B, expected_PG.ravel(), rtol=1e-4, atol=1e-5)
    included_B = valid_B & ~is_cut_B if truncated == "mask" else valid_B
    np.testing.assert_array_equal(batch.include_B, included_B)
    assert facts["rows/included_share"] == pytest.approx(included_B.mean())


def test_a_kl_term_in_the_reward_makes_no_advantage_where_rewards_are_equal():
    rollouts = _rollouts()
    reference_BT = rollouts.logps_BT + np.float32(0.1) * np.arange(16, dtype=np.float32)[:, None]
    reward_B = np.where(np.arange(16) < 8, 1.0, np.arange(16)).astype(np.float32)
    scores = dataclasses.replace(_scores(), reward_B=reward_B)
    config = change(kl_place="reward", kl_estimator="k1", truncated="mask")
    batch, facts = rollout.policy_batch(
        config, rollouts, scores, jnp.asarray(reference_BT), None, limit=6
    )
    assert (batch.advantage_B[:8] == 0).all() and (batch.advantage_B[8:] != 0).all()
    assert facts["groups/zero_spread_share"] == 0.5


def test_the_soft_penalty_is_measured_from_the_step_s_limit():
    rollouts = _rollouts(limit=4)
    config = change(truncated="soft_penalty", advantage="mean_only", kl_coef=0.0)
    zero = dataclasses.replace(_scores(), reward_B=np.zeros(16, np.float32))
    batch, _ = rollout.policy_batch(config, rollouts, zero, None, None, limit=4)
    penalty = np.array([golden.soft_penalty(n, 4, 2) for n in rollouts.length_B])
    assert penalty.min() == -1
    expected_PG = penalty.reshape(4, 4) - penalty.reshape(4, 4).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(batch.advantage_B, expected_PG.ravel(), atol=1e-6)


def test_facts_of_a_rollout_are_counts_of_its_tokens():
    rollouts = _rollouts()
    _, facts = rollout.policy_batch(CONFIG, rollouts, _scores(), None, None, limit=6)
    lengths = [len(ids) for ids in tiny.completions(rollouts)]
    ended = [ids[-1] == tiny.STOP for ids in tiny.completions(rollouts)]
    assert facts["length/mean"] == np.mean(lengths)
    assert facts["length/terminated_mean"] == np.mean(np.array(lengths)[ended])
    assert facts["length/clipped_share"] == pytest.approx(1 - np.mean(ended))
    assert facts["tokens/rollout"] == sum(lengths)
    prompts = [int(n) for n in rollouts.prompt_length_B]
    whole = [n + m for n, m in zip(prompts, lengths, strict=True)]
    assert facts["tokens/sequences"] == sum(whole)
    assert facts["pairs/sequences"] == sum(sum(range(1, n + 1)) for n in whole)
    seen = [sum(range(p + 1, n + 1)) for p, n in zip(prompts, whole, strict=True)]
    assert facts["pairs/completions"] == sum(seen)
    assert facts["tokens/useful_share"] == pytest.approx(sum(lengths) / (16 * max(lengths)))


def test_a_stop_token_is_trained_exactly_once_and_padding_never():
    # Padding is the stop token here: a mask by value would train all of it.
    config = change(kl_coef=0.0, aggregation="token_mean", num_minibatches=1)
    rollouts = _rollouts()
    batch, _ = rollout.policy_batch(config, rollouts, _scores(), None, None, limit=6)
    batch = dataclasses.replace(batch, advantage_B=np.ones(16, np.float32))
    update = tiny.make_update(config, optax.sgd(1.0))
    state = grpo.train_state.create(tiny.initial_table(), optax.sgd(1.0))
    new, row = update(state, jax.tree.map(jnp.asarray, batch), jnp.arange(16))
    # On policy the gradient of -mean log p over the generated tokens: p - frequency of each token.
    ids = np.concatenate(tiny.completions(rollouts))
    frequency = np.bincount(ids, minlength=tiny.VOCAB) / len(ids)
    table = np.asarray(state.params["table"], np.float64)
    expected = frequency - np.exp(table) / np.exp(table).sum()
    np.testing.assert_allclose(new.params["table"] - state.params["table"], expected, atol=1e-6)
    assert float(row["gap"]) < 1e-6
