"""Answers that mean the same vote together, in whatever order and spelling they come."""

import itertools
from collections import Counter
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from r1_jax.evaluation import pass_at_k, votes

SPELLINGS = ["1/2", "2/4", "0.5", "3", "3.0", "6/2", "-1", None]


def _equal(a, b):
    return Fraction(a) == Fraction(b)


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
    assert votes.vote_classes(answers, _equal) == expected


def test_without_an_equality_a_spelling_is_a_class():
    assert votes.vote_classes(["0.5", "1/2", None], None) == ["0.5", "1/2", None]


def test_equality_is_not_asked_of_equal_spellings_nor_of_silence():
    asked = []

    def equal(a, b):
        asked.append((a, b))
        return _equal(a, b)

    votes.vote_classes(["3", "3", None, "1/2", "2/4", "3"], equal)
    assert asked == [("3", "1/2"), ("3", "2/4"), ("1/2", "2/4")]


@hypothesis.given(st.lists(st.sampled_from(SPELLINGS), max_size=8))
@hypothesis.settings(deadline=None)
def test_two_answers_share_a_class_iff_they_are_equal(answers):
    classes = votes.vote_classes(answers, _equal)
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
    classes = votes.vote_classes(answers, near)
    shuffled = votes.vote_classes([answers[i] for i in order], near)
    assert shuffled == [classes[i] for i in order]


@hypothesis.given(
    st.lists(st.lists(st.sampled_from(SPELLINGS), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(1, 6),
)
@hypothesis.settings(deadline=None)
def test_cons_by_equivalence_is_a_naive_count_over_values(rows, k):
    """The majority value among k, counted on Fractions; right is the value 1/2."""
    right = [[a is not None and Fraction(a) == Fraction(1, 2) for a in row] for row in rows]
    naive = []
    for row in rows:
        chances = []
        for start in range(0, 6 - k + 1, k):
            count = Counter(Fraction(a) for a in row[start : start + k] if a is not None)
            most = [v for v, n in count.items() if n == max(count.values())]
            chances.append(sum(v == Fraction(1, 2) for v in most) / len(most) if most else 0)
        naive.append(np.mean(chances))
    classes = [votes.vote_classes(row, _equal) for row in rows]
    found = pass_at_k.problem_cons_at_k(classes, right, k)
    np.testing.assert_allclose(found, naive, atol=1e-12)


def test_votes_by_spelling_would_lose_an_election_that_equivalence_wins():
    answers, right = ["1/2", "2/4", "0.5", "3", "3"], [[1, 1, 1, 0, 0]]
    assert pass_at_k.cons_at_k([answers], right, 5) == 0.0
    assert pass_at_k.cons_at_k([votes.vote_classes(answers, _equal)], right, 5) == 1.0
