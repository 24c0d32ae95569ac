import fractions
import itertools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from r1_jax.evaluation import pass_at_k

SAMPLES = st.integers(1, 9).flatmap(
    lambda g: st.lists(st.lists(st.booleans(), min_size=g, max_size=g), min_size=1, max_size=4)
)


@hypothesis.given(SAMPLES)
@hypothesis.settings(deadline=None)
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(correct):
    for k in range(1, len(correct[0]) + 1):
        naive = [
            np.mean([any(subset) for subset in itertools.combinations(row, k)]) for row in correct
        ]
        np.testing.assert_allclose(pass_at_k.problem_pass_at_k(correct, k), naive, atol=1e-12)
        assert pass_at_k.pass_at_k(correct, k) == pytest.approx(np.mean(naive))


@hypothesis.given(st.integers(1, 400), st.data())
@hypothesis.settings(deadline=None)
def test_pass_at_k_matches_exact_binomials_for_many_samples(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - fractions.Fraction(math.comb(n - c, k), math.comb(n, k))
    row = [[True] * c + [False] * (n - c)]
    assert pass_at_k.pass_at_k(row, k) == pytest.approx(float(exact), rel=1e-9, abs=1e-12)


@hypothesis.given(SAMPLES)
@hypothesis.settings(deadline=None)
def test_pass_at_1_is_the_mean_of_all_samples(correct):
    assert pass_at_k.pass_at_k(correct, 1) == pytest.approx(np.mean(correct))


def test_pass_at_1_does_not_depend_on_how_many_samples_are_drawn():
    # The halving of open-r1 #655: score again with twice the samples, the same share right.
    correct = np.array([[1, 0, 0, 0], [1, 1, 0, 0]], bool)
    once, twice = pass_at_k.pass_at_k(correct, 1), pass_at_k.pass_at_k(np.tile(correct, (1, 2)), 1)
    assert once == twice == 3 / 8


@pytest.mark.parametrize("k", [0, 5, -1])
def test_k_outside_the_samples_is_an_error(k):
    with pytest.raises(ValueError, match=rf"k={k} needs 1 <= k <= 4"):
        pass_at_k.pass_at_k(np.ones((2, 4)), k)
    with pytest.raises(ValueError, match=rf"k={k} needs"):
        pass_at_k.cons_at_k([["a"] * 4] * 2, np.ones((2, 4)), k)


@pytest.mark.parametrize("correct", [np.ones(4), np.ones((0, 4)), np.ones((4, 0)), [[0.5, 1.0]]])
def test_input_that_is_no_table_of_right_and_wrong_is_an_error(correct):
    with pytest.raises(ValueError, match="correct_PG"):
        pass_at_k.pass_at_k(correct, 1)


@pytest.mark.parametrize(
    ("votes", "correct", "expected"),
    [
        (["22", "22", "7"], [1, 1, 0], 1.0),  # the majority is right
        (["22", "7", "7"], [1, 0, 0], 0.0),  # the majority is wrong
        (["22", "7", None], [1, 0, 0], 0.5),  # a tie of one right and one wrong candidate
        (["22", "7", "8"], [1, 0, 0], 1 / 3),  # a tie of three
        (["22", None, None], [1, 0, 0], 1.0),  # the unparsed do not outvote
        ([None, None, None], [0, 0, 0], 0.0),  # nobody votes
        (["3*5", "3*5", "7"], [1, 0, 0], 0.5),  # a grader that disagreed with itself
    ],
)
def test_cons_by_hand(votes, correct, expected):
    assert pass_at_k.cons_at_k([votes], [correct], 3) == pytest.approx(expected)


def test_cons_of_fewer_votes_than_samples_is_a_mean_over_juries():
    votes = [["a", "a", "b", "b", "b", "c", "a"]]
    correct = [[1, 1, 0, 0, 0, 0, 1]]
    # juries aab -> a (right), bbc -> b (wrong); the last a is left over
    assert pass_at_k.cons_at_k(votes, correct, 3) == 0.5
    assert pass_at_k.cons_at_k(votes, correct, 7) == 0.5  # a and b tie with three votes


@hypothesis.given(
    st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=8), st.data()
)
@hypothesis.settings(deadline=None)
def test_cons_does_not_depend_on_the_order_of_samples(votes, data):
    order = data.draw(st.permutations(range(len(votes))))
    correct = np.array([vote == "a" for vote in votes])
    shuffled = [votes[i] for i in order]
    n = len(votes)
    first = pass_at_k.cons_at_k([votes], [correct], n)
    assert pass_at_k.cons_at_k([shuffled], [correct[order]], n) == pytest.approx(first)


@hypothesis.given(
    st.lists(st.lists(st.sampled_from(["a", "b", None]), min_size=5, max_size=5), min_size=1)
)
@hypothesis.settings(deadline=None)
def test_cons_at_1_is_pass_at_1(votes):
    correct = [[vote == "a" for vote in row] for row in votes]
    expected = pass_at_k.pass_at_k(correct, 1)
    assert pass_at_k.cons_at_k(votes, correct, 1) == pytest.approx(expected)


def test_votes_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"votes has rows of \[2\]"):
        pass_at_k.cons_at_k([["a", "b"]], [[1, 0, 1]], 2)


COVERED = {  # beta distribution of problems' chances, problems, samples of each
    "spread": (2, 3, 64, 16),
    "mostly hopeless": (0.3, 0.7, 30, 16),
    "nearly all 0 or 1": (0.05, 0.05, 198, 1),
    "97% solved": (20, 0.6, 30, 4),  # plain percentiles: 0.85
    "97% solved, one sample": (20, 0.6, 198, 1),  # plain percentiles: 0.92
    "5% solved": (0.2, 4, 64, 4),  # plain percentiles: 0.91
}


@pytest.mark.parametrize("case", COVERED)
def test_intervals_of_95_percent_cover_the_truth_93_to_97_percent_of_the_time(case):
    """Within the error of a simulation of 1000 trials, three binomial standard deviations.

    bench/intervals.py is the same at length; its table is in docs/INTERVALS.md.
    """
    a, b, num_problems, num_samples = COVERED[case]
    rng, num_trials, covered = np.random.default_rng(0), 1000, 0
    for trial in range(num_trials):
        score_P = rng.binomial(num_samples, rng.beta(a, b, num_problems)) / num_samples
        low, high = pass_at_k.interval(score_P, num_resamples=300, seed=trial)
        covered += low - 1e-9 <= a / (a + b) <= high + 1e-9
    low = 0.93 - 3 * math.sqrt(0.93 * 0.07 / num_trials)  # 0.906
    high = 0.97 + 3 * math.sqrt(0.97 * 0.03 / num_trials)  # 0.986
    assert low <= covered / num_trials <= high


def test_an_interval_by_hand():
    """Scores 0, 1: means 0, 1/2, 1 with chances 1/4, 1/2, 1/4; no bias, no skew, tails beyond."""
    assert pass_at_k.interval([0.0, 1.0]) == (0.0, 1.0)
    # Half of the level inside: t at 1 degree is 1, times sqrt(2): the tail is 0.079 < 1/4.
    assert pass_at_k.interval([0.0, 1.0], level=0.5) == (0.0, 1.0)
    assert pass_at_k.interval([0.0, 1.0], level=0.05) == (0.5, 0.5)


def test_a_skewed_interval_reaches_further_to_where_the_tail_is():
    score_P = np.array([1.0] * 56 + [0.2] * 8)  # mean 0.9
    low, high = pass_at_k.interval(score_P, num_resamples=20_000)
    assert 0.9 - low > 1.1 * (high - 0.9)
    mirrored = pass_at_k.interval(1 - score_P, num_resamples=20_000)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=0.005)


def test_small_intervals_are_wider_than_their_resamples():
    # t(n - 1) / z * sqrt(n / (n - 1)) by tables: 2.365, 2.045, 1.979 over 1.96; the means of 8
    # scores have shorter tails than a normal, so that 1.29 is a little less there.
    for num_problems, factor in ((8, 1.26), (30, 1.06), (128, 1.014)):
        half_P = np.random.default_rng(0).random(num_problems // 2) / 2
        score_P = np.concatenate([half_P, 1 - half_P])  # without skew
        rng = np.random.default_rng(1)
        means = rng.choice(score_P, (10_000, num_problems)).mean(axis=1)
        plain_low, plain_high = np.quantile(means, [0.025, 0.975])
        low, high = pass_at_k.interval(score_P, num_resamples=10_000)
        assert (high - low) / (plain_high - plain_low) == pytest.approx(factor, abs=0.04)


def test_where_all_is_right_or_nothing_the_interval_says_what_n_could_miss():
    # Were a share of 1 - 0.025^(1/30) of the problems not solved, 30 of them would miss all of
    # those 2.5% of the time.
    low, high = pass_at_k.interval([1.0] * 30)
    assert (low, high) == (pytest.approx(0.8843, abs=1e-4), 1.0)
    assert low**30 == pytest.approx(0.025)
    assert pass_at_k.interval([0.0] * 30) == (0.0, pytest.approx(1 - low))
    assert pass_at_k.interval([0.25] * 30) == pass_at_k.interval([0.25]) == (0.25, 0.25)


@hypothesis.given(st.lists(st.integers(0, 16), min_size=1, max_size=40), st.integers(0, 5))
@hypothesis.settings(deadline=None)
def test_intervals_are_ordered_within_0_and_1_and_without_an_order_of_problems(counts, seed):
    score_P = np.array(counts) / 16
    low, high = pass_at_k.interval(score_P, num_resamples=200, seed=seed)
    assert 0 <= low <= high <= 1
    assert pass_at_k.interval(score_P[::-1], num_resamples=200, seed=seed) == (low, high)


def test_interval_is_as_wide_as_the_standard_error_says():
    score_P = np.repeat([0.0, 1.0], 200)
    low, high = pass_at_k.interval(score_P)
    half = 1.96 * 0.5 / math.sqrt(400)  # 0.049
    assert low == pytest.approx(0.5 - half, abs=0.006)
    assert high == pytest.approx(0.5 + half, abs=0.006)


def test_interval_is_the_same_for_the_same_seed_and_not_for_another():
    score_P = np.random.default_rng(1).random(37)
    assert pass_at_k.interval(score_P, seed=3) == pass_at_k.interval(score_P, seed=3)
    assert pass_at_k.interval(score_P, seed=3) != pass_at_k.interval(score_P, seed=4)


def test_narrower_levels_lie_inside_wider_ones():
    score_P = np.random.default_rng(2).random(50)
    low, high = pass_at_k.interval(score_P, level=0.5)
    wide_low, wide_high = pass_at_k.interval(score_P, level=0.99)
    assert wide_low < low < score_P.mean() < high < wide_high


@pytest.mark.parametrize(
    ("score", "level"),
    [([], 0.95), ([[1.0]], 0.95), ([1.0], 1.0), ([1.0], 0), ([2.0], 0.95), ([math.nan], 0.95)],
)
def test_interval_of_nothing_or_of_an_impossible_level_is_an_error(score, level):
    with pytest.raises(ValueError, match=r"score_P|level"):
        pass_at_k.interval(score, level=level)
