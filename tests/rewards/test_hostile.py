"""Every reward against completions that were written to fool, hang or break it: hostile.jsonl.

Each line is a completion in pieces (text, times), with whether it has the asked form. Nothing in
the file is right for the problems below. What a search finds is added to the file by hand.
"""

import json
import os
import pathlib
import time
import tracemalloc
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_jax.rewards import (
    accuracy,
    combine,
    countdown,
    extract,
    language,
    math_equal,
    repetition,
    verdict,
)
from r1_jax.rewards import format as form

TAGS = SimpleNamespace(
    think_open="<think>",
    think_close="</think>",
    answer_open="<answer>",
    answer_close="</answer>",
)
LINES = (pathlib.Path(__file__).parent / "hostile.jsonl").read_text().splitlines()
HOSTILE = [json.loads(line) for line in LINES]
DEADLINE = 5.0  # CPU seconds for all rewards of one completion, under load; see the slowest below

TRUTH = {  # what grades an answer; none of them may find one of these right
    "countdown": lambda answer: countdown.verdict(answer, (3, 5, 7), 22),
    "exact": lambda answer: accuracy.exact(answer, "42"),
    "maths, a number": lambda answer: math_equal.equal(answer, "42"),
    "maths, a fraction": lambda answer: math_equal.equal(answer, "\\frac{1}{2}"),
    "maths, a formula": lambda answer: math_equal.equal(answer, "x^2+42\\sqrt{3}"),
    "maths, a tuple": lambda answer: math_equal.equal(answer, "(42, 22)"),
    "maths, an interval": lambda answer: math_equal.equal(answer, "(-\\infty, 42]"),
    "maths, an equation": lambda answer: math_equal.equal(answer, "y = 42x + 1"),
    "maths, a choice": lambda answer: math_equal.equal(answer, "C"),
    "maths, words": lambda answer: math_equal.equal(answer, "no solution"),
}
CONFIG = combine.RewardConfig(
    tags_weight=1.0,
    language_weight=1.0,
    length_weight=1.0,
    length_target=100,
    cosine_weight=1.0,
    cosine_max_length=200,
    repetition_weight=1.0,
    gates=("accuracy",),
)


def completion(row):
    return "".join(piece * times for piece, times in row["text"])


def judge(text):
    """Grades `text` by every reward; raises AssertionError where one pays what it should not."""
    answer = extract.answer(text, TAGS)
    for name, grade in TRUTH.items():
        found = grade(answer)
        assert found.outcome in (verdict.Outcome.WRONG, verdict.Outcome.UNPARSED), name
        assert found.value == 0.0, name
    assert 0.0 <= language.share(text, "en") <= 1.0
    assert -1.0 <= repetition.penalty(text, 8) <= 0.0
    found = combine.grade(
        text, "q", "r", TRUTH["maths, a number"], TAGS,
        config=CONFIG, custom=None, draw=(0, 0, 0, 0), num_tokens=len(text.encode()),
    )  # fmt: skip
    assert found.is_valid
    assert found.total <= 0.0  # the gate is closed


def test_there_are_enough_and_each_is_another():
    assert len(HOSTILE) >= 200
    assert len({json.dumps(row["text"]) for row in HOSTILE}) == len(HOSTILE)
    assert len({row["name"] for row in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("row", HOSTILE, ids=[row["name"] for row in HOSTILE])
def test_earns_nothing_and_takes_no_time(row):
    text = completion(row)
    start = time.process_time()
    judge(text)
    assert form.strict(text, TAGS) == float(row["earns_form"])
    assert time.process_time() - start < DEADLINE


def test_memory_is_flat_over_repeated_grading():
    # Large ones are left out: that they are dropped is seen from the small ones too.
    texts = [completion(row) for row in HOSTILE if sum(n for _, n in row["text"]) < 10][::3]
    for text in texts:
        judge(text)
    tracemalloc.start()
    try:
        for text in texts:
            judge(text)
        before, _ = tracemalloc.get_traced_memory()
        for text in texts * 2:
            judge(text)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2**20


PIECES = [
    *vars(TAGS).values(), "42", "22", "3", "5", "7", "0", "9" * 50, "x", "y", "e", "i", "+", "-",
    "*", "/", "^", "**", "!", "=", "<", "\\le", "(", ")", "[", "]", "{", "}", "\\{", "\\}", ",",
    ";", "\\frac{", "}{", "\\frac12", "\\sqrt{", "\\pi", "\\infty", "\\pm", "\\cup", "\\in",
    "\\text{", "\\binom{", "\\sin", "\\ln", "\\log_", "^{\\circ}", "\\begin{pmatrix}",
    "\\end{pmatrix}", "\\\\", "&", "%", "\\%", "$", "\\$", " or ", " and ", " cm", "no solution",
    "A", "(C)", ".", " ", "\n", "\\boxed{", "\u00b2", "\u221a", "\u6211", "\x00", "_", "|",
]  # fmt: skip


def seconds():
    return float(os.environ.get("R1_JAX_FUZZ_SECONDS", "600"))


@pytest.mark.fuzz
def test_a_search_finds_no_completion_that_raises_or_hangs():
    """Prints what it did; a failure shows the completion, which then belongs into hostile.jsonl."""
    end = time.monotonic() + seconds()
    slowest = [0.0, ""]
    num_graded = [0]

    @settings(
        max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=25).map("".join), st.booleans())
    def search(text, is_wrapped):
        text = f"<think>a</think><answer>{text}</answer>" if is_wrapped else text
        answer = extract.answer(text, TAGS)
        start = time.process_time()
        for name, grade in TRUTH.items():
            assert not grade(answer).outcome.is_failure, name
        assert 0.0 <= form.per_tag(text, TAGS) <= 1.0
        assert 0.0 <= language.share(text, "en") <= 1.0
        assert -1.0 <= repetition.penalty(text, 3) <= 0.0
        spent = time.process_time() - start
        num_graded[0] += 1
        if spent > slowest[0]:
            slowest[:] = [spent, text]
        assert spent < DEADLINE

    while time.monotonic() < end:
        search()
    print(f"{num_graded[0]} completions; the slowest took {slowest[0]:.2f} s: {slowest[1]!r}")  # noqa: T201
