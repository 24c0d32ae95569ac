"""Filters: each drops what it is there for, and says so."""

import dataclasses

import pytest

from r1_jax.data import filters
from r1_jax.text import chat

TAGS = chat.Tags()
QUESTION = "Using the numbers [3, 5], write an expression that equals 8."
CONFIG = filters.FilterConfig()
LONG = "We try this. " + " + ".join(map(str, range(600)))
AGAIN = "so we check this and it is not right and we try once more. " * 5


@pytest.mark.parametrize(
    ("thought", "why"),
    [
        ("We try: 3 + 5 = 8. check: 8 is 8.", None),
        ("We try: 3 + 5 = 8。检查：8就是8。", "language"),
        ("我们试：3 + 5 = 8。", "language"),
        ("3 + 5 = 8", "language"),
        (AGAIN, "repetition"),
        (LONG, "long paragraph"),
        ("We try this: ```3 + 5```", "code block"),
        ("We try </think> this", "form"),
    ],
)
def test_the_first_filter_that_fails_is_named(thought, why):
    completion = chat.completion(thought, "3 + 5", TAGS)
    assert filters.why_dropped(QUESTION, completion, TAGS, CONFIG) == why


def test_the_language_is_the_question_s():
    completion = chat.completion("我们试：3 + 5 = 8。", "3 + 5", TAGS)
    assert filters.why_dropped("用数字 [3, 5] 写出算式。", completion, TAGS, CONFIG) is None


@pytest.mark.parametrize(
    ("change", "thought"),
    [
        ({"min_language": 0.0}, "我们试：3 + 5 = 8。"),
        ({"max_repetition": 1.0}, AGAIN),
        ({"repetition_ngram": 100}, AGAIN),
        ({"max_paragraph": 5000}, LONG),
        ({"code_blocks": True}, "We try this: ```3 + 5```"),
    ],
)
def test_every_limit_can_be_moved(change, thought):
    completion = chat.completion(thought, "3 + 5", TAGS)
    moved = dataclasses.replace(CONFIG, **change)
    assert filters.why_dropped(QUESTION, completion, TAGS, CONFIG) is not None
    assert filters.why_dropped(QUESTION, completion, TAGS, moved) is None


@pytest.mark.parametrize(
    "bad", [{"min_language": 2.0}, {"max_repetition": -1.0}, {"repetition_ngram": 0}]
)
def test_limits_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        filters.FilterConfig(**bad)
