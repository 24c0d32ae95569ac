"""The cosine reward at its ends, its middle, and against the reasons it was made for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_jax.rewards import cosine


def test_ends_and_middle_by_hand():
    # cos(0) = 1 gives the short value, cos(pi/2) = 0 the mean of both
    assert cosine.reward(True, 0, 100) == 2.0
    assert cosine.reward(True, 50, 100) == pytest.approx(1.5)
    assert cosine.reward(False, 0, 100) == -10.0
    assert cosine.reward(False, 50, 100) == pytest.approx(-5.0)
    assert cosine.reward(True, 100, 100) == cosine.reward(False, 101, 100) == -10.0


@given(st.integers(1, 10**5), st.integers(0, 10**5), st.integers(0, 10**5))
def test_short_is_better_when_right_long_when_wrong_and_right_always_wins(limit, first, second):
    first, second = sorted((first % limit, second % limit))
    assert cosine.reward(True, first, limit) >= cosine.reward(True, second, limit)
    assert cosine.reward(False, first, limit) <= cosine.reward(False, second, limit)
    assert cosine.reward(True, second, limit) >= 1.0 > 0.0 >= cosine.reward(False, first, limit)


def test_padding_a_wrong_answer_never_pays_and_to_the_limit_costs_most():
    paid = [cosine.reward(False, length, 64) for length in range(65)]
    assert max(paid) <= 0.0
    assert paid[64] == min(paid)


@pytest.mark.parametrize(("length", "limit"), [(0, 0), (-1, 5), (3, -5)])
def test_lengths_that_cannot_be_are_errors(length, limit):
    with pytest.raises(ValueError, match="in tokens"):
        cosine.reward(True, length, limit)
