"""The loop: what it calls, in which order, with what; and the rows it makes of rollouts."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.core import keys, types
from r1_jax.metrics.clock import Clock
from r1_jax.training import grpo
from tests import tiny
from tests.golden import rl_numpy as golden

CONFIG = grpo.GRPOConfig(
    num_steps=4, prompts_per_rollout=4, group_size=4, num_minibatches=2, kl_coef=0.1,
    reference_every=0, max_prompt=4, max_response=6, overlong_buffer=2,
)  # fmt: skip


def change(**values) -> grpo.GRPOConfig:
    return dataclasses.replace(CONFIG, **values)


@pytest.fixture(autouse=True)
def _table_policy(monkeypatch):
    tiny.patch(monkeypatch)


# --- the loop -----------------------------------------------------------------------------------


def test_a_rollout_is_evaluated_sampled_scored_trained_logged_and_saved_in_this_order():
    names = tiny.run(CONFIG).names()
    rollout = [
        "evaluate", "next_prompts", "generate", "score",
        "logps", "scored",  # grading goes on while the device scores the reference
        "update", "update", "log", "save",
    ]  # fmt: skip
    assert names == [*rollout, *rollout, "evaluate"]


def test_a_step_is_an_update_and_rows_carry_the_first_one_of_their_rollout():
    run = tiny.run(CONFIG)
    assert [c for c in run.calls if c[0] in ("generate", "log", "save", "evaluate")] == [
        ("evaluate", 0), ("generate", 0, 6), ("log", 0), ("save", 2),
        ("evaluate", 2), ("generate", 2, 6), ("log", 2), ("save", 4), ("evaluate", 4),
    ]  # fmt: skip
    assert int(run.state.step) == 4
    assert [c[1] for c in run.calls if c[0] == "next_prompts"] == [0, 4]


def test_an_inner_epoch_uses_every_completion_once_in_an_order_of_its_own():
    calls = tiny.run(change(inner_epochs=2)).calls
    orders = [call[2] for call in calls if call[0] == "update"]
    assert len(orders) == 4 and all(len(order) == 8 for order in orders)
    first, second = orders[0] + orders[1], orders[2] + orders[3]
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second and list(first) != sorted(first)


def test_minibatches_are_a_function_of_seed_and_step():
    def orders(seed, step):
        return np.concatenate(grpo.minibatches(CONFIG, keys.root(seed), step, 16)).tolist()

    assert orders(0, 2) == orders(0, 2)
    assert orders(0, 2) != orders(0, 4) and orders(0, 2) != orders(1, 2)


@pytest.mark.parametrize(
    ("values", "refreshed"),
    [
        ({"reference_every": 2}, [True, True, True]),
        ({"reference_every": 4}, [False, True, False]),
        ({"reference_every": 3}, [False, True, True]),  # 3 is passed on the way to 4, 6 is met
        ({"reference_every": 0}, [False, False, False]),
    ],
)
def test_the_reference_is_refreshed_at_the_right_updates(values, refreshed):
    run = tiny.run(change(num_steps=6, **values))
    before = np.asarray(tiny.initial_table()["table"])
    for table, reference, is_new in zip(run.tables, run.references, refreshed, strict=True):
        if is_new:
            before = table
        np.testing.assert_array_equal(reference, before)
    assert not np.array_equal(run.tables[0], run.tables[1])


def test_a_refresh_may_be_a_moving_average():
    run = tiny.run(change(num_steps=4, reference_every=2, reference_mix=0.25))
    expected = np.asarray(tiny.initial_table()["table"])
    for table, reference in zip(run.tables, run.references, strict=True):
        expected = 0.25 * table + 0.75 * expected
        np.testing.assert_allclose(reference, expected, rtol=1e-6)


def test_the_reference_is_scored_with_its_own_weights_not_the_policy_s():
    run = tiny.run(change(num_steps=4, reference_every=0))
    scored_with = [call[1] for call in run.calls if call[0] == "logps"]
    assert scored_with == [float(tiny.initial_table()["table"][0])] * 2
    assert run.rows[0]["kl/reference"] < run.rows[1]["kl/reference"]


def test_without_a_kl_term_nothing_is_kept_or_scored_of_a_reference():
    run = tiny.run(change(kl_coef=0.0, reference_every=2))
    assert run.references == [None, None]
    assert {"logps", "mix"}.isdisjoint(run.names())
    assert "kl/reference" not in run.rows[0]


def test_with_an_importance_cap_the_learner_scores_its_own_samples_first():
    run = tiny.run(change(kl_coef=0.0, importance_cap=2.0))
    scored_with = [call[1] for call in run.calls if call[0] == "logps"]
    assert scored_with == [float(tiny.initial_table()["table"][0]), float(run.tables[0][0])]


def test_a_gap_above_the_bound_stops_the_run():
    with pytest.raises(RuntimeError, match=r"step 0: .* differ by 0.2 nats .* gap_bound=0.1;"):
        tiny.run(change(gap_bound=0.1), error=0.2)
    assert tiny.run(change(gap_bound=0.3), error=0.2).rows[0][
        "gap/sampler_learner_max"
    ] == pytest.approx(0.2, abs=1e-5)


def test_the_row_of_the_step_with_the_gap_is_logged_but_nothing_is_saved(monkeypatch):
    seen = []
    monkeypatch.setattr(tiny, "Run", lambda: seen.append(tiny_run()) or seen[-1])
    with pytest.raises(RuntimeError):
        tiny.run(change(gap_bound=0.1), error=0.2)
    assert seen[0].names()[-1] == "log" and "save" not in seen[0].names()


tiny_run = tiny.Run


def test_a_gap_that_is_no_number_stops_the_run():
    with pytest.raises(RuntimeError, match="differ by nan"):
        tiny.run(CONFIG, error=np.nan)


def test_later_minibatches_have_left_the_sampler_s_weights_and_are_not_held_to_the_bound():
    run = tiny.run(change(gap_bound=1e-4), learning_rate=20.0)
    assert run.rows[0]["gap/sampler_learner_max"] < 1e-5
    assert run.rows[0]["ratio/max"] > 1.2  # of all updates the largest


def test_the_sampler_is_given_the_schedule_s_limit():
    config = change(num_steps=8, response_schedule=((4, 5), (0, 2)))
    run = tiny.run(config)
    assert [c[2] for c in run.calls if c[0] == "generate"] == [2, 2, 5, 5]
    assert [row["length/limit"] for row in run.rows] == [2, 2, 5, 5]
    assert CONFIG.response_limit(0) == CONFIG.max_response


def test_a_schedule_that_starts_later_begins_with_the_capacity():
    config = change(response_schedule=((4, 3),))
    assert [config.response_limit(step) for step in (0, 3, 4, 100)] == [6, 6, 3, 3]


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
    state = grpo.train_state.TrainState(jnp.int32(0), tiny.initial_table(), ())
    hooks = grpo.Hooks(
        lambda: ([], tiny.prompt_batch(next(batches), 4)),
        lambda problems, rollouts, step: tiny.score(problems, rollouts, step, _sparse),
        None, None, None,
    )  # fmt: skip
    programs = grpo.Programs(partial(tiny.generate, group_size=4, max_response=6), None, None, None)
    rollouts, finish = grpo.sample_and_score(
        config, state, programs, hooks, root=keys.root(0), step=0, limit=6, clock=Clock()
    )
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
    batch, facts = grpo.policy_batch(
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


def test_the_soft_penalty_is_measured_from_the_step_s_limit():
    rollouts = _rollouts(limit=4)
    config = change(truncated="soft_penalty", advantage="mean_only", kl_coef=0.0)
    zero = dataclasses.replace(_scores(), reward_B=np.zeros(16, np.float32))
    batch, _ = grpo.policy_batch(config, rollouts, zero, None, None, limit=4)
    penalty = np.array([golden.soft_penalty(n, 4, 2) for n in rollouts.length_B])
    assert penalty.min() == -1
    expected_PG = penalty.reshape(4, 4) - penalty.reshape(4, 4).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(batch.advantage_B, expected_PG.ravel(), atol=1e-6)


def test_facts_of_a_rollout_are_counts_of_its_tokens():
    rollouts = _rollouts()
    _, facts = grpo.policy_batch(CONFIG, rollouts, _scores(), None, None, limit=6)
    lengths = [len(ids) for ids in tiny.completions(rollouts)]
    ended = [ids[-1] == tiny.STOP for ids in tiny.completions(rollouts)]
    assert facts["length/mean"] == np.mean(lengths)
    assert facts["length/terminated_mean"] == np.mean(np.array(lengths)[ended])
    assert facts["length/clipped_share"] == pytest.approx(1 - np.mean(ended))
    assert facts["tokens/rollout"] == sum(lengths)
    assert facts["tokens/useful_share"] == pytest.approx(sum(lengths) / (16 * max(lengths)))


def test_a_stop_token_is_trained_exactly_once_and_padding_never():
    # Padding is the stop token here: a mask by value would train all of it.
    config = change(kl_coef=0.0, aggregation="token_mean", num_minibatches=1)
    rollouts = _rollouts()
    batch, _ = grpo.policy_batch(config, rollouts, _scores(), None, None, limit=6)
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


# --- learning -----------------------------------------------------------------------------------


def _good(table) -> float:
    """Probability of the token that is paid for."""
    return float(np.exp(table[tiny.GOOD]) / np.exp(table).sum())


def test_a_reward_for_a_token_is_learnt_and_a_reward_at_random_is_not():
    # Cut-off completions are left out: to pay them nothing would teach to stop early as well.
    config = change(num_steps=120, truncated="mask")
    learnt = tiny.run(config, learning_rate=0.5)
    rewards = [row["reward/mean"] for row in learnt.rows]
    assert np.mean(rewards[:5]) < 0.3 and np.mean(rewards[-5:]) > 0.6
    rng = np.random.default_rng(0)
    moved = tiny.run(config, learning_rate=0.5, reward=lambda ids: float(rng.random()))
    before = _good(np.asarray(tiny.initial_table()["table"]))
    assert _good(learnt.tables[-1]) - before > 0.4
    assert abs(_good(moved.tables[-1]) - before) < 0.1


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group_size": 1}, "group_size=1: advantage='zscore' compares .* needs at least 2"),
        ({"num_minibatches": 3}, "16 completions do not split into num_minibatches=3 x"),
        ({"num_minibatches": 0}, "num_minibatches=0 must be at least 1"),
        ({"inner_epochs": 0}, "inner_epochs=0 must be at least 1"),
        ({"num_microbatches": 5}, "do not split into num_minibatches=2 x num_microbatches=5"),
        ({"resample": -1}, "resample=-1 and reference_every=0 cannot be negative"),
        ({"reference_mix": 0.0}, r"reference_mix=0.0 must lie in \(0, 1\]"),
        ({"response_schedule": ((0, 7),)}, r"\(0, 7\): tokens must lie in 1..max_response=6"),
        ({"response_schedule": ((-1, 3),)}, "the step cannot be negative"),
        ({"truncated": "soft_penalty", "overlong_buffer": 9}, "overlong_buffer=9 .* in 1..6"),
        (
            {"truncated": "soft_penalty", "response_schedule": ((0, 1),)},
            "overlong_buffer=2 must lie in 1..1, the shortest",
        ),
        ({"clip_high": -1.0}, "clip_high=-1.0 must be above 0"),
    ],
)
def test_impossible_settings_are_named_with_the_way_out(wrong, message):
    with pytest.raises(ValueError, match=message):
        change(**wrong)


def test_the_defaults_are_the_paper_s():
    config = grpo.GRPOConfig()
    assert (config.prompts_per_rollout * config.group_size, config.group_size) == (8192, 16)
    assert (config.num_minibatches, config.inner_epochs) == (16, 1)
    assert (config.clip_low, config.clip_high, config.kl_coef) == (10.0, 10.0, 0.001)
    assert (config.kl_estimator, config.advantage) == ("k3", "zscore")
    assert (config.num_steps, config.reference_every) == (10_400, 400)
    assert math.isclose(config.reference_mix, 1.0)
