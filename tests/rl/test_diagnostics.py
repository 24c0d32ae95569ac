"""The numbers in the log by hand, and the sentence about a flat curve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.rl import diagnostics, objectives

MASK_BT = jnp.array([[0, 1, 1, 1], [0, 1, 1, 0]], bool)


def test_clip_share_counts_tokens_whose_gradient_is_cut():
    ratio_BT = jnp.array([[9.0, 1.0, 1.5, 0.5], [9.0, 1.5, 0.5, 0.5]])
    advantage_B = jnp.array([1.0, -1.0])
    clip = {"clip_low": 0.2, "clip_high": 0.2}
    # row 0 (A > 0) is cut at 1.5, row 1 (A < 0) at 0.5; the 9.0 lie off the mask
    found = diagnostics.clip_share(ratio_BT, advantage_B, MASK_BT, **clip)
    assert (float(found.total), float(found.weight)) == (2.0, 5.0)

    def loss(x):
        loss_BT = objectives.clipped(x, advantage_B, **clip)
        return jnp.sum(jnp.where(MASK_BT, loss_BT, 0.0))

    has_gradient_BT = jax.grad(loss)(ratio_BT) != 0
    assert int(jnp.sum(MASK_BT & ~has_gradient_BT)) == 2
    none = diagnostics.clip_share(ratio_BT, advantage_B, MASK_BT, clip_low=10.0, clip_high=10.0)
    assert float(none.total) == 0.0


def test_ratio_max_over_the_mask():
    ratio_BT = jnp.array([[9.0, 1.0, 2.0, 3.0], [0.0, 2.0, 2.0, 0.0]])
    assert float(diagnostics.ratio_max(ratio_BT, MASK_BT)) == 3.0
    assert float(diagnostics.ratio_max(ratio_BT, jnp.zeros_like(MASK_BT))) == 1.0


def test_explained_variance_by_hand():
    # returns 1 2 3 | 4 2 under the mask: mean 2.4, var 1.04
    return_BT = jnp.array([[9.0, 1.0, 2.0, 3.0], [9.0, 4.0, 2.0, 9.0]])

    def explained(value_BT, returns_BT=return_BT):
        value_BT = jnp.where(MASK_BT, value_BT, jnp.nan)
        return float(diagnostics.explained_variance(value_BT, returns_BT, MASK_BT))

    assert explained(return_BT + 7) == pytest.approx(1)  # off by a constant: all spread is known
    assert explained(jnp.zeros((2, 4))) == pytest.approx(0)
    assert explained(-return_BT) == pytest.approx(-3)  # twice the distance, four times the variance
    # errors 1 0 0 | 0 0: mean 0.2, var 0.16
    wrong_BT = return_BT.at[0, 1].add(-1)
    assert explained(wrong_BT) == pytest.approx(1 - 0.16 / 1.04)
    # Nothing varies but by rounding, so there is nothing to explain.
    rounded_BT = jnp.ones((2, 4)).at[0, 1].add(1e-6)
    assert explained(wrong_BT, jnp.ones((2, 4))) == explained(wrong_BT, rounded_BT) == 0


def test_gap_over_completion_tokens():
    learner_BT = jnp.array([[-5.0, -1.0, -2.0, -3.0], [-5.0, -1.0, -1.0, -9.0]])
    sampler_BT = jnp.array([[0.0, -1.0, -2.5, -3.0], [0.0, -1.25, -1.0, 0.0]])
    assert diagnostics.gap_by_row(learner_BT, sampler_BT, MASK_BT).tolist() == [0.5, 0.25]
    assert float(diagnostics.gap_max(learner_BT, sampler_BT, MASK_BT)) == 0.5
    broken_BT = learner_BT.at[1, 2].set(jnp.nan)
    assert np.isnan(diagnostics.gap_max(broken_BT, sampler_BT, MASK_BT))
    assert float(diagnostics.gap_max(learner_BT, sampler_BT, jnp.zeros_like(MASK_BT))) == 0.0


def test_entropy_mean():
    entropy_BT = jnp.array([[7.0, 1.0, 2.0, 3.0], [7.0, 0.5, 0.5, jnp.nan]])
    found = diagnostics.entropy_mean(entropy_BT, MASK_BT)
    assert (float(found.total), float(found.weight)) == (7.0, 5.0)


HEALTHY = {
    "pass_rate": 0.3,
    "truncated_share": 0.05,
    "zero_spread_share": 0.2,
    "gap": 1e-6,
    "gap_bound": 1e-4,
    "gradient_norm": 0.5,
    "entropy": 0.8,
}
CAUSES = [  # in the order in which they are told
    ({"gap": 0.3}, "disagree by up to 0.3 nats"),
    ({"gap": float("nan")}, "disagree"),
    ({"truncated_share": 0.97}, "97% of the completions are cut off"),
    ({"pass_rate": 0.001}, "pass rate is 0.1%: there is almost no right answer"),
    ({"pass_rate": 0.999}, "the task is solved"),
    ({"zero_spread_share": 0.95}, "95% of the groups have equal rewards"),
    ({"gradient_norm": 0.0}, "gradient norm is 0:"),
    ({"gradient_norm": float("nan")}, "gradient norm is nan"),
    ({"entropy": 1e-4}, "says the same every time"),
]


@pytest.mark.parametrize(("change", "words"), CAUSES)
def test_each_cause_is_named_in_one_sentence(change, words):
    said = diagnostics.explain_flat(**(HEALTHY | change))
    assert words in said
    assert said.endswith(".") and "\n" not in said


def test_a_healthy_run_is_not_accused():
    assert diagnostics.explain_flat(**HEALTHY).startswith("Nothing measured explains")


def test_causes_are_told_before_their_effects():
    for i, (first, words) in enumerate(CAUSES):
        for later, _ in CAUSES[i + 1 :]:
            assert words in diagnostics.explain_flat(**(HEALTHY | later | first)) or (
                set(first) == set(later)
            )


def test_more_gap_is_allowed_where_the_bound_allows_it():
    said = diagnostics.explain_flat(**(HEALTHY | {"gap": 0.3, "gap_bound": 0.5}))
    assert said.startswith("Nothing")
