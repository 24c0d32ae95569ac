"""GAE: by hand, against a loop over the definition, and what its ends of the scale mean."""

import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.rl import gae
from tests.golden import rl_numpy as golden

START_B, LENGTH_B, T = np.array([1, 3, 2, 1, 4, 2]), np.array([8, 2, 1, 5, 5, 0]), 9
MASK_BT = (np.arange(T) >= START_B[:, None]) & (np.arange(T) < (START_B + LENGTH_B)[:, None])


def draw(seed=0, junk=np.nan):
    """Rewards and values, `junk` off the mask."""
    rng = np.random.default_rng(seed)
    return [
        np.where(MASK_BT, rng.normal(size=MASK_BT.shape), junk).astype(np.float32) for _ in "rv"
    ]


def test_by_hand():
    # gamma 1/2, lambda 1/2; values 4 and 2, reward 8 on the last token.
    # delta_2 = 8 - 2 = 6, A_2 = 6, R_2 = 8
    # delta_1 = 0 + 2/2 - 4 = -3, A_1 = -3 + 6/4 = -1.5, R_1 = 2.5
    mask_BT = jnp.array([[False, True, True, False]])
    reward_BT = gae.token_rewards(jnp.array([8.0]), 0.0, mask_BT)
    value_BT = jnp.array([[9.0, 4.0, 2.0, 9.0]])
    advantage_BT, return_BT = gae.estimate(reward_BT, value_BT, mask_BT, gamma=0.5, lam=0.5)
    np.testing.assert_array_equal(advantage_BT, [[0, -1.5, 6, 0]])
    np.testing.assert_array_equal(return_BT, [[0, 2.5, 8, 0]])


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("lam", [1.0, 0.95, 0.5, 0.0])
def test_it_is_the_sum_of_the_definition(gamma, lam):
    reward_BT, value_BT = draw()
    found = gae.estimate(
        jnp.asarray(reward_BT), jnp.asarray(value_BT), jnp.asarray(MASK_BT), gamma=gamma, lam=lam
    )
    expected = golden.gae(reward_BT, value_BT, MASK_BT, gamma, lam)
    assert np.abs(expected[0]).max() > 0.5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        assert not np.any(np.asarray(one)[~MASK_BT])


def test_with_lambda_1_the_critic_is_a_baseline_and_nothing_else():
    reward_BT, value_BT = draw(junk=0.0)
    _, return_BT = gae.estimate(
        jnp.asarray(reward_BT), jnp.asarray(value_BT), jnp.asarray(MASK_BT), gamma=1.0, lam=1.0
    )
    to_come_BT = np.cumsum(reward_BT[:, ::-1].astype(np.float64), axis=1)[:, ::-1]
    np.testing.assert_allclose(return_BT, np.where(MASK_BT, to_come_BT, 0), rtol=1e-5, atol=1e-5)


def test_a_critic_that_knows_the_returns_leaves_no_advantage():
    reward_BT, _ = draw(junk=0.0)
    to_come_BT = np.cumsum(reward_BT[:, ::-1], axis=1)[:, ::-1]
    advantage_BT, _ = gae.estimate(
        jnp.asarray(reward_BT), jnp.asarray(to_come_BT), jnp.asarray(MASK_BT), gamma=1.0, lam=0.7
    )
    np.testing.assert_allclose(advantage_BT, 0.0, atol=1e-5)


def test_a_reward_is_paid_at_the_last_token_and_a_penalty_at_each():
    mask_BT = jnp.array([[0, 1, 1, 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    penalty_BT = jnp.where(mask_BT, 0.25, jnp.nan)
    reward_B = jnp.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(
        gae.token_rewards(reward_B, penalty_BT, mask_BT),
        [[0, -0.25, -0.25, 0.75], [0, 0, 1.75, 0], [2.75, 0, 0, 0], [0, 0, 0, 0]],
    )


def test_whitened_advantages_have_mean_0_and_deviation_1_whatever_lies_off_the_mask():
    advantage_BT, _ = draw()
    white_BT = np.asarray(gae.whiten(jnp.asarray(3 + 5 * advantage_BT), jnp.asarray(MASK_BT)))
    assert white_BT[MASK_BT].mean() == pytest.approx(0, abs=1e-6)
    assert white_BT[MASK_BT].std() == pytest.approx(1, abs=1e-5)
    assert not np.any(white_BT[~MASK_BT])


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.0])
def test_equal_advantages_are_not_blown_up(value):
    advantage_BT = jnp.full(MASK_BT.shape, value)
    assert not np.any(gae.whiten(advantage_BT, jnp.asarray(MASK_BT)))
    assert not np.any(gae.whiten(advantage_BT, jnp.zeros(MASK_BT.shape, bool)))
