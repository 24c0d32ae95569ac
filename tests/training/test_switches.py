"""Every switch of GRPOConfig changes the result of a run, and impossible ones are refused.

The run is the real loop, loss and update over the table policy of tests/tiny.py.
"""

import dataclasses
import functools
import importlib
import math
import typing

import numpy as np
import pytest

from r1_jax.training import switches
from tests import tiny

BASE = {
    "num_steps": 4,
    "prompts_per_rollout": 4,
    "group_size": 4,
    "num_minibatches": 2,
    "clip_low": 0.2,
    "clip_high": 0.28,
    "kl_coef": 0.5,
    "reference_every": 2,
    "overlong_buffer": 2,
    "max_prompt": 4,
    "max_response": 6,
    "gap_bound": 0.5,
}
CHANGES = [  # (what else must be set for the switch to matter, the switch, its other value)
    ({}, "num_steps", 2),
    ({}, "prompts_per_rollout", 8),
    ({}, "group_size", 8),
    ({}, "num_minibatches", 1),
    ({}, "inner_epochs", 2),
    ({}, "clip_low", 0.05),
    ({}, "clip_high", 0.05),
    ({}, "kl_coef", 0.25),
    ({}, "kl_estimator", "k1"),
    ({}, "kl_estimator", "k2"),
    ({}, "kl_place", "reward"),
    ({}, "ratio", "sequence"),
    ({}, "aggregation", "token_mean"),
    ({}, "aggregation", "constant_length"),
    ({}, "advantage", "mean_only"),
    ({}, "advantage", "leave_one_out"),
    ({}, "advantage", "none"),
    ({}, "reference_every", 0),
    ({}, "reference_mix", 0.5),
    ({}, "truncated", "mask"),
    ({}, "truncated", "soft_penalty"),
    ({"truncated": "soft_penalty"}, "overlong_buffer", 4),
    ({}, "entropy_coef", 0.1),
    ({}, "importance_cap", 1.01),
    ({"importance_cap": 1.5}, "one_step_off", True),
    ({}, "resample", 1),
    ({}, "response_schedule", ((0, 6), (2, 3))),
    ({}, "max_response", 4),
]
ELSEWHERE = {  # switches that change no number of this run, and the tests in which they matter
    "num_microbatches": "tests.training.test_switches:test_microbatches_bound_what_is_scored",
    "gap_bound": "tests.training.test_grpo:test_a_gap_above_the_bound_stops_the_run",
    "replay_routing": "tests.training.test_router:test_ties_are_replayed_too",
    "max_prompt": "tests.pipeline.test_r1_zero:test_max_prompt_is_the_longest_prompt_taken",
}


@pytest.fixture(autouse=True)
def _table_policy(monkeypatch):
    tiny.patch(monkeypatch)


@functools.cache
def _tables(items: tuple) -> np.ndarray:
    """The parameters after every rollout of the run with BASE and `items`."""
    config = switches.GRPOConfig(**{**BASE, **dict(items)})
    num_rows = config.prompts_per_rollout * config.group_size // config.num_minibatches
    # Not jitted, runs whose minibatches have one shape share the compiled operations.
    jit = (num_rows, config.max_response) != (8, 6)
    tables = tiny.run(config, learning_rate=2.0, error=-0.05, jit=jit).tables
    assert np.isfinite(tables).all()
    return np.array(tables)


@pytest.mark.parametrize(("given", "name", "value"), CHANGES)
def test_changing_a_switch_changes_the_policy(given, name, value):
    one = _tables(tuple(given.items()))
    other = _tables((*given.items(), (name, value)))
    if name == "num_steps":
        assert (len(one), len(other)) == (2, 1)
        return
    assert one.shape != other.shape or np.abs(one - other).max() > 1e-3


def test_every_switch_has_its_test():
    tested = {name for _, name, _ in CHANGES}
    for name, where in ELSEWHERE.items():
        module, function = where.split(":")
        assert callable(getattr(importlib.import_module(module), function)), name
    assert tested.isdisjoint(ELSEWHERE)
    assert tested | ELSEWHERE.keys() == {f.name for f in dataclasses.fields(switches.GRPOConfig)}


def test_every_choice_of_a_switch_is_tried():
    default = dataclasses.asdict(switches.GRPOConfig())
    for name, hint in typing.get_type_hints(switches.GRPOConfig).items():
        if typing.get_origin(hint) is typing.Literal:
            tried = {default[name]} | {value for _, n, value in CHANGES if n == name}
            assert tried == set(typing.get_args(hint)), name


def test_microbatches_bound_what_is_scored():
    runs = {n: tiny.run(switches.GRPOConfig(**BASE, num_microbatches=n), jit=False) for n in (1, 4)}
    rows_at_once = {n: {shape[0] for shape in run.shapes} for n, run in runs.items()}
    assert rows_at_once == {1: {8}, 4: {2}}
    np.testing.assert_allclose(runs[1].tables, runs[4].tables, rtol=1e-5, atol=1e-6)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group_size": 1}, "group_size=1: advantage='zscore' compares .* needs at least 2"),
        ({"num_minibatches": 3}, "16 completions do not split into num_minibatches=3 x"),
        ({"num_minibatches": 0}, "num_minibatches=0 must be at least 1"),
        ({"inner_epochs": 0}, "inner_epochs=0 must be at least 1"),
        ({"num_microbatches": 5}, "do not split into num_minibatches=2 x num_microbatches=5"),
        ({"resample": -1}, "resample=-1 and reference_every=2 cannot be negative"),
        ({"num_steps": 5}, "num_steps=5 is not a multiple of .* = 2, .*; use 6"),
        ({"reference_mix": 0.0}, r"reference_mix=0.0 must lie in \(0, 1\]"),
        ({"response_schedule": ((0, 7),)}, r"\(0, 7\): tokens must lie in 1..max_response=6"),
        ({"response_schedule": ((-1, 3),)}, "the step cannot be negative"),
        ({"truncated": "soft_penalty", "overlong_buffer": 9}, "overlong_buffer=9 .* in 1..6"),
        ({"one_step_off": True}, "importance_cap=0 would learn .* set importance_cap"),
        ({"one_step_off": True, "importance_cap": 2.0, "resample": 1}, "True and resample=1: "),
        ({"one_step_off": True, "importance_cap": 2.0, "kl_place": "reward"}, "use kl_place='loss"),
        (
            {"truncated": "soft_penalty", "response_schedule": ((0, 1),)},
            "overlong_buffer=2 must lie in 1..1, the shortest",
        ),
        ({"advantage": "none", "kl_coef": 0.0}, "leave nothing to learn from; set kl_coef above 0"),
        ({"clip_high": -1.0}, "clip_high=-1.0 must be above 0"),
    ],
)
def test_impossible_settings_are_named_with_the_way_out(wrong, message):
    with pytest.raises(ValueError, match=message):
        switches.GRPOConfig(**{**BASE, **wrong})


def test_the_defaults_are_the_paper_s():
    config = switches.GRPOConfig()
    assert (config.prompts_per_rollout * config.group_size, config.group_size) == (8192, 16)
    assert (config.num_minibatches, config.inner_epochs) == (16, 1)
    assert (config.clip_low, config.clip_high, config.kl_coef) == (10.0, 10.0, 0.001)
    assert (config.kl_estimator, config.advantage) == ("k3", "zscore")
    assert (config.num_steps, config.reference_every) == (10_400, 400)
    assert math.isclose(config.reference_mix, 1.0)
