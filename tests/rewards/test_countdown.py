"""The Countdown grader against honest, wrong and hostile expressions."""

import itertools
import time
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import countdown
from r1_jax.rewards.verdict import Outcome

NUMBERS, TARGET = (3, 5, 7), 22

RIGHT = ["3*5+7", "7+3*5", "7+(5*3)", "  ( ( 3 * 5 ) ) + 7 \n", "(" * 16 + "3*5+7" + ")" * 16]
WRONG = {
    "another value": "3+5+7",
    "a number missing": "3*5",
    "a number twice": "3*5+7+7-7",
    "a number not given": "3*5+7*1",
    "the target itself": "22",
    "digits joined": "35-7",
    "division by zero": "3/(7-7)+5",
    "zero divided by zero": "5/(7-7)*3",
}
UNPARSED = {
    "no answer": None,
    "empty": "",
    "blank": " \n",
    "trailing equation": "3*5+7 = 22",
    "trailing words": "3*5+7 is right",
    "leading words": "answer: 3*5+7",
    "power": "3**5+7",
    "floor division": "7//3+5",
    "power tower": "9**9**9",
    "caret": "3^5+7",
    "modulo": "7%5*3",
    "unary minus": "--1",
    "leading minus": "-3+5+7",
    "leading plus": "+3",
    "minus in parentheses": "3*(-5)+7",
    "two numbers side by side": "3 5",
    "a group side by side": "3(5)+7",
    "exponent": "1e9",
    "hexadecimal": "0x10",
    "underscore": "1_0",
    "decimal point": "3.0*5+7",
    "leading zero": "03*5+7",
    "digits of another script": "\u0663*5+7",
    "full-width digits": "\uff13*5+7",
    "superscript": "3\u00b2",
    "times sign": "3\u00d75+7",
    "unicode minus": "7\u22125+3",
    "no-break space": "3*5\u00a0+7",
    "null byte": "3*5+7\x00",
    "boxed": "\\boxed{3*5+7}",
    "a tag": "<answer>3*5+7",
    "list": "[3*5+7]",
    "comma": "3*5,7",
    "call": "__import__('os').system('true')",
    "lambda": "(lambda: 22)()",
    "not closed": "(3*5+7",
    "not opened": "3*5+7)",
    "empty parentheses": "()",
    "operator at the end": "3*5+",
    "operators alone": "+*/",
    "too many digits": "1000000000",
    "too deep": "(" * 17 + "3*5+7" + ")" * 17,
    "too long": "3*5+7" + " " * 256,
}


@pytest.mark.parametrize("answer", RIGHT)
def test_right(answer):
    found = countdown.verdict(answer, NUMBERS, TARGET)
    assert (found.value, found.outcome) == (1.0, Outcome.RIGHT)


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name):
    found = countdown.verdict(WRONG[name], NUMBERS, TARGET)
    assert (found.value, found.outcome) == (0.0, Outcome.WRONG)


@pytest.mark.parametrize("name", UNPARSED)
def test_unparsed(name):
    found = countdown.verdict(UNPARSED[name], NUMBERS, TARGET)
    assert (found.value, found.outcome) == (0.0, Outcome.UNPARSED)
    assert countdown.canonical(UNPARSED[name]) is None


def test_fractions_are_exact():
    # 8/(3 - 8/3) = 24; in floats 8/3 is not exact
    assert countdown.verdict("8/(3-8/3)", (3, 3, 8, 8), 24).outcome == Outcome.RIGHT
    # 10^8/3 * 3 differs from 10^8 by nothing, 10^8/3*3 + 1 by one
    assert countdown.verdict("100000000/3*3", (3, 3, 100000000), 10**8).outcome == Outcome.RIGHT


def test_operators_bind_as_usual_and_to_the_left():
    assert countdown.verdict("9-5-3", (3, 5, 9), 1).outcome == Outcome.RIGHT
    assert countdown.verdict("9-(5-3)", (3, 5, 9), 7).outcome == Outcome.RIGHT
    assert countdown.verdict("12/6/2", (2, 6, 12), 1).outcome == Outcome.RIGHT
    assert countdown.verdict("12/(6/2)", (2, 6, 12), 4).outcome == Outcome.RIGHT
    assert countdown.verdict("2+3*4", (2, 3, 4), 14).outcome == Outcome.RIGHT


def test_repeated_numbers_are_used_as_often_as_given():
    assert countdown.verdict("4+4", (4, 4), 8).outcome == Outcome.RIGHT
    assert countdown.verdict("4+4", (4,), 8).outcome == Outcome.WRONG
    assert countdown.verdict("4*2", (4, 4, 2), 8).outcome == Outcome.WRONG


@pytest.mark.parametrize(
    ("numbers", "target"),
    [((), 1), ((-3, 5), 2), ((3.0, 5), 8), ((True, 5), 6), ((10**9,), 10**9), ((3, 5), 8.0)],
)
def test_a_problem_that_no_expression_can_answer_is_a_bad_reference(numbers, target):
    assert countdown.verdict("3+5", numbers, target).outcome == Outcome.BAD_REFERENCE


@pytest.mark.parametrize(
    "answer",
    [
        "(" * 10**6,
        "9" * 10**6,
        "1+" * 500_000 + "1",
        "(" * 500_000 + ")" * 500_000,
        "9**" * 300_000,
        "9/" * 127 + "9",
        "(" * 15 + "999999999/" * 20 + "7" + ")" * 15,
        "*".join(["999999999"] * 25),
    ],
)
def test_nothing_takes_long(answer):
    start = time.process_time()
    countdown.verdict(answer, NUMBERS, TARGET)
    countdown.canonical(answer)
    assert time.process_time() - start < 0.5


@given(st.text(max_size=40) | st.text("0123456789+-*/() .=e", max_size=40))
@settings(max_examples=300, deadline=None)
def test_never_raises(text):
    countdown.verdict(text, NUMBERS, TARGET)
    countdown.canonical(text)


# Expressions with the value we know from building them, to compare with what the parser finds.
LEAF = st.integers(0, 20).map(lambda n: (str(n), Fraction(n), (n,)))


def _join(pair):
    (left, left_value, left_numbers), operator, (right, right_value, right_numbers) = pair
    numbers = left_numbers + right_numbers
    if left_value is None or right_value is None or (operator == "/" and right_value == 0):
        return f"({left}){operator}({right})", None, numbers
    operation = {
        "+": Fraction.__add__,
        "-": Fraction.__sub__,
        "*": Fraction.__mul__,
        "/": Fraction.__truediv__,
    }[operator]
    return f"({left}){operator}({right})", operation(left_value, right_value), numbers


EXPRESSION = st.recursive(
    LEAF, lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(_join), max_leaves=5
)


@given(EXPRESSION)
@settings(max_examples=300, deadline=None)
def test_value_is_the_one_the_expression_was_built_with(built):
    text, value, numbers = built
    is_whole = value is not None and value.denominator == 1
    target = int(value) if is_whole else 10**6
    outcome = countdown.verdict(text, numbers, target).outcome
    assert outcome == (Outcome.RIGHT if is_whole else Outcome.WRONG)
    assert countdown.verdict(text, numbers, target + 1).outcome == Outcome.WRONG


@given(EXPRESSION)
@settings(max_examples=300, deadline=None)
def test_canonical_keeps_value_and_numbers_and_is_its_own_canonical(built):
    text, value, numbers = built
    spelled = countdown.canonical(text)
    if value is None:
        assert spelled is None
        return
    assert countdown.canonical(spelled) == spelled
    used = spelled.translate(str.maketrans("+-*/()", "      ")).split()
    assert Counter(map(int, used)) == Counter(numbers)
    if value.denominator == 1:
        assert countdown.verdict(spelled, numbers, int(value)).outcome == Outcome.RIGHT


def test_canonical_joins_orders_and_parentheses_and_nothing_else():
    for spelling in ("3*(5+7)", "(7+5)*3", "((3))*((7)+(5))", " ( 5 + 7 ) *3"):
        assert countdown.canonical(spelling) == countdown.canonical("3*(5+7)")
    sums = {countdown.canonical("+".join(order)) for order in itertools.permutations("357")}
    assert len(sums) == 1
    assert countdown.canonical("9-(5-3)") == countdown.canonical("9-5+3") == "3+9-5"
    assert countdown.canonical("8/(2/4)") == countdown.canonical("8*4/2") == "4*8/2"
    assert countdown.canonical("3*5+7") != countdown.canonical("3+5*7")
    assert countdown.canonical("9-5") != countdown.canonical("5-9")
    assert countdown.canonical("5/(3-3)") is None
