"""What a mathematical answer's text is read as, and what is refused unread."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import math_guard, math_text


def read(text):
    cleaned = math_guard.clean(text)
    return None if cleaned is None else math_text.read(cleaned)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234.50", math_text.Number(Fraction(2469, 2), 2)),
        ("$\\boxed{-1\\frac{1}{2}}$", math_text.Number(Fraction(-3, 2))),
        ("0.1\\overline{6}", math_text.Number(Fraction(1, 6))),
        ("6.02\\times 10^{23}", math_text.Number(Fraction(602 * 10**21))),
        ("50\\%", math_text.Number(Fraction(50), None, "%")),
        ("3 \\text{ ft}^2", math_text.Number(Fraction(3), None, "ft2")),
        ("5 apples", math_text.Number(Fraction(5), None, "#apple")),
        ("No  Solution.", math_text.Words("no solution")),
        ("2x", math_text.Formula("2x")),
        ("x > 3", math_text.Relation("3", "<", "x")),
    ],
)
def test_read(text, found):
    assert read(text) == found


def test_brackets_lists_and_chains_are_groups():
    one, two = math_text.Number(Fraction(1)), math_text.Number(Fraction(2))
    assert read("[1, 2)") == read("1 \\le x < 2") == math_text.Group("[", (one, two), ")")
    assert read("\\{1, 2\\}") == math_text.Group("{", (one, two), "}")
    assert read("1 and 2") == read("x = 1 or x = 2") == math_text.Group("{", (one, two), "}")
    assert read("1, 2") == read("x = 1, x = 2") == math_text.Group("", (one, two), "")


@pytest.mark.parametrize(
    "text", ["x" * 513, "(" * 17 + ")" * 17, ")(", "a\x00b", "$5$ or $6$", "9" * 301, "9^9^9"]
)
def test_refused_unread(text):
    assert math_guard.clean(text) is None


def test_a_list_too_long_is_no_answer():
    assert read(",".join("1" * math_text.MAX_ITEMS)) is not None
    assert read(",".join("1" * (math_text.MAX_ITEMS + 1))) is None


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("0123456789.,%$^{}()[]\\fractext x=<>!", max_size=60))
def test_never_raises(text):
    read(text)
