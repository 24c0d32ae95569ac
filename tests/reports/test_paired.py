import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from r1_jax.reports import paired


def test_paired_t_by_hand():
    # Differences 1, 2, 3: mean 2, s 1, error 1 / sqrt(3) = 0.5774, t = 3.4641 with 2 degrees.
    # Two degrees have a closed form: p = 1 - t / sqrt(2 + t^2) = 1 - 3.4641 / 3.7417 = 0.07418,
    # and t(0.975) = 4.3027: half a width 2.4841.
    found = paired.t_test([1.0, 2.0, 3.0])
    assert found.low is not None and found.high is not None
    assert found.p == pytest.approx(0.07418, rel=1e-3)
    assert (found.low, found.high) == pytest.approx((2 - 2.4841, 2 + 2.4841), rel=1e-4)
    assert (found.mean, found.num) == (2.0, 3)


def test_what_one_pair_and_equal_pairs_can_say():
    assert paired.t_test([0.5]) == (0.5, None, None, None, 1)
    assert paired.t_test([0.0, 0.0]) == (0.0, 0.0, 0.0, 1.0, 2)
    assert paired.t_test([0.5, 0.5]).p is None
    # Equal but for rounding, which once was a spread of 1e-17 and a p of 1e-32.
    for pairs in ([0.1, 0.1, 0.1], [0.3 - 0.2, 0.4 - 0.3, 0.5 - 0.4]):
        found = paired.t_test(pairs)
        assert found.p is None and found.low == found.high == pytest.approx(0.1)
    assert paired.t_test([0.1, 0.1, 0.1000001]).p is not None
    with pytest.raises(ValueError, match="S >= 1"):
        paired.t_test([])
    with pytest.raises(ValueError, match="P >= 1"):
        paired.bootstrap([])


def test_intervals_over_three_seeds_hold_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(1.0, 2.0, (4000, 3))
    found = [paired.t_test(draw) for draw in draws]
    held = np.mean([f.low <= 1.0 <= f.high for f in found])
    assert 0.94 < held < 0.96


def test_intervals_over_problems_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = paired.bootstrap(rng.normal(0.1, 0.4, 100), num_resamples=400)
        assert found.low is not None and found.high is not None
        held += found.low <= 0.1 <= found.high
    assert 0.90 < held / 200 < 0.985
    assert paired.bootstrap([1.0, 2.0]) == paired.bootstrap([1.0, 2.0])


def test_holm_by_hand():
    # Smallest times 3, next times 2, largest times 1, never falling.
    assert paired.holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert paired.holm([0.9, 0.8]) == [1.0, 1.0]
    assert paired.holm([]) == []


@hypothesis.given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_makes_a_p_value_smaller_nor_changes_their_order(p_values):
    adjusted = paired.holm(p_values)
    assert all(a is not None and p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_what_few_pairs_are_blind_to_is_t_over_the_root_of_n():
    # Tables: t(0.975) is 4.3027 with 2 degrees, 2.7764 with 4; with 2 degrees t solves
    # p = 1 - t / sqrt(2 + t^2), so that p = 0.05 / 16 has t = 17.86.
    assert paired.needed(3, 0.05) == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert paired.needed(5, 0.05) == pytest.approx(2.7764 / 5**0.5, rel=1e-4)
    alpha = 0.05 / 16
    t = paired.needed(3, alpha) * 3**0.5
    assert 1 - t / (2 + t * t) ** 0.5 == pytest.approx(alpha, rel=1e-6)
    spread = np.array([-1.0, 0.0, 1.0])  # a standard deviation of 1
    assert paired.t_test(spread + paired.needed(3, alpha)).p == pytest.approx(alpha, rel=1e-6)
    with pytest.raises(ValueError, match="two pairs"):
        paired.needed(1, 0.05)
