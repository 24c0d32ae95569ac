import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from r1_jax.reports import curves, runs


def run(rows=(), evals=()):
    evals = [{"task": "countdown", **row} for row in evals]
    return runs.Run(pathlib.Path("x"), "x", {}, {}, list(rows), evals, ())


def group(*members):
    return runs.Group("g", members)


def rows(values, key="a", first=0):
    return [{"step": first + i, key: value} for i, value in enumerate(values)]


def test_smoothing_by_hand():
    got = curves.smoothed(np.array([1.0, 2.0, 6.0, np.nan, 10.0]), 3)
    #            (1+2)/2, (1+2+6)/3, (2+6)/2, no value, 10
    np.testing.assert_allclose(got, [1.5, 3.0, 4.0, np.nan, 10.0])


@hypothesis.given(
    st.lists(st.floats(-1e3, 1e3) | st.just(float("nan")), min_size=1, max_size=30),
    st.sampled_from([1, 3, 7, 101]),
)
@hypothesis.settings(deadline=None)
def test_smoothing_is_the_naive_mean_of_neighbours(values, width):
    value_N = np.array(values)
    for i, got in enumerate(curves.smoothed(value_N, width)):
        around = value_N[max(0, i - width // 2) : i + width // 2 + 1]
        if np.isnan(value_N[i]):
            assert np.isnan(got)
        else:
            assert got == pytest.approx(np.mean(around[np.isfinite(around)]), abs=1e-9)


def test_short_runs_are_not_smoothed_and_long_ones_a_little():
    assert [curves.window(n) for n in (1, 39, 40, 100, 1000)] == [1, 1, 1, 5, 41]


def test_one_run_keeps_its_raw_values_beside_the_smooth_ones():
    values = np.random.default_rng(0).random(200)
    curve = curves.curve(group(run(rows(values))), "rows", "a")
    assert curve is not None and curve.raw_N is not None
    np.testing.assert_array_equal(curve.raw_N, values)
    np.testing.assert_allclose(curve.value_N, curves.smoothed(values, 9))
    assert curve.low_N is None


def test_evaluations_are_never_smoothed_and_carry_their_interval():
    evals = [
        {"step": i, "pass@1": i / 100, "low": i / 100 - 0.1, "high": i / 100 + 0.2}
        for i in range(60)
    ]
    curve = curves.curve(group(run(evals=evals)), "evals", "pass@1", ("low", "high"))
    assert curve is not None and curve.low_N is not None and curve.high_N is not None
    np.testing.assert_allclose(curve.value_N, np.arange(60) / 100)
    np.testing.assert_allclose(curve.high_N - curve.low_N, 0.3)


def test_seeds_become_mean_and_range_at_their_common_steps():
    members = run(rows([1.0, 2.0, 3.0, 9.0])), run(rows([3.0, 8.0], first=1)), run(rows([], "b"))
    curve = curves.curve(group(*members), "rows", "a")
    assert curve is not None and curve.low_N is not None and curve.high_N is not None
    np.testing.assert_array_equal(curve.step_N, [1, 2])
    np.testing.assert_array_equal(curve.value_N, [2.5, 5.5])
    np.testing.assert_array_equal(curve.low_N, [2.0, 3.0])
    np.testing.assert_array_equal(curve.high_N, [3.0, 8.0])


def test_nulls_are_gaps_and_nothing_but_nulls_is_no_curve():
    curve = curves.curve(group(run(rows([1.0, None, 3.0]))), "rows", "a")
    assert curve is not None
    np.testing.assert_array_equal(curve.value_N, [1.0, np.nan, 3.0])
    assert curves.curve(group(run(rows([None, None]))), "rows", "a") is None
    assert curves.curve(group(run()), "rows", "a") is None
    # A step at which one seed has no value has no mean.
    both = group(run(rows([1.0, None, 3.0])), run(rows([3.0, 5.0, 5.0])))
    curve = curves.curve(both, "rows", "a")
    assert curve is not None
    np.testing.assert_array_equal(curve.step_N, [0, 2])
    assert curves.curve(group(run(rows([1.0])), run(rows([2.0], first=5))), "rows", "a") is None


def test_patterns_find_keys_with_numbers_in_order_of_appearance():
    first = run([{"step": 0, "reward/mean": 1.0, "reward/note": "x", "reward/flag": True}])
    second = run([{"step": 0, "reward/format": None}, {"step": 1, "reward/format": 0.5}])
    groups = [group(first), group(second)]
    assert curves.keys(groups, "rows", "reward/*") == ["reward/mean", "reward/format"]
    assert curves.keys(groups, "rows", "pass@1") == []
