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


DIFFICULTIES = {  # name -> (draws P problems' chances of a right sample, their mean)
    "spread": (lambda rng, num: rng.beta(2, 3, num), 0.4),
    "easy or hopeless": (lambda rng, num: rng.beta(0.5, 0.5, num), 0.5),
    "mostly hopeless": (lambda rng, num: rng.beta(0.3, 0.7, num), 0.3),
    "nearly solved": (lambda rng, num: rng.beta(2, 0.4, num), 2 / 2.4),
}


def _coverage(difficulty, num_problems, num_samples, num_trials, **settings):
    draw, truth = DIFFICULTIES[difficulty]
    rng = np.random.default_rng(num_problems)
    covered = 0
    for trial in range(num_trials):
        score_P = rng.binomial(num_samples, draw(rng, num_problems)) / num_samples
        low, high = pass_at_k.interval(score_P, seed=trial, **settings)
        covered += low <= truth <= high
    return covered / num_trials


@pytest.mark.parametrize("difficulty", ["spread", "easy or hopeless"])
def test_expanded_intervals_of_95_percent_cover_the_truth_93_to_97_percent_of_the_time(difficulty):
    found = _coverage(difficulty, 64, 64, 1000, num_resamples=200, is_expanded=True)
    assert 0.93 <= found <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize(("num_problems", "num_samples"), [(30, 64), (64, 16), (198, 64), (500, 4)])
def test_expanded_intervals_at_the_sizes_of_benchmarks(difficulty, num_problems, num_samples):
    found = _coverage(
        difficulty, num_problems, num_samples, 8000, num_resamples=300, is_expanded=True
    )
    assert 0.93 <= found <= 0.97


def test_expansion_moves_small_intervals_and_hardly_large_ones():
    rng = np.random.default_rng(0)
    for num_problems, factor in ((8, 1.26), (30, 1.06), (512, 1.003)):
        # t(n - 1) / z * sqrt(n / (n - 1)) by tables: 2.365, 2.045, 1.9646 over 1.96; the means of
        # 8 scores have shorter tails than a normal, so that 1.29 is a little less there.
        score_P = rng.random(num_problems)
        low, high = pass_at_k.interval(score_P, num_resamples=20_000)
        wide_low, wide_high = pass_at_k.interval(score_P, num_resamples=20_000, is_expanded=True)
        assert wide_low <= low < high <= wide_high
        assert (wide_high - wide_low) / (high - low) == pytest.approx(factor, abs=0.03)


def test_one_problem_has_an_interval_of_its_score_alone():
    assert pass_at_k.interval([0.25], is_expanded=True) == (0.25, 0.25)


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
    ("score", "level"), [([], 0.95), ([[1.0]], 0.95), ([1.0], 1.0), ([1.0], 0)]
)
def test_interval_of_nothing_or_of_an_impossible_level_is_an_error(score, level):
    with pytest.raises(ValueError, match=r"score_P|level"):
        pass_at_k.interval(score, level=level)
