"""Pre-flight: what cannot learn is refused with its own sentence; what can, is measured."""

import dataclasses

import numpy as np
import pytest

from r1_jax.core import types
from r1_jax.training import grpo, preflight, switches
from tests import tiny

CONFIG = switches.GRPOConfig(
    num_steps=2, prompts_per_rollout=4, group_size=4, num_minibatches=1, max_prompt=4,
    max_response=6, gap_bound=0.01,
)  # fmt: skip
GOOD = preflight.Ideal("What?", " <think> so </think> ...", {"accuracy": 1.0, "format": 1.0})


def _check(config=CONFIG, *, error=0.0, reward=tiny.reward, pass_rate=0.25, ideals=(GOOD,), end=0):
    """preflight.check of the table policy. end: logit of the stop token."""
    params = {"table": tiny.initial_table()["table"].at[tiny.STOP].add(end)}
    seen = {}

    def generate(params, batch, key, step, limit):
        seen.update(step=step, limit=limit)
        return tiny.generate(
            params, batch, key, step, limit, group_size=4, max_response=6, error=error
        )

    def logps(params, rollouts):
        return tiny.token_scores(None, params, rollouts.tokens_BT, adjust=lambda x: x)[0]

    def score(problems, rollouts, step):
        scored = tiny.score(problems, rollouts, step, reward)()
        return lambda: scored._replace(facts={"reward/accuracy": pass_rate})

    programs = grpo.Programs(generate, logps, logps, update=None, mix=None)
    measured = preflight.check(
        config, params, programs, list(range(4)), tiny.prompt_batch(0, 4), score, list(ideals),
        seed=0,
    )  # fmt: skip
    assert seen == {"step": 0, "limit": config.response_limit(0)}
    return measured


def test_a_run_that_can_learn_is_measured():
    measured = _check()
    assert set(measured) == {"pass_rate", "truncated_share", "zero_spread_share", "gap"}
    assert measured["pass_rate"] == 0.25
    assert 0 < measured["truncated_share"] < 1 and measured["zero_spread_share"] < 1
    assert measured["gap"] < 1e-6


@pytest.mark.parametrize("part", ["accuracy", "format"])
def test_an_ideal_answer_that_does_not_earn_its_reward_is_refused(part):
    bad = GOOD._replace(parts={**GOOD.parts, part: 0.0})
    with pytest.raises(
        ValueError, match=r"the ideal answer does not earn full reward: \{.*'What"
    ) as e:
        _check(ideals=(GOOD, bad))
    assert "template, tags and rewards disagree" in str(e.value)


def test_a_gap_is_refused():
    with pytest.raises(
        ValueError, match=r"cannot learn .* disagree by up to 0.1 nats .*bound 0.01"
    ):
        _check(error=0.1)
    with pytest.raises(ValueError, match="disagree by up to nan"):
        _check(error=np.nan)
    assert _check(dataclasses.replace(CONFIG, gap_bound=0.2), error=0.1)["gap"] > 0.09


@pytest.mark.parametrize(
    ("pass_rate", "end", "sentence"),
    [
        (0.0, 0, "The pass rate is 0.0%: there is almost no right answer to learn from"),
        (1.0, 0, "The pass rate is 100.0%: the task is solved"),
        (0.5, 0, "100% of the groups have equal rewards"),
        (0.0, -99, "100% of the completions are cut off at the length limit"),
    ],
)
def test_a_rollout_without_any_spread_is_refused_and_told_why(pass_rate, end, sentence):
    config = dataclasses.replace(CONFIG, truncated="mask")  # or cut-off rows would differ: 0
    with pytest.raises(ValueError, match="this run cannot learn") as error:
        _check(config, reward=lambda ids: 1.0, pass_rate=pass_rate, end=end)
    assert sentence in str(error.value)


def test_rows_whose_grader_failed_make_no_spread(monkeypatch):
    def failed(problems, rollouts, step, reward):
        scored = original(problems, rollouts, step, reward)()
        valid_B = np.zeros(16, bool)
        scores = types.Scores(scored.scores.reward_B, {}, scored.scores.outcome_B, valid_B)
        return lambda: scored._replace(scores=scores)

    original = tiny.score
    monkeypatch.setattr(tiny, "score", failed)
    with pytest.raises(ValueError, match="100% of the groups have equal rewards"):
        _check()


def test_the_ideals_are_looked_at_before_anything_is_sampled():
    bad = GOOD._replace(parts={"accuracy": 0.0, "format": 1.0})
    with pytest.raises(ValueError, match="ideal answer"):
        preflight.check(CONFIG, None, None, [], None, None, [bad], seed=0)
