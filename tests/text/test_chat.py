"""The template is the paper's; tags are values."""

import pytest

from r1_jax.text import chat

TABLE_1 = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves "
    "it. The assistant first thinks about the reasoning process in the mind and then provides the "
    "user with the answer. The reasoning process and answer are enclosed within <think> </think> "
    "and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer> answer here </answer>. User: What is 1 + 1? Assistant:"
)


def test_render_is_table_1():
    assert chat.render("What is 1 + 1?") == TABLE_1


def test_completion_holds_thought_and_answer_between_their_tags():
    text = " <think> one and one </think> <answer> 2 </answer>"
    assert chat.completion("one and one", "2") == text


def test_tags_are_values():
    tags = chat.Tags("[T]", "[/T]", "[A]", "[/A]")
    text = chat.render("q", tags) + chat.completion("t", "a", tags)
    assert "<" not in text
    assert text.count("[T]") == 3 and text.count("[/A]") == 3
    assert text.endswith("User: q Assistant: [T] t [/T] [A] a [/A]")


def test_symbols_cover_the_constant_text():
    head, tail, *tags = chat.symbols()
    assert chat.render("q") == f"{head} q{tail}"
    assert tags == ["<think>", "</think>", "<answer>", "</answer>"]


@pytest.mark.parametrize("tags", [("<a>", "<a>", "<b>", "</b>"), ("", "</a>", "<b>", "</b>")])
def test_tags_that_cannot_be_told_apart_are_an_error(tags):
    with pytest.raises(ValueError, match="four tags must differ"):
        chat.Tags(*tags)


def test_worked_examples_stand_before_the_question_as_they_were_answered():
    text = chat.few_shot([("q1", " a1"), ("q2", " a2")], "q3")
    head = chat.head()
    assert text == (f"{head} q1 Assistant: a1\n\n{head} q2 Assistant: a2\n\n{head} q3 Assistant:")
    assert chat.few_shot([], "q3") == chat.render("q3")
