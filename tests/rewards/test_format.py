"""The format reward is earned by the asked form and by nothing else."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import extract
from r1_jax.rewards import format as form

TAGS = SimpleNamespace(
    think_open="<think>",
    think_close="</think>",
    answer_open="<answer>",
    answer_close="</answer>",
)
GOOD = [
    " <think> a </think> <answer> 1 </answer>",
    "<think>a</think><answer>1</answer>",
    "\n<think>\na\n</think>\n\n<answer>\n1\n</answer>\n ",
    "<think></think><answer></answer>",
    "<think>2 < 3 > 1</think><answer>x</answer>",
]
BAD = {
    "empty": "",
    "no tags": "1",
    "text before": "So <think>a</think><answer>1</answer>",
    "text between": "<think>a</think> so <answer>1</answer>",
    "text after": "<think>a</think><answer>1</answer>.",
    "answer first": "<answer>1</answer><think>a</think>",
    "answer inside thinking": "<think>a<answer>1</answer></think>",
    "thinking inside answer": "<answer><think>a</think>1</answer>",
    "blocks cross": "<think>a<answer></think>1</answer>",
    "two answers": "<think>a</think><answer>1</answer><answer>2</answer>",
    "two thoughts": "<think>a</think><think>b</think><answer>1</answer>",
    "nested thinking": "<think><think>a</think></think><answer>1</answer>",
    "nested answers": "<think>a</think><answer><answer>1</answer></answer>",
    "a tag quoted in the thinking": "<think>the <answer> tag</think><answer>1</answer>",
    "thinking not opened": "a</think><answer>1</answer>",
    "thinking not closed": "<think>a<answer>1</answer>",
    "answer not closed": "<think>a</think><answer>1",
    "answer not opened": "<think>a</think>1</answer>",
    "closed before opened": "</think>a<think><answer>1</answer>",
    "upper case": "<THINK>a</THINK><ANSWER>1</ANSWER>",
    "spaced tag": "< think>a</think><answer>1</answer>",
    "the whole twice": "<think>a</think><answer>1</answer>" * 2,
}


@pytest.mark.parametrize("text", GOOD)
def test_the_asked_form_earns_one(text):
    assert form.strict(text, TAGS) == 1.0


@pytest.mark.parametrize("name", BAD)
def test_any_other_form_earns_zero(name):
    assert form.strict(BAD[name], TAGS) == 0.0


def test_tags_are_values():
    other = SimpleNamespace(think_open="[[", think_close="]]", answer_open="{{", answer_close="}}")
    assert form.strict("[[a]] {{1}}", other) == 1.0
    assert form.strict(GOOD[0], other) == 0.0


@settings(deadline=None)
@given(st.lists(st.sampled_from([*vars(TAGS).values(), "1", " "]), max_size=6).map("".join))
def test_what_earns_the_format_has_an_answer_and_a_thought(text):
    if form.strict(text, TAGS):
        assert extract.answer(text, TAGS) is not None
        assert extract.thought(text, TAGS) is not None


@pytest.mark.parametrize("piece", ["x", " ", "<think>", "<answer></answer>"])
def test_a_megabyte_takes_milliseconds(piece):
    start = time.process_time()
    form.strict("<think>" + piece * (10**6 // len(piece)) + "</think><answer></answer>", TAGS)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("text", "quarters"),
    [
        (GOOD[0], 4),
        ("so " + GOOD[1] + " then", 4),
        ("", 0),
        ("<think>a</think> 1", 2),
        ("a</think><answer>1</answer>", 3),
        ("<answer>1</answer><think>a</think>", 2),  # from the template's first tag on
        ("<think>" * 9 + "a</think><answer>1</answer>", 3),
        (GOOD[1] * 2, 0),
        ("</answer></think>", 1),
        ("<THINK>a</THINK>", 0),
    ],
)
def test_each_tag_earns_a_quarter_once_and_in_order(text, quarters):
    assert form.per_tag(text, TAGS) == quarters / 4


@settings(deadline=None)
@given(st.lists(st.sampled_from([*vars(TAGS).values(), "1", " "]), max_size=8).map("".join))
def test_the_strict_form_earns_every_tag_and_extra_tags_earn_nothing(text):
    if form.strict(text, TAGS):
        assert form.per_tag(text, TAGS) == 1.0
    spammed = text + "".join(vars(TAGS).values()) * 2
    assert form.per_tag(spammed, TAGS) == 0.0
