"""Which span is the answer, and which is the thinking, whatever the completion does."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import extract

TAGS = SimpleNamespace(
    think_open="<think>",
    think_close="</think>",
    answer_open="<answer>",
    answer_close="</answer>",
)
OTHER_TAGS = SimpleNamespace(think_open="[[", think_close="]]", answer_open="{{", answer_close="}}")
TEMPLATE = "<think> reasoning process here </think> <answer> answer here </answer>"

CASES = {
    "the ideal form": (" <think> a </think> <answer> 3+5 </answer>", "3+5", "a"),
    "no tags": ("3+5", None, None),
    "empty": ("", None, None),
    "answer alone": ("<answer>3+5</answer>", None, None),
    "answer before thinking": ("<answer>3+5</answer><think>a</think>", None, "a"),
    "answer inside the thinking": ("<think>a <answer>3+5</answer> b", None, None),
    "guess in the thinking, answer after it": (
        "<think><answer>1</answer></think><answer>2</answer>",
        "2",
        "<answer>1</answer>",
    ),
    "two answers: the last counts": (
        "<think>a</think><answer>1</answer><answer>2</answer>",
        "2",
        "a",
    ),
    "unfinished second answer": ("<think>a</think><answer>1</answer><answer>2", "1", "a"),
    "answer not closed": ("<think>a</think><answer>1", None, "a"),
    "answer never opened": ("<think>a</think>1</answer>", None, "a"),
    "nested answers": ("<think>a</think><answer><answer>1</answer></answer>", "1", "a"),
    "nested thinking": (
        "<think><think>a</think>b</think><answer>1</answer>",
        "1",
        "<think>a</think>b",
    ),
    "thinking never opened": ("a</think><answer>1</answer>", "1", "a"),
    "thinking opened again": ("<think>a</think><answer>1</answer><think>b", None, None),
    "thinking closed after the answer": (
        "<think>a</think><answer>1</answer></think>",
        None,
        "a</think><answer>1</answer>",
    ),
    "empty blocks": ("<think></think><answer></answer>", "", ""),
    "the template echoed, then answered": (
        f"{TEMPLATE}. User: q Assistant: <think>a</think><answer>1</answer>",
        "1",
        "reasoning process here </think> <answer> answer here </answer>. "
        "User: q Assistant: <think>a",
    ),
    "upper-case tags": ("<THINK>a</THINK><ANSWER>1</ANSWER>", None, None),
    "text after the answer": ("<think>a</think><answer>1</answer> or 2", "1", "a"),
    "several lines": ("<think>\na\nb\n</think>\n<answer>\n1\n</answer>\n", "1", "a\nb"),
}


@pytest.mark.parametrize("name", CASES)
def test_spans_of_hostile_and_honest_completions(name):
    text, answer, thought = CASES[name]
    assert extract.answer(text, TAGS) == answer
    assert extract.thought(text, TAGS) == thought


def test_tags_are_values():
    assert extract.answer("[[a]] {{1}}", OTHER_TAGS) == "1"
    assert extract.thought("[[a]] {{1}}", OTHER_TAGS) == "a"
    assert extract.answer("[[a]] {{1}}", TAGS) is None


PIECES = st.sampled_from([*vars(TAGS).values(), "1", " ", "<", "answer>", "\x00", "é"])


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_spans_never_raise_and_hold_no_answer_tag(text):
    answer = extract.answer(text, TAGS)
    extract.thought(text, TAGS)
    summary = extract.summary(text, TAGS)
    assert summary is None or TAGS.think_close not in summary
    if answer is not None:
        assert TAGS.answer_open not in answer and TAGS.answer_close not in answer


@pytest.mark.parametrize(
    "piece", ["x", "<think>", "</think>", "<answer>", "</answer>", "<answer></answer>"]
)
def test_a_megabyte_takes_milliseconds(piece):
    text = "<think></think>" + piece * (10**6 // len(piece))
    start = time.process_time()
    extract.answer(text, TAGS)
    extract.thought(text, TAGS)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{ 3 + 4 }.", "3 + 4"),
        (r"\boxed{1} and \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} \boxed{2", "1"),
        (r"\boxed{a \boxed{b} c}", r"a \boxed{b} c"),
        ("boxed{1} {2}", None),
        ("", None),
        (r"} \boxed{1}", "1"),
    ],
)
def test_the_box_that_ends_last(text, found):
    assert extract.boxed(text) == found


def test_a_hundred_thousand_open_boxes_take_no_time():
    start = time.process_time()
    assert extract.boxed("\\boxed{" * 100_000) is None
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("<think> a </think> It is 4. ", "It is 4."),
        ("a </think>b</think> c", "c"),
        ("<think>a</think>", ""),
        ("<think>a</think> <answer> 4 </answer>", "<answer> 4 </answer>"),
        ("It is 4.", None),
        ("<think> a </think> b <think> c", None),
    ],
)
def test_the_summary_is_what_stands_after_the_thinking(text, summary):
    assert extract.summary(text, TAGS) == summary
