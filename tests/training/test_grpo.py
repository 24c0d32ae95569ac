"""The loop: what it calls, in which order, with what; and that it learns."""

import dataclasses

import jax
import numpy as np
import pytest

from r1_jax.core import masked
from r1_jax.training import grpo
from tests import tiny

CONFIG, change = tiny.CONFIG, tiny.change


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
    with pytest.raises(grpo.GapError, match=r"step 0: .* differ by 0.2 nats .* gap_bound=0.1;"):
        tiny.run(change(gap_bound=0.1), error=0.2)
    assert tiny.run(change(gap_bound=0.3), error=0.2).rows[0][
        "gap/sampler_learner_max"
    ] == pytest.approx(0.2, abs=1e-5)


def test_the_row_of_the_step_with_the_gap_is_logged_but_nothing_is_saved(monkeypatch):
    seen = []
    monkeypatch.setattr(tiny, "Run", lambda: seen.append(tiny_run()) or seen[-1])
    with pytest.raises(grpo.GapError):
        tiny.run(change(gap_bound=0.1), error=0.2)
    assert seen[0].names()[-1] == "log" and "save" not in seen[0].names()


tiny_run = tiny.Run


def test_a_gap_that_is_no_number_stops_the_run():
    with pytest.raises(grpo.GapError, match="differ by nan"):
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


# --- one step off -------------------------------------------------------------------------------

OFF = change(num_steps=6, one_step_off=True, importance_cap=1.5)


def test_the_next_rollout_is_drawn_while_this_one_is_graded():
    ahead = ["next_prompts", "generate", "logps"]  # with the gap of what it drew
    learn = ["logps", "logps", "scored", "update", "update", "log", "save"]
    assert tiny.run(OFF).names() == [
        "evaluate", "next_prompts", "generate", "score", *ahead, *learn,
        "evaluate", "score", *ahead, *learn,
        "evaluate", "score", *learn,  # nothing follows
        "evaluate",
    ]  # fmt: skip


def test_what_is_learnt_from_was_drawn_by_the_policy_one_rollout_older(monkeypatch):
    drawn_by, learnt = [], []
    generate, jitted_update = tiny.generate, tiny.jitted_update

    def sample(params, *args, **kwargs):
        drawn_by.append(np.asarray(params["table"]))
        return generate(params, *args, **kwargs)

    def seen(*args):
        update = jitted_update(*args)

        def updated(state, batch, rows):
            learnt.append((np.asarray(state.params["table"]), batch))
            return update(state, batch, rows)

        return updated

    monkeypatch.setattr(tiny, "generate", sample)
    monkeypatch.setattr(tiny, "jitted_update", seen)
    run = tiny.run(OFF)
    first = np.asarray(tiny.initial_table()["table"])
    np.testing.assert_array_equal(drawn_by, [first, first, run.tables[0]])
    assert [row["policy/lag"] for row in run.rows] == [0, 2, 2]
    for (learner, batch), sampler in zip(learnt[::2], drawn_by, strict=True):
        tokens_BT = np.asarray(batch.tokens_BT)
        mask_BT = masked.completion_mask(batch.prompt_length_B, batch.length_B, 10)
        for logps_BT, table in (
            (batch.behavior_logps_BT, sampler),
            (batch.old_logps_BT, learner),  # the correction's other side
        ):
            expected_BT = np.asarray(jax.nn.log_softmax(table))[tokens_BT]
            np.testing.assert_allclose(logps_BT[mask_BT], expected_BT[mask_BT], atol=1e-5)
    assert not np.allclose(learnt[-1][0], drawn_by[-1])


def test_the_gap_of_an_older_rollout_is_that_of_the_weights_that_sampled():
    run = tiny.run(OFF, learning_rate=20.0)
    assert max(row["gap/sampler_learner_max"] for row in run.rows) < 1e-5
    assert len({table[0] for table in run.tables}) == 3  # though the policy moved on
    with pytest.raises(grpo.GapError, match=r"step 0: .* differ by 0.2 nats"):
        tiny.run(OFF, error=0.2)


def test_a_rollout_drawn_ahead_has_the_limit_of_its_own_step():
    run = tiny.run(dataclasses.replace(OFF, response_schedule=((0, 2), (4, 5))))
    assert [row["length/limit"] for row in run.rows] == [2, 2, 5]
    assert [c[1:] for c in run.calls if c[0] == "generate"] == [(0, 2), (0, 2), (2, 5)]


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
