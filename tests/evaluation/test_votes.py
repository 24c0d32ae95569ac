"""Answers that mean the same vote together, in whatever order and spelling they come."""

import itertools
from collections import Counter
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from r1_jax.evaluation import pass_at_k, votes
from r1_jax.rewards import verdict

Outcome = verdict.Outcome

SPELLINGS = ["1/2", "2/4", "0.5", "3", "3.0", "6/2", "-1", None]


def _equal(a, b):
    return Fraction(a) == Fraction(b)


def classes_of(answers, equal):
    """Of one problem, with an equality that never fails."""

    def compare(pairs):
        return [Outcome.RIGHT if equal(a, b) else Outcome.WRONG for a, b in pairs]

    (classes,), _ = votes.vote_classes([answers], equal and compare)
    return classes


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["0.5", "1/2", "3", "2/4"], ["0.5", "0.5", "3", "0.5"]),
        (["6/2", None, "3.0"], ["3.0", None, "3.0"]),  # of equally long ones the first
        ([None, None], [None, None]),
        ([], []),
    ],
)
def test_classes_by_hand(answers, expected):
    assert classes_of(answers, _equal) == expected


def test_without_an_equality_a_spelling_is_a_class():
    assert classes_of(["0.5", "1/2", None], None) == ["0.5", "1/2", None]


def test_equality_is_not_asked_of_equal_spellings_nor_of_silence():
    asked = []

    def equal(a, b):
        asked.append((a, b))
        return _equal(a, b)

    classes_of(["3", "3", None, "1/2", "2/4", "3"], equal)
    assert asked == [("3", "1/2"), ("3", "2/4"), ("1/2", "2/4")]


@hypothesis.given(st.lists(st.sampled_from(SPELLINGS), max_size=8))
@hypothesis.settings(deadline=None)
def test_two_answers_share_a_class_iff_they_are_equal(answers):
    classes = classes_of(answers, _equal)
    for (a, b), (x, y) in zip(
        itertools.combinations(answers, 2), itertools.combinations(classes, 2), strict=True
    ):
        if a is not None and b is not None:
            assert (x == y) == _equal(a, b)


@hypothesis.given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.data())
@hypothesis.settings(deadline=None)
def test_the_order_of_samples_decides_nothing_even_without_transitivity(numbers, data):
    def near(a, b):
        return abs(int(a) - int(b)) <= 2  # 1 is near 3, 3 near 5, but 1 is not near 5

    answers = [str(number) for number in numbers]
    order = data.draw(st.permutations(range(len(answers))))
    classes = classes_of(answers, near)
    shuffled = classes_of([answers[i] for i in order], near)
    assert shuffled == [classes[i] for i in order]


def test_votes_by_spelling_would_lose_an_election_that_equivalence_wins():
    answers, right = ["1/2", "2/4", "0.5", "3", "3"], [[1, 1, 1, 0, 0]]
    assert pass_at_k.cons_at_k([answers], right, 5) == 0.0
    assert pass_at_k.cons_at_k([classes_of(answers, _equal)], right, 5) == 1.0


class Comparer:
    """Fails on pairs that hold a hostile answer, and keeps what it was asked."""

    def __init__(self, hostile=()):
        self.hostile, self.asked = set(hostile), []

    def __call__(self, pairs):
        self.asked.append(list(pairs))
        return [self._one(*pair) for pair in pairs]

    def _one(self, a, b):
        if self.hostile & {a, b}:
            return Outcome.TIMEOUT
        return Outcome.RIGHT if _equal(a, b) else Outcome.WRONG


def test_problems_are_compared_side_by_side_a_pair_of_each_at_a_time():
    compare = Comparer()
    rows = [["3", "1/2", "2/4"], ["7", None], ["1", "2", "3"], []]
    found, outcomes = votes.vote_classes(rows, compare)
    assert found == [classes_of(row, _equal) for row in rows]
    assert [len(pairs) for pairs in compare.asked] == [2, 2, 2]
    assert compare.asked[0] == [("3", "1/2"), ("1", "2")]
    assert outcomes == {Outcome.RIGHT: 1, Outcome.WRONG: 5}


@pytest.mark.parametrize("hostile", ["0", "99999999"])  # the first in order, the last in order
def test_a_hostile_answer_costs_two_failures_and_nobody_s_vote(hostile):
    honest = ["1/2", "2/4", "0.5", "3", "3.0", "6/2", "-1", "5"]
    compare = Comparer([hostile])
    (found,), outcomes = votes.vote_classes([[*honest, hostile]], compare)
    assert found == [*classes_of(honest, _equal), hostile]
    assert outcomes[Outcome.TIMEOUT] == votes.MAX_FAILURES == 2


def test_many_hostile_answers_cost_two_failures_each_at_most():
    hostile = [str(i) for i in range(1000, 1030)]
    _, outcomes = votes.vote_classes([["1/2", "0.5", *hostile]], Comparer(hostile))
    assert 0 < outcomes[Outcome.TIMEOUT] <= 2 * len(hostile)


def _naive_cons(row, k):
    """cons@k of answers as fractions, counted; right is the value 1/2."""
    chances = []
    for start in range(0, len(row) - k + 1, k):
        count = Counter(Fraction(a) for a in row[start : start + k] if a is not None)
        most = [value for value, num in count.items() if num == max(count.values())]
        chances.append(Fraction(sum(v == Fraction(1, 2) for v in most), len(most) or 1))
    return sum(chances) / len(chances)


@hypothesis.given(st.integers(1, 20), st.integers(1, 4), st.data())
@hypothesis.settings(deadline=None)
def test_cons_of_any_number_of_samples_is_a_naive_count(num_samples, num_problems, data):
    """Ties, silence and left-over samples included; k above the samples is an error."""
    row = st.lists(st.sampled_from(SPELLINGS), min_size=num_samples, max_size=num_samples)
    rows = data.draw(st.lists(row, min_size=num_problems, max_size=num_problems))
    right = [[a is not None and Fraction(a) == Fraction(1, 2) for a in row] for row in rows]
    found, _ = votes.vote_classes(rows, Comparer())
    for k in range(1, num_samples + 1):
        naive = [float(_naive_cons(row, k)) for row in rows]
        np.testing.assert_allclose(
            pass_at_k.problem_cons_at_k(found, right, k), naive, rtol=0, atol=1e-12
        )
    with pytest.raises(ValueError, match=f"k={num_samples + 1} needs"):
        pass_at_k.problem_cons_at_k(found, right, num_samples + 1)


def test_a_tie_of_two_spellings_of_the_right_answer_is_none():
    """Two against two against one: the right value has three votes of five, and no half."""
    rows = [["1/2", "2/4", "3", "3", "0.5"]]
    found, _ = votes.vote_classes(rows, Comparer())
    assert pass_at_k.cons_at_k(found, [[1, 1, 0, 0, 1]], 5) == 1.0
    assert pass_at_k.cons_at_k(found, [[1, 1, 0, 0, 1]], 4) == 0.5  # two against two
