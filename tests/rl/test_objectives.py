"""Ratios, clipping and aggregation: by hand, against loops, at the extremes, and cut up."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.core import types
from r1_jax.rl import kl, objectives
from tests.golden import rl_numpy as golden

KL = {"k1": (kl.k1, golden.k1), "k2": (kl.k2, golden.k2), "k3": (kl.k3, golden.k3)}
NUM_ROWS, NUM_POSITIONS = 16, 7
DEFAULTS = {
    "ratio": "token",
    "low": 0.2,
    "high": 0.28,
    "kl": "k3",
    "kl_coef": 0.05,
    "cap": 2.0,
    "how": "sequence_mean",
    "max_length": 10,
}


def make_batch(seed=0):
    """Rows of both advantage signs whose ratios go beyond both clips, off-mask junk included."""
    rng = np.random.default_rng(seed)
    shape = (NUM_ROWS, NUM_POSITIONS)
    olds = rng.normal(-1.5, 0.5, shape)
    start, length = rng.integers(0, 3, NUM_ROWS), rng.integers(2, 5, NUM_ROWS)
    t = np.arange(NUM_POSITIONS)
    mask = (t[None] >= start[:, None]) & (t[None] < (start + length)[:, None])
    batch = {
        "logps": olds + rng.normal(0, 0.8, shape),
        "olds": olds,
        "references": olds + rng.normal(0, 0.6, shape),
        "behaviors": olds + rng.normal(0, 0.6, shape),
        "advantages": np.tile([1.5, -1.5, 0.5, -0.5, 2.0, -2.0, 0.0, 1.0], 2),
    }
    batch = {name: np.float64(np.float32(array)) for name, array in batch.items()}
    return batch | {"mask": mask, "include": np.arange(NUM_ROWS) % 8 != 7}


def weighted_sum(logps_BT, batch, **switches):
    """The policy loss put together from r1_jax.rl, as training/losses does it."""
    s = DEFAULTS | switches
    b = {name: jnp.asarray(a, bool if a.dtype == bool else np.float32) for name, a in batch.items()}
    if s["ratio"] == "token":
        ratio_BT = objectives.token_ratio(logps_BT, b["olds"])
    else:
        ratio_BT = objectives.sequence_ratio(logps_BT, b["olds"], b["mask"])
    loss_BT = objectives.clipped(ratio_BT, b["advantages"], clip_low=s["low"], clip_high=s["high"])
    loss_BT *= objectives.importance_weight(b["olds"], b["behaviors"], cap=s["cap"])
    loss_BT += s["kl_coef"] * KL[s["kl"]][0](logps_BT, b["references"])
    return objectives.aggregate(
        loss_BT, b["mask"], b["include"], how=s["how"], max_length=s["max_length"]
    )


def loss_and_gradient(batch, **switches):
    def mean(logps_BT):
        found = weighted_sum(logps_BT, batch, **switches)
        return found.total / found.weight

    return jax.value_and_grad(mean)(jnp.asarray(batch["logps"], jnp.float32))


def golden_loss_and_gradient(batch, **switches):
    s = DEFAULTS | switches
    return golden.policy_loss(**batch, **(s | {"kl": KL[s["kl"]][1]}))


SWITCHES = [
    {},
    {"ratio": "sequence"},
    {"low": 10.0, "high": 10.0},
    {"low": 0.5},
    {"high": 0.6},
    {"kl": "k1"},
    {"kl": "k2"},
    {"kl_coef": 0.5},
    {"cap": 1.0},
    {"how": "token_mean"},
    {"how": "constant_length"},
    {"how": "constant_length", "max_length": 20},
    {"ratio": "sequence", "low": 0.05, "high": 0.05, "how": "token_mean", "kl_coef": 0.0},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_value_and_gradient_of_every_switch_against_loops(switches):
    batch = make_batch()
    value, gradient_BT = loss_and_gradient(batch, **switches)
    expected, expected_BT = golden_loss_and_gradient(batch, **switches)
    assert value.dtype == gradient_BT.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient_BT, expected_BT, rtol=1e-4, atol=1e-6)


def test_every_switch_changes_the_gradient():
    gradients = [np.asarray(loss_and_gradient(make_batch(), **s)[1]) for s in SWITCHES]
    for (i, first), (j, second) in itertools.combinations(enumerate(gradients), 2):
        assert np.abs(first - second).max() > 1e-4, (SWITCHES[i], SWITCHES[j])


def test_the_batch_of_these_tests_reaches_every_branch_of_the_clip():
    batch = make_batch()
    ratio = np.exp(batch["logps"] - batch["olds"])
    kept = batch["mask"] & batch["include"][:, None]
    for sign in (1, -1):
        signed = kept & (np.sign(batch["advantages"])[:, None] == sign)
        for region in (ratio < 0.8, (ratio > 0.8) & (ratio < 1.28), ratio > 1.28):
            assert np.any(signed & region)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [  # clip 0.2 / 0.3; slope is d loss / d ratio
        (1.0, 2.0, -2.0, -2.0),
        (1.5, 2.0, -2.6, 0.0),  # A > 0 above: cut at 1.3
        (0.5, 2.0, -1.0, -2.0),  # A > 0 below: not cut
        (1.0, -2.0, 2.0, 2.0),
        (1.5, -2.0, 3.0, 2.0),  # A < 0 above: not cut
        (0.5, -2.0, 1.6, 0.0),  # A < 0 below: cut at 0.8
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_by_hand(ratio, advantage, loss, slope):
    def total(ratio_BT):
        return jnp.sum(
            objectives.clipped(ratio_BT, jnp.array([advantage]), clip_low=0.2, clip_high=0.3)
        )

    found = jax.value_and_grad(total)(jnp.full((1, 1), ratio))
    np.testing.assert_allclose(found[0], loss, rtol=1e-6)
    np.testing.assert_allclose(found[1], [[slope]], rtol=1e-6)
    binds = objectives.clip_binds(
        jnp.full((1, 1), ratio), jnp.array([advantage]), clip_low=0.2, clip_high=0.3
    )
    assert bool(binds[0, 0]) == (slope == 0.0 and advantage != 0.0)


def test_epsilon_ten_cuts_only_good_tokens_above_eleven():
    ratio_BT = jnp.array([[0.0, 1e-6, 1.0, 10.9, 11.1, 1e6]] * 2)
    binds_BT = objectives.clip_binds(
        ratio_BT, jnp.array([1.0, -1.0]), clip_low=10.0, clip_high=10.0
    )
    assert binds_BT.tolist() == [[False] * 4 + [True] * 2, [False] * 6]


def test_advantage_and_old_policy_are_constants():
    def loss(advantage_B, olds_BT):
        ratio_BT = objectives.token_ratio(jnp.zeros((2, 1)), olds_BT)
        return jnp.sum(objectives.clipped(ratio_BT, advantage_B, clip_low=0.2, clip_high=0.2))

    gradients = jax.grad(loss, (0, 1))(jnp.array([1.0, -1.0]), jnp.zeros((2, 1)))
    assert all(np.all(np.asarray(gradient) == 0) for gradient in gradients)


@pytest.mark.parametrize("clip", [(0.0, 0.2), (0.2, 0.0), (-0.1, 0.2), (float("nan"), 0.2)])
def test_a_clip_range_must_be_positive(clip):
    arguments = (jnp.ones((1, 1)), jnp.ones(1))
    for function in (objectives.clipped, objectives.clip_binds):
        with pytest.raises(ValueError, match="clip_low"):
            function(*arguments, clip_low=clip[0], clip_high=clip[1])


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("log_ratio", [-100.0, 100.0])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_extreme_log_ratios_stay_finite_in_value_and_gradient(ratio, log_ratio, advantage):
    batch = make_batch()
    batch["logps"] = batch["olds"] + log_ratio
    batch["references"] = batch["olds"]
    batch["behaviors"] = batch["olds"] - log_ratio
    batch["advantages"] = np.full(NUM_ROWS, advantage)
    for how in objectives.AGGREGATIONS:
        value, gradient_BT = loss_and_gradient(batch, ratio=ratio, how=how)
        assert np.isfinite(value) and np.all(np.isfinite(gradient_BT))
        expected, expected_BT = golden_loss_and_gradient(batch, ratio=ratio, how=how)
        np.testing.assert_allclose(value, expected, rtol=1e-4)
        np.testing.assert_allclose(gradient_BT, expected_BT, rtol=1e-4, atol=1e-6)
        # squares of it enter the gradient's norm
        assert np.isfinite(np.sum(np.square(np.asarray(gradient_BT)), dtype=np.float32))


def test_on_policy_the_ratio_is_one_and_its_gradient_the_policy_gradient():
    logps_BT = jnp.array([[-1.0, -2.0, -3.0]])
    mask_BT = jnp.array([[False, True, True]])
    for function in (
        lambda x: objectives.token_ratio(x, x),
        lambda x: objectives.sequence_ratio(x, x, mask_BT),
    ):
        ratio_BT, vjp = jax.vjp(jax.jit(function), logps_BT)
        np.testing.assert_array_equal(ratio_BT, np.ones((1, 3)))
        np.testing.assert_array_equal(vjp(jnp.ones((1, 3)))[0], np.ones((1, 3)))


def test_sequence_ratio_by_hand():
    # log-ratios 1 and 3 on the mask, 50 off it: exp(2) everywhere
    ratio_BT = objectives.sequence_ratio(
        jnp.array([[50.0, 1.0, 3.0]]), jnp.zeros((1, 3)), jnp.array([[False, True, True]])
    )
    np.testing.assert_allclose(ratio_BT, np.full((1, 3), np.exp(2)), rtol=1e-6)


def test_sequence_mean_of_the_sequence_ratio_has_the_gradient_of_its_power():
    """GSPO Eq. 7: s = (policy / old)^(1/n); its gradient is s/n at each token."""
    rng = np.random.default_rng(0)
    logps_BT, olds_BT = (jnp.array(rng.normal(-1, 0.5, (3, 5)), jnp.float32) for _ in range(2))
    mask_BT = jnp.arange(5)[None, :] < jnp.array([5, 2, 3])[:, None]

    def through_tokens(x):
        ratio_BT = objectives.sequence_ratio(x, olds_BT, mask_BT)
        return objectives.aggregate(
            ratio_BT, mask_BT, jnp.ones(3, bool), how="sequence_mean", max_length=5
        ).total

    def directly(x):
        log_ratio_BT = jnp.where(mask_BT, x - olds_BT, 0.0)
        return jnp.sum(jnp.exp(jnp.sum(log_ratio_BT, axis=1) / jnp.sum(mask_BT, axis=1)))

    found, expected = (
        jax.jit(jax.value_and_grad(form))(logps_BT) for form in (through_tokens, directly)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


def test_importance_weight_is_capped_and_constant():
    old_BT = jnp.log(jnp.array([[0.1, 0.2, 0.3, 0.9]]))
    behavior_BT = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.1]]))
    weight_BT = objectives.importance_weight(old_BT, behavior_BT, cap=2.0)
    np.testing.assert_allclose(weight_BT, [[1.0, 0.5, 1.5, 2.0]], rtol=1e-6)
    for argument in (0, 1):
        gradient_BT = jax.grad(
            lambda *x: jnp.sum(objectives.importance_weight(*x, cap=2.0)), argument
        )(old_BT, behavior_BT)
        assert np.all(np.asarray(gradient_BT) == 0)
    for cap in (0.9, 0.0, float("nan")):
        with pytest.raises(ValueError, match="cap="):
            objectives.importance_weight(old_BT, behavior_BT, cap=cap)


def test_aggregate_by_hand():
    loss_BT = jnp.array([[9.0, 1.0, 3.0, 9.0], [9.0, 6.0, 9.0, 9.0], [5.0, 5.0, 5.0, 5.0]])
    mask_BT = jnp.array([[0, 1, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]], bool)
    include_B = jnp.array([True, True, False])
    for how, total, weight in (
        ("sequence_mean", 2.0 + 6.0, 2.0),
        ("token_mean", 1.0 + 3.0 + 6.0, 3.0),
        ("constant_length", 10.0 / 4, 2.0),
    ):
        found = objectives.aggregate(loss_BT, mask_BT, include_B, how=how, max_length=4)
        assert (float(found.total), float(found.weight)) == (total, weight)


def test_nothing_included_is_zero_of_zero_with_gradient_zero():
    for how in objectives.AGGREGATIONS:

        def total(loss_BT, how=how):
            return objectives.aggregate(
                loss_BT, jnp.ones((2, 3), bool), jnp.zeros(2, bool), how=how, max_length=4
            ).total

        value, gradient_BT = jax.jit(jax.value_and_grad(total))(jnp.full((2, 3), jnp.nan))
        assert value == 0 and np.all(np.asarray(gradient_BT) == 0)


def test_aggregate_names_what_it_knows():
    arguments = (jnp.ones((1, 1)), jnp.ones((1, 1), bool), jnp.ones(1, bool))
    with pytest.raises(ValueError, match="'mean' must be one of sequence_mean, token_mean"):
        objectives.aggregate(*arguments, how="mean", max_length=4)
    with pytest.raises(ValueError, match="max_length=0"):
        objectives.aggregate(*arguments, how="constant_length", max_length=0)


@jax.jit
def totals_weights_and_gradients(batch):
    """Of the sum (not the mean) of each aggregation of each ratio: one compilation per shape."""

    def total(logps_BT, ratio, how):
        found = weighted_sum(logps_BT, batch, ratio=ratio, how=how)
        return found.total, found

    return {
        (ratio, how): jax.grad(total, has_aux=True)(batch["logps"], ratio, how)
        for ratio in ("token", "sequence")
        for how in objectives.AGGREGATIONS
    }


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(NUM_ROWS)), st.integers(0, 3))
def test_microbatches_add_up_to_the_whole(order, seed):
    """Rows in any order, two to a microbatch: totals, weights, gradients of totals."""
    batch = {
        name: array if array.dtype == bool else array.astype(np.float32)
        for name, array in make_batch(seed).items()
    }
    whole = totals_weights_and_gradients(batch)
    pieces = np.split(np.array(order), NUM_ROWS // 2)
    parts = [
        totals_weights_and_gradients({n: a[rows] for n, a in batch.items()}) for rows in pieces
    ]
    for variant, (gradient_BT, expected) in whole.items():
        found = types.WeightedSum(jnp.float32(0), jnp.float32(0))
        for part in parts:
            found = found + part[variant][1]
        assert float(found.weight) == float(expected.weight)
        np.testing.assert_allclose(found.total, expected.total, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            np.concatenate([part[variant][0] for part in parts]),
            np.asarray(gradient_BT)[np.array(order)],
            rtol=1e-5,
            atol=1e-6,
        )


def test_what_lies_off_the_mask_changes_nothing():
    batch = make_batch()
    junk = {
        name: np.where(batch["mask"], batch[name], 77.0)
        for name in ("logps", "olds", "references", "behaviors")
    }
    junk["logps"] = np.where(batch["mask"], batch["logps"], -500.0)
    for ratio in ("token", "sequence"):
        for how in objectives.AGGREGATIONS:
            value, gradient_BT = loss_and_gradient(batch, ratio=ratio, how=how)
            other, other_BT = loss_and_gradient(batch | junk, ratio=ratio, how=how)
            np.testing.assert_array_equal(value, other)
            np.testing.assert_array_equal(gradient_BT, other_BT)
            assert np.all(np.asarray(gradient_BT)[~batch["mask"]] == 0)
            assert np.all(np.asarray(gradient_BT)[~batch["include"]] == 0)


def test_advantages_may_differ_from_token_to_token():
    # A = 1: min(1.5, 1.2) = 1.2, cut; A = -1: min(-1.5, -1.2) = -1.5, not cut; A = 2: 2 * 0.5
    ratio_BT = jnp.array([[1.5, 1.5, 0.5]])
    advantage_BT = jnp.array([[1.0, -1.0, 2.0]])
    clips = {"clip_low": 0.2, "clip_high": 0.2}
    loss_BT = objectives.clipped(ratio_BT, advantage_BT, **clips)
    np.testing.assert_allclose(loss_BT, [[-1.2, 1.5, -1.0]], rtol=1e-6)
    assert objectives.clip_binds(ratio_BT, advantage_BT, **clips).tolist() == [[True, False, False]]
    same_BT = objectives.clipped(ratio_BT, jnp.full((1, 3), 0.7), **clips)
    np.testing.assert_array_equal(same_BT, objectives.clipped(ratio_BT, jnp.array([0.7]), **clips))


# --- the critic's distance ----------------------------------------------------------------------

OLD_BT, RETURN_BT = jnp.array([[1.0, 1.0, 1.0, 1.0]]), jnp.array([[3.0, 3.0, -1.0, 1.1]])
VALUE_BT = jnp.array([[2.0, 1.25, 2.0, 1.75]])


def test_the_distance_to_the_return_by_hand():
    plain_BT = objectives.value_error(VALUE_BT, OLD_BT, RETURN_BT, clip=0.0)
    np.testing.assert_allclose(plain_BT, [[0.5, 1.53125, 4.5, 0.21125]], rtol=1e-5)
    # held within 0.5: 1.5, 1.25, 1.5, 1.5; the larger of both squares, halved
    clipped_BT = objectives.value_error(VALUE_BT, OLD_BT, RETURN_BT, clip=0.5)
    np.testing.assert_allclose(clipped_BT, [[1.125, 1.53125, 4.5, 0.21125]], rtol=1e-5)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_only_a_value_that_moved_too_far_towards_its_return_has_no_gradient(clip):
    def total(value_BT):
        return jnp.sum(objectives.value_error(value_BT, OLD_BT, RETURN_BT, clip=clip))

    gradient_BT = jax.grad(total)(VALUE_BT)
    binds_BT = objectives.value_clip_binds(VALUE_BT, OLD_BT, RETURN_BT, clip=clip)
    assert binds_BT.tolist() == [[clip > 0, False, False, False]]
    expected_BT = jnp.where(binds_BT, 0.0, VALUE_BT - RETURN_BT)
    np.testing.assert_allclose(gradient_BT, expected_BT, rtol=1e-5)


def test_a_negative_value_clip_is_refused():
    with pytest.raises(ValueError, match=r"clip=-0\.5 cannot be negative; 0 switches it off"):
        objectives.value_error(VALUE_BT, OLD_BT, RETURN_BT, clip=-0.5)
