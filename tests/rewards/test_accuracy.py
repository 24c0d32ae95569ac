"""Equality of plain answers."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import accuracy
from r1_jax.rewards.verdict import Outcome

CASES = [
    ("7", "7", Outcome.RIGHT),
    (" +7.0\n", "7", Outcome.RIGHT),
    ("07", "7", Outcome.RIGHT),
    ("-7", "7", Outcome.WRONG),
    ("7.01", "7", Outcome.WRONG),
    ("0.30", "0.3", Outcome.RIGHT),
    ("1e9", "1000000000", Outcome.UNPARSED),
    ("7 7", "7", Outcome.UNPARSED),
    ("7 or 8", "7", Outcome.UNPARSED),
    ("7.", "7", Outcome.UNPARSED),
    ("\u0667", "7", Outcome.UNPARSED),
    ("nan", "7", Outcome.UNPARSED),
    ("", "7", Outcome.UNPARSED),
    (None, "7", Outcome.UNPARSED),
    ("blue", "blue", Outcome.RIGHT),
    ("Blue", "blue", Outcome.WRONG),
    ("7", "blue", Outcome.WRONG),
    ("", "", Outcome.BAD_REFERENCE),
    ("7", " ", Outcome.BAD_REFERENCE),
]


@pytest.mark.parametrize(("answer", "reference", "outcome"), CASES)
def test_exact(answer, reference, outcome):
    found = accuracy.exact(answer, reference)
    assert found.outcome == outcome
    assert found.value == float(outcome == Outcome.RIGHT)


def test_equal_beyond_float_precision_is_still_told_apart():
    assert accuracy.exact("10000000000000000", "10000000000000001").outcome == Outcome.WRONG


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_never_raises(answer, reference):
    accuracy.exact(answer, reference)


def test_a_megabyte_of_digits_is_not_a_number():
    start = time.process_time()
    assert accuracy.exact("9" * 10**6, "9").outcome == Outcome.UNPARSED
    assert time.process_time() - start < 0.5
