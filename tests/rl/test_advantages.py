"""Advantages by hand, against loops, and by their properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rl import advantages
from tests.golden import rl_numpy as golden

FORMS = {
    "zscore": advantages.zscore,
    "zscore_sample": lambda r, v: advantages.zscore(r, v, epsilon=1e-4, ddof=1),
    "mean_only": advantages.mean_only,
    "leave_one_out": advantages.leave_one_out,
}
JITTED = {name: jax.jit(form) for name, form in FORMS.items()}
GOLDEN = {
    "zscore": lambda r, v: golden.zscore(r, v, 1e-6, 0),
    "zscore_sample": lambda r, v: golden.zscore(r, v, 1e-4, 1),
    "mean_only": golden.mean_only,
    "leave_one_out": golden.leave_one_out,
}


def all_valid(reward_PG):
    return jnp.ones(reward_PG.shape, bool)


def group(*rewards):
    return jnp.array([rewards], jnp.float32)


def test_by_hand():
    # rewards 2 0 0 0: mean 1/2; squares 9/4 + 3/4 = 3, population variance 3/4, sample 1
    reward_PG = group(2, 0, 0, 0)
    valid_PG = all_valid(reward_PG)
    zscore, sample, halved = jax.jit(
        lambda r, v: (
            advantages.zscore(r, v, epsilon=0.0),
            advantages.zscore(r, v, epsilon=0.0, ddof=1),
            advantages.zscore(r, v, epsilon=1.0, ddof=1),
        )
    )(reward_PG, valid_PG)
    np.testing.assert_allclose(zscore[0], np.array([1.5, -0.5, -0.5, -0.5]) / 0.75**0.5, rtol=1e-6)
    np.testing.assert_allclose(sample[0], [1.5, -0.5, -0.5, -0.5], rtol=1e-6)
    np.testing.assert_allclose(halved[0], [0.75, -0.25, -0.25, -0.25], rtol=1e-6)
    mean_only = JITTED["mean_only"](reward_PG, valid_PG)
    np.testing.assert_allclose(mean_only[0], [1.5, -0.5, -0.5, -0.5], rtol=1e-6)
    # the others' means: 0 for the first, 2/3 for the rest
    leave_one_out = JITTED["leave_one_out"](reward_PG, valid_PG)
    np.testing.assert_allclose(leave_one_out[0], [2, -2 / 3, -2 / 3, -2 / 3], rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradient_against_loops(form):
    rng = np.random.default_rng(0)
    reward_PG = rng.normal(size=(6, 8)).astype(np.float32)
    valid_PG = rng.random((6, 8)) < 0.8
    valid_PG[4] = False
    valid_PG[5] = np.arange(8) == 3
    cotangent_PG = rng.normal(size=(6, 8)).astype(np.float32)

    def value_and_vjp(reward_PG):
        value_PG, vjp = jax.vjp(lambda r: FORMS[form](r, jnp.asarray(valid_PG)), reward_PG)
        return value_PG, vjp(jnp.asarray(cotangent_PG))[0]

    value_PG, gradient_PG = jax.jit(value_and_vjp)(reward_PG)
    assert value_PG.dtype == jnp.float32
    reference = GOLDEN[form](reward_PG.astype(float), valid_PG)
    np.testing.assert_allclose(value_PG, reference, rtol=1e-5, atol=1e-6)
    assert np.all(np.asarray(value_PG)[~valid_PG] == 0)
    assert np.all(np.asarray(value_PG)[4:] == 0)
    if form.startswith("zscore"):
        epsilon, ddof = (1e-4, 1) if form == "zscore_sample" else (1e-6, 0)
        expected_PG = golden.zscore_vjp(
            reward_PG.astype(float), valid_PG, epsilon, ddof, cotangent_PG
        )
    else:
        expected_PG = golden.central_difference(
            lambda r: float(np.sum(cotangent_PG * GOLDEN[form](r, valid_PG))),
            reward_PG.astype(float),
        )
    np.testing.assert_allclose(gradient_PG, expected_PG, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_an_invalid_row_counts_nowhere_whatever_its_reward(form):
    for reward in (0.0, 1e9, float("nan"), float("inf")):
        reward_PG = group(1, 0, reward, 0)
        valid_PG = jnp.array([[True, True, False, True]])
        found = np.asarray(JITTED[form](reward_PG, valid_PG))
        alone = np.asarray(JITTED[form](group(1, 0, 0), all_valid(group(1, 0, 0))))
        np.testing.assert_allclose(found[0, [0, 1, 3]], alone[0], rtol=1e-6)
        assert found[0, 2] == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_group_of_one_is_an_error(form):
    with pytest.raises(ValueError, match="G >= 2"):
        FORMS[form](jnp.zeros((3, 1)), jnp.ones((3, 1), bool))
    with pytest.raises(ValueError, match="G >= 2"):
        FORMS[form](jnp.zeros((3,)), jnp.ones((3,), bool))


def test_ddof_is_zero_or_one():
    with pytest.raises(ValueError, match="ddof=2"):
        advantages.zscore(group(1, 0), all_valid(group(1, 0)), ddof=2)


def test_equal_rewards_that_differ_in_rounding_give_zero_and_a_finite_gradient():
    # weighted parts added in another order: one float32 rounding; over epsilon it would be 0.03
    summed = np.float32(0.3) + np.float32(0.4)
    assert summed != np.float32(0.7)
    reward_PG = group(summed, 0.7, 0.7, summed)
    valid_PG = all_valid(reward_PG)
    assert np.all(np.asarray(JITTED["zscore"](reward_PG, valid_PG)) == 0)
    squares = jax.jit(jax.grad(lambda r: jnp.sum(advantages.zscore(r, valid_PG) ** 2)))
    assert np.all(np.asarray(squares(reward_PG)) == 0)
    told_apart = jax.jit(lambda r: advantages.zscore(r, valid_PG, tolerance=0.0))(reward_PG)
    assert np.abs(told_apart).max() > 0.01


def test_zero_spread_by_tolerance_over_valid_rows():
    reward_PG = jnp.array(
        [
            [1.0, 1.0, 1.0],  # equal
            [1.0, 1.0, 1.0 + 5e-7],  # equal up to rounding
            [1.0, 1.0, 1.0 + 5e-6],  # not
            [1.0, 1.0, 0.0],  # differs in a row that counts
            [1.0, 1.0, 0.0],  # differs in a row that does not
            [1.0, 0.0, 0.0],  # one valid row
            [1.0, 0.0, 0.0],  # none
            [-1.0, -1.0, -1.0],  # equal and negative
        ]
    )
    valid_PG = jnp.array(
        [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]],
        bool,
    )
    found_P = advantages.zero_spread(reward_PG, valid_PG, 1e-6)
    assert found_P.tolist() == [True, True, False, False, True, True, True, True]
    assert not advantages.zero_spread(reward_PG, valid_PG, 1e-8)[1]
    assert advantages.zero_spread(reward_PG, valid_PG, 1e-5)[2]


all_forms = jax.jit(lambda r, v: [form(r, v) for form in FORMS.values()])
REWARDS = st.lists(
    st.sampled_from([0.0, 0.1, 1.0, 2.0, -1.0, 1.1, 1e3]) | st.floats(-3, 3, width=32),
    min_size=6,
    max_size=6,
)
VALID = st.lists(st.booleans(), min_size=6, max_size=6)


@settings(max_examples=60, deadline=None)
@given(REWARDS, VALID, st.permutations(range(6)))
def test_a_groups_advantages_sum_to_zero_and_follow_its_rows(rewards, valid, order):
    reward_PG, valid_PG = np.array([rewards], np.float32), np.array([valid])
    order = np.array(order)
    scale = 1 + np.abs(rewards).max()
    for advantage_PG, shuffled_PG in zip(
        all_forms(reward_PG, valid_PG),
        all_forms(reward_PG[:, order], valid_PG[:, order]),
        strict=True,
    ):
        assert np.all(np.isfinite(advantage_PG))
        assert abs(np.sum(advantage_PG)) < 1e-4 * scale
        np.testing.assert_allclose(
            shuffled_PG, np.asarray(advantage_PG)[:, order], rtol=1e-3, atol=1e-4 * scale
        )


def test_none_is_zero_whatever_was_paid():
    reward_PG, valid_PG = jnp.array([[3.0, -1.0], [0.0, 5.0]]), jnp.array([[True, True]] * 2)
    found_PG = advantages.none(reward_PG, valid_PG)
    assert found_PG.shape == (2, 2) and not np.any(found_PG)
