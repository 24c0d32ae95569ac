"""Which part of a text was said before."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import repetition


@pytest.mark.parametrize(
    ("text", "ngram", "paid"),
    [
        ("", 1, 0.0),
        ("a b c d", 2, 0.0),
        ("a b a b", 2, -1 / 3),  # ab ba ab: one of three
        ("a a a a", 1, -0.75),
        ("a a a", 4, 0.0),  # shorter than one n-gram
        ("Wait, wait! WAIT", 1, -2 / 3),
        ("\u7b49\u7b49\u7b49\u7b49", 2, -2 / 3),  # each Han character counts
        ("x = 1\nx = 1", 3, -1 / 4),
    ],
)
def test_by_hand(text, ngram, paid):
    assert repetition.penalty(text, ngram) == pytest.approx(paid)


def test_a_loop_costs_nearly_everything_and_honest_text_nearly_nothing():
    loop = "so we try the next number and then " * 200
    assert repetition.penalty(loop, 8) < -0.99
    honest = " ".join(f"we add {i} to {i * 7} and find {i * 8}, which" for i in range(40))
    assert repetition.penalty(honest, 8) > -0.05


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(1, 10))
def test_stays_within_its_range_and_a_copy_never_pays(text, ngram):
    assert -1.0 <= repetition.penalty(text, ngram) <= 0.0
    once, twice = (repetition.penalty(text * k + " end", ngram) for k in (4, 12))
    assert twice <= once + 1e-9


def test_a_megabyte_takes_less_than_seconds():
    start = time.process_time()
    repetition.penalty("ab " * 350_000, 8)
    assert time.process_time() - start < 3


def test_ngram_must_be_positive():
    with pytest.raises(ValueError, match="ngram=0"):
        repetition.penalty("a", 0)
