"""losses: the whole policy loss against loops over float64, in value and gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import types
from r1_jax.data import packing
from r1_jax.models import critic, scoring
from r1_jax.training import losses
from tests.golden import rl_numpy as golden

B, T = 5, 9
PROMPT_B = np.array([1, 3, 2, 1, 4], np.int32)
LENGTH_B = np.array([8, 2, 1, 5, 4], np.int32)
MASK_BT = (np.arange(T) >= PROMPT_B[:, None]) & (np.arange(T) < (PROMPT_B + LENGTH_B)[:, None])
MAX_LENGTH = 11  # tokens


def given_scores(model, params, tokens_BT, *, adjust, **_):
    """A model that says what it is told to: log-probs and entropies are its parameters."""
    num = tokens_BT.shape[1]
    return params["logps"][:, :num], params["entropy"][:, :num], None


@pytest.fixture
def inputs(monkeypatch):
    """(params, batch): log-ratios on both sides of every clip, NaN off the completions."""
    monkeypatch.setattr(scoring, "routed_scores", given_scores)
    rng = np.random.default_rng(0)
    logps, olds, references, behaviors = (
        np.float32(rng.normal(-1.5, 0.5, (B, T))) for _ in range(4)
    )
    behaviors = olds + np.float32(rng.normal(0, 0.3, (B, T)))

    def junk(x, value):
        return np.where(MASK_BT, x, np.float32(value))

    params = {"logps": junk(logps, 50.0), "entropy": junk(rng.uniform(0.5, 2, (B, T)), 7.0)}
    batch = types.PolicyBatch(
        tokens_BT=np.zeros((B, T), np.int32),
        prompt_length_B=PROMPT_B,
        length_B=LENGTH_B,
        behavior_logps_BT=junk(behaviors, np.nan),
        old_logps_BT=junk(olds, np.nan),
        reference_logps_BT=junk(references, np.nan),
        advantage_B=np.array([1.0, -0.5, 2.0, -1.5, 0.7], np.float32),
        include_B=np.array([True, True, False, True, True]),
    )
    return jax.tree.map(jnp.asarray, params, is_leaf=lambda x: isinstance(x, np.ndarray)), (
        jax.tree.map(jnp.asarray, batch)
    )


def value_and_grad(config, params, batch):
    """(LossOutput, gradient of total / weight)."""
    loss = losses.make_policy(None, config, adjust=lambda x: x, max_length=MAX_LENGTH)

    def mean(params):
        out = loss(params, batch)
        return out.loss.total / out.loss.weight, out

    (value, out), grads = jax.value_and_grad(mean, has_aux=True)(params)
    return value, out, grads


def golden_loss(config, params, batch):
    """(loss, its gradient w.r.t. logps) by loops; without the entropy bonus."""
    with_cap = config.importance_cap > 0
    behaviors = np.asarray(batch.behavior_logps_BT, np.float64)
    in_loss = config.kl_coef if config.kl_place == "loss" else 0.0
    return golden.policy_loss(
        np.asarray(params["logps"], np.float64),
        np.asarray(batch.old_logps_BT, np.float64) if with_cap else behaviors,
        np.asarray(batch.reference_logps_BT, np.float64),
        behaviors,
        np.asarray(batch.advantage_B, np.float64),
        MASK_BT,
        np.asarray(batch.include_B),
        ratio=config.ratio,
        low=config.clip_low,
        high=config.clip_high,
        kl={"k1": golden.k1, "k2": golden.k2, "k3": golden.k3}[config.kl_estimator],
        kl_coef=in_loss,
        cap=config.importance_cap or 1.0,
        how=config.aggregation,
        max_length=MAX_LENGTH,
    )


@pytest.mark.parametrize(
    ("ratio", "how", "kl", "cap"),
    [
        *itertools.product(
            ("token", "sequence"), losses.objectives.AGGREGATIONS, ("k1", "k2", "k3"), (0.0,)
        ),
        *itertools.product(("token", "sequence"), losses.objectives.AGGREGATIONS, ("k3",), (1.2,)),
    ],
)
def test_value_and_gradient_are_those_of_the_equations(ratio, how, kl, cap, inputs):
    params, batch = inputs
    config = losses.PolicyLossConfig(
        clip_low=0.2, clip_high=0.28, kl_coef=0.3, kl_estimator=kl, ratio=ratio,
        aggregation=how, importance_cap=cap,
    )  # fmt: skip
    value, _, grads = value_and_grad(config, params, batch)
    expected, gradient = golden_loss(config, params, batch)
    assert np.abs(gradient).max() > 1e-2
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(grads["logps"], gradient, rtol=2e-5, atol=1e-7)
    assert not np.any(grads["entropy"])


def test_a_penalty_in_the_reward_is_not_in_the_loss_too(inputs):
    params, batch = inputs
    config = losses.PolicyLossConfig(kl_coef=0.3, kl_place="reward")
    value, out, grads = value_and_grad(config, params, batch)
    expected, gradient = golden_loss(config, params, batch)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    np.testing.assert_allclose(grads["logps"], gradient, rtol=2e-5, atol=1e-7)
    assert out.means["kl/reference"].total > 0  # it is measured all the same


def test_the_entropy_bonus_is_minus_its_mean(inputs):
    params, batch = inputs
    with_bonus = losses.PolicyLossConfig(entropy_coef=0.5, aggregation="token_mean")
    without = losses.PolicyLossConfig(aggregation="token_mean")
    value, _, grads = value_and_grad(with_bonus, params, batch)
    plain, _, plain_grads = value_and_grad(without, params, batch)
    kept_BT = MASK_BT & np.asarray(batch.include_B)[:, None]
    mean = np.asarray(params["entropy"], np.float64)[kept_BT].mean()
    np.testing.assert_allclose(value - plain, -0.5 * mean, rtol=1e-5)
    np.testing.assert_allclose(grads["entropy"], -0.5 / kept_BT.sum() * kept_BT, rtol=1e-6)
    np.testing.assert_array_equal(grads["logps"], plain_grads["logps"])


def test_the_constant_length_is_the_one_given(inputs):
    params, batch = inputs
    config = losses.PolicyLossConfig(aggregation="constant_length")
    values = [
        losses.make_policy(None, config, adjust=lambda x: x, max_length=n)(params, batch).loss
        for n in (10, 20)
    ]
    np.testing.assert_allclose(values[0].total, 2 * values[1].total, rtol=1e-6)
    assert values[0].weight == values[1].weight == 4


@pytest.mark.parametrize("log_ratio", [100.0, -100.0])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_log_ratios_of_100_stay_finite(log_ratio, ratio, kl, inputs):
    params, batch = inputs
    off_BT = jnp.asarray(np.where(MASK_BT, params["logps"] - log_ratio, np.nan), jnp.float32)
    for advantage in (1.0, -1.0):
        batch = types.PolicyBatch(
            **{
                **vars(batch),
                "behavior_logps_BT": off_BT,
                "reference_logps_BT": off_BT,
                "advantage_B": jnp.full(B, advantage, jnp.float32),
            }
        )
        config = losses.PolicyLossConfig(kl_estimator=kl, ratio=ratio, kl_coef=0.1)
        value, out, grads = value_and_grad(config, params, batch)
        assert np.isfinite(value)
        assert np.isfinite(grads["logps"]).all() and np.isfinite(grads["entropy"]).all()
        assert float(out.maxima["gap"]) == pytest.approx(100.0, abs=1e-3)
        pull = np.asarray(grads["logps"])[0, PROMPT_B[0]]
        if kl != "k1" and (advantage > 0) == (log_ratio > 0):  # the clip leaves the penalty alone
            assert np.sign(pull) == np.sign(log_ratio)


def test_facts_are_means_over_the_included_tokens(inputs):
    params, batch = inputs
    config = losses.PolicyLossConfig(clip_low=0.2, clip_high=0.28)
    out = value_and_grad(config, params, batch)[1]
    kept_BT = MASK_BT & np.asarray(batch.include_B)[:, None]
    logps = np.asarray(params["logps"], np.float64)
    d_BT = logps - np.asarray(batch.behavior_logps_BT, np.float64)
    reference_BT = np.asarray(batch.reference_logps_BT, np.float64)
    positive_B1 = np.asarray(batch.advantage_B)[:, None] > 0
    with np.errstate(invalid="ignore"):
        cut_BT = np.where(positive_B1, np.exp(d_BT) > 1.28, np.exp(d_BT) < 0.8)
    k3 = [golden.k3(a, b)[0] for a, b in zip(logps[kept_BT], reference_BT[kept_BT], strict=True)]
    means = {name: float(mean.total / mean.weight) for name, mean in out.means.items()}
    assert 0.1 < cut_BT[kept_BT].mean() < 0.9
    assert means["clip/share"] == pytest.approx(cut_BT[kept_BT].mean())
    assert means["kl/reference"] == pytest.approx(np.mean(k3), rel=1e-5)
    assert means["entropy"] == pytest.approx(np.asarray(params["entropy"])[kept_BT].mean())
    assert float(out.maxima["gap"]) == pytest.approx(np.abs(d_BT[MASK_BT]).max(), rel=1e-6)
    assert float(out.maxima["ratio/max"]) == pytest.approx(np.exp(d_BT[kept_BT].max()), rel=1e-5)


def test_nothing_is_measured_against_an_absent_reference(inputs):
    params, batch = inputs
    batch = types.PolicyBatch(**{**vars(batch), "reference_logps_BT": None})
    out = value_and_grad(losses.PolicyLossConfig(kl_coef=0.0), params, batch)[1]
    assert "kl/reference" not in out.means


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip_low": 0.0}, "clip_low=0.0 and clip_high=10.0 must be above 0"),
        ({"kl_coef": -0.1}, "kl_coef=-0.1 cannot be negative"),
        ({"importance_cap": 0.5}, "importance_cap=0.5 must be 0 .off. or at least 1"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        losses.PolicyLossConfig(**wrong)


# --- value --------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.0, 0.2])
@pytest.mark.parametrize("aggregation", losses.objectives.AGGREGATIONS)
def test_the_critic_s_loss_is_that_of_the_equations(aggregation, clip, monkeypatch):
    monkeypatch.setattr(critic, "values", lambda model, params, tokens_BT: params)
    rng = np.random.default_rng(0)
    value_BT, old_BT, return_BT = (rng.normal(size=(B, T)).astype(np.float32) for _ in range(3))
    old_BT = value_BT + np.float32(0.4) * old_BT
    none = dict.fromkeys(("old_logps_BT", "reference_logps_BT"))
    include_B = np.array([True, True, False, True, True])
    batch = types.ActorCriticBatch(
        tokens_BT=np.zeros((B, T), np.int32), prompt_length_B=PROMPT_B, length_B=LENGTH_B,
        behavior_logps_BT=np.zeros((B, T), np.float32), advantage_BT=np.zeros((B, T), np.float32),
        old_value_BT=np.where(MASK_BT, old_BT, np.nan), include_B=include_B,
        return_BT=np.where(MASK_BT, return_BT, np.nan), **none,
    )  # fmt: skip
    loss = losses.make_value(None, clip=clip, aggregation=aggregation, max_length=MAX_LENGTH)

    def mean(params):
        out = loss(params, jax.tree.map(jnp.asarray, batch))
        return out.loss.total / out.loss.weight, out

    (value, out), gradient_BT = jax.value_and_grad(mean, has_aux=True)(jnp.asarray(value_BT))
    total, expected_BT, num_cut = 0.0, np.zeros((B, T)), 0
    kept_BT = MASK_BT & include_B[:, None]
    factor_B = {
        "sequence_mean": 1 / (4 * LENGTH_B), "token_mean": np.full(B, 1 / kept_BT.sum()),
        "constant_length": np.full(B, 1 / (4 * MAX_LENGTH)),
    }[aggregation]  # fmt: skip
    for b, t in np.argwhere(kept_BT):
        v, old, aim = (float(x[b, t]) for x in (value_BT, old_BT, return_BT))
        held = min(max(v, old - clip), old + clip)
        is_cut = clip > 0 and (held - aim) ** 2 > (v - aim) ** 2
        total += factor_B[b] * ((held if is_cut else v) - aim) ** 2 / 2
        expected_BT[b, t] = 0.0 if is_cut else factor_B[b] * (v - aim)
        num_cut += is_cut
    assert (num_cut > 2) == (clip > 0)
    np.testing.assert_allclose(value, total, rtol=1e-5)
    np.testing.assert_allclose(gradient_BT, expected_BT, rtol=1e-4, atol=1e-6)
    assert float(out.means["clip_share"].total) == num_cut
    assert float(out.means["mean"].total) == pytest.approx(value_BT[kept_BT].sum(), rel=1e-4)


def test_next_token_loss_is_the_mean_over_weighted_tokens(monkeypatch):
    seen = {}

    def scores(model, params, tokens_BT, *, adjust, position_BT, segment_BT, mask_BT):
        seen.update(position_BT=position_BT, segment_BT=segment_BT, mask_BT=mask_BT)
        return params["logps"], -params["logps"], None

    monkeypatch.setattr(scoring, "routed_scores", scores)
    rows = packing.pack([[1, 2, 3], [4, 5]], row_length=6, pad_id=0)
    params = {"logps": jnp.array([[-9.0, -1.0, -2.0, -9.0, -3.0, -9.0]])}
    out = losses.make_next_token(None)(params, jax.tree.map(jnp.asarray, rows))
    # The first token of a document is predicted by nothing, and padding by nobody.
    assert (float(out.loss.total), float(out.loss.weight)) == (6.0, 3.0)
    assert float(out.means["entropy"].total) == 6.0
    np.testing.assert_array_equal(seen["segment_BT"], rows.segment_BT)
    np.testing.assert_array_equal(seen["position_BT"], rows.position_BT)
    np.testing.assert_array_equal(seen["mask_BT"], rows.segment_BT > 0)


def test_distillation_weighs_tokens_and_teacher(monkeypatch):
    rng = np.random.default_rng(3)
    logps_BT, divergence_BT = np.float32(rng.normal(-2, 1, (2, 4))), np.float32(rng.random((2, 4)))
    seen = {}

    def divergences(model, params, teacher_model, teacher_params, tokens_BT, **others):
        seen.update(others, teacher=teacher_params)
        return logps_BT, np.ones((2, 4), np.float32), divergence_BT

    monkeypatch.setattr(scoring, "divergences", divergences)
    weight_BT = np.array([[0, 1, 1, 0], [0, 0, 1, 0.5]], np.float32)
    whole = np.zeros((2, 4), np.int32)
    rows = packing.Packed(tokens_BT=whole, segment_BT=whole, position_BT=whole, weight_BT=weight_BT)
    loss = losses.make_distillation(None, None, "theirs", weight=0.25, temperature=2.0)
    out = loss({}, rows)
    expected_BT = 0.25 * 4 * divergence_BT - 0.75 * logps_BT
    np.testing.assert_allclose(out.loss.total, np.sum(expected_BT * weight_BT), rtol=1e-5)
    assert float(out.loss.weight) == 3.5 and seen["temperature"] == 2.0
    assert seen["teacher"] == "theirs"
    divergence = out.means["teacher/divergence"]
    np.testing.assert_allclose(divergence.total, np.sum(divergence_BT * weight_BT), rtol=1e-5)
