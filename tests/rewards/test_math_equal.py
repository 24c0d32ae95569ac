"""Math answers against their references: labelled pairs, properties, and what must stay cheap."""

import pathlib
import re
import threading
import time

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import math_equal, math_text, math_units
from r1_jax.rewards.verdict import Outcome

HERE = pathlib.Path(__file__).parent


def _rows(name):
    return [tuple(line.split("\t")) for line in (HERE / name).read_text().splitlines()]


PAIRS = _rows("math_pairs.tsv")  # kind, label, reference, answer
KNOWN = {row[:4]: row[4] for row in _rows("math_disagreements.tsv")}  # and how it was graded


def test_there_are_enough_pairs_of_both_labels():
    assert len(PAIRS) == len(set(PAIRS)) >= 300
    labels = [label for _, label, _, _ in PAIRS]
    assert set(labels) == {"equal", "different"}
    assert min(labels.count("equal"), labels.count("different")) >= 150


def test_every_disagreement_with_the_labels_is_listed_and_none_is_a_false_right():
    found = {}
    for pair in PAIRS:
        _, label, reference, answer = pair
        outcome = math_equal.equal(answer, reference).outcome
        if (outcome == Outcome.RIGHT) != (label == "equal"):
            found[pair] = outcome.name
    assert found == KNOWN
    assert "RIGHT" not in found.values()
    assert len(found) <= 0.05 * len(PAIRS)


@pytest.mark.parametrize(
    "answer", [None, "", " \n", "the answer is 5", "5 or maybe \\foo", "$5$ $6$"]
)
def test_no_answer_of_the_asked_kind_is_unparsed(answer):
    assert math_equal.equal(answer, "5").outcome == Outcome.UNPARSED


@pytest.mark.parametrize(
    "reference", ["", " ", "(((", "\\foo{2}", "9^{9^9}", "\\frac{1}{0}", "x" * 513, "1 + ", "2=3=4"]
)
def test_a_reference_that_cannot_be_read_is_not_held_against_the_answer(reference):
    for answer in ("5", reference, "", None):
        assert math_equal.equal(answer, reference).outcome == Outcome.BAD_REFERENCE


TOWERS = [
    "9^{9^{9}}",
    "9^9^9",
    "9**9**9",
    "(9^{9999})^{9999}",
    "((9^{999})^{999})^{999}",
    "{{9^{9999}}^{9999}}",
    "9^{99999999}",
    "10^{(9^9)}",
    "2^{10^{10}}",
    "99999999!",
    "(9!)!",
    "9!!",
    "(99!)^{(99!)}",
    "2^{9!}",
    "x^{9^{9^9}}",
    "e^{e^{e^{9^9}}}",
    "\\binom{999999}{499999}",
    "\\binom{2^{99}}{2^{98}}",
    "\\sum_{k=1}^{10^9} k",
    "\\prod_{k=1}^{10^9} k",
    "\\int_0^1 x^x dx",
    "\\lim_{x\\to 0} x",
    "9" * 400,
    "1e999999999",
    "\\sqrt{" * 60 + "2" + "}" * 60,
    "(" * 200 + "1" + ")" * 200,
]


@pytest.mark.parametrize("answer", TOWERS)
def test_what_would_hang_or_fill_memory_is_refused_unread(answer, monkeypatch):
    def parse(*arguments, **named):
        raise AssertionError("reached the parser")

    monkeypatch.setattr(math_equal.math_verify, "parse", parse)
    start = time.process_time()
    assert math_equal.equal(answer, "7").outcome != Outcome.RIGHT
    assert math_equal.equal(answer, "7").value == 0.0
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize("answer", ["7^{2023}", "2^{10000}", "1000!", "x^{100}+x^{99}", "e^{-x^2}"])
def test_honest_large_answers_are_not_refused(answer):
    assert math_equal.equal(answer, answer + "+1-1").outcome == Outcome.RIGHT
    assert math_equal.equal(answer, answer + "+1").outcome == Outcome.WRONG


def test_it_works_off_the_main_thread_where_signals_do_not():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(math_equal.equal("\\sqrt{12}+x", "x+2\\sqrt{3}").outcome)
    )
    thread.start()
    thread.join()
    assert found == [Outcome.RIGHT]


TOKENS = [
    "1", "2", "0.5", "x", "y", "+", "-", "*", "/", "^", "(", ")", "[", "]", "{", "}", ",", "=", "<",
    "\\frac{1}{2}", "\\sqrt{", "\\pi", "\\pm", "\\cup", "%", "\\%", "$", "\\text{cm}", "or", " ",
    "!", "\\infty", "\\", "e", "i", "\u00b2", "\n",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30) | st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
def test_never_raises_and_a_readable_reference_is_right_for_itself(text):
    math_equal.equal(text, "\\frac{x}{2}")
    outcome = math_equal.equal(text, text).outcome
    assert outcome in (Outcome.RIGHT, Outcome.BAD_REFERENCE)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(1, 10**4), st.integers(1, 50))
def test_a_fraction_in_any_spelling_equals_itself_and_not_its_neighbour(above, below, factor):
    fraction = sympy.Rational(above, below)
    spelled = f"\\frac{{{above * factor}}}{{{below * factor}}}"
    assert math_equal.equal(spelled, str(fraction)).outcome == Outcome.RIGHT
    near = f"\\frac{{{above * factor + 1}}}{{{below * factor}}}"
    assert math_equal.equal(near, str(fraction)).outcome == Outcome.WRONG


def test_plain_numbers_need_no_algebra(monkeypatch):
    monkeypatch.setattr(math_equal, "_tree", None)  # a call would raise
    for answer, outcome in (
        ("0.5", Outcome.RIGHT),
        ("2/3", Outcome.WRONG),
        ("50\\%", Outcome.RIGHT),
    ):
        assert math_equal.equal(answer, "\\frac{1}{2}").outcome == outcome


def test_units_convert_within_their_kind():
    assert math_units.measure("cm2") == ("length^2", sympy.Rational(1, 10**4))
    assert math_units.measure("#apple") is None
    assert math_equal.equal("10000 cm^2", "1 \\text{ m}^2").outcome == Outcome.RIGHT
    assert math_equal.equal("100 cm^2", "1 \\text{ m}^2").outcome == Outcome.WRONG


def test_commands_that_are_not_listed_are_refused():
    for command in ("int", "sum", "input", "write", "def", "href"):
        assert not re.search(rf"\b{command}\b", " ".join(math_text._COMMANDS))
        assert math_equal.equal(f"\\{command}{{2}}", "2").outcome == Outcome.UNPARSED


@pytest.mark.parametrize(
    "answer", ["\\sin \\pi", "x-x", "\\sqrt{2}\\cdot\\sqrt{2}-2", "0 \\cdot x"]
)
def test_what_cancels_is_zero_and_what_is_only_small_is_not(answer):
    assert math_equal.equal(answer, "0").outcome == Outcome.RIGHT
    for small in ("10^{-50}", "2^{-9999}", "x \\cdot 10^{-50}"):
        assert math_equal.equal(small, "0").outcome == Outcome.WRONG
        assert math_equal.equal(small, answer).outcome in (Outcome.WRONG, Outcome.UNPARSED)


def test_small_letters_are_constants_and_variables_and_no_choices():
    assert math_equal.equal("2.718282", "e").outcome == Outcome.RIGHT
    assert math_equal.equal("(C)", "c").outcome != Outcome.BAD_REFERENCE
    assert math_equal.equal("c", "C").outcome == Outcome.RIGHT


def test_a_decimal_is_no_formula_with_variables():
    assert math_equal.equal("0.4999999", "x+\\sqrt{2}").outcome == Outcome.WRONG
    assert math_equal.equal("x+\\sqrt{2}", "0.4999999").outcome == Outcome.WRONG
