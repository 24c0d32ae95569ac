"""The R1-Zero prompt (paper Table 1) and the completion it asks for; the tags are values."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Tags:
    """The four marks around thought and answer. Raises ValueError unless they differ."""

    think_open: str = "<think>"
    think_close: str = "</think>"
    answer_open: str = "<answer>"
    answer_close: str = "</answer>"

    def __post_init__(self):
        tags = dataclasses.astuple(self)
        if "" in tags or len(set(tags)) < len(tags):
            raise ValueError(f"tags={tags}: the four tags must differ and not be empty")


def head(tags: Tags = Tags()) -> str:
    """The constant text before the question, ending in "User:".

    DeepSeek-R1 (arXiv:2501.12948v1) Table 1, word for word; there the tags are fixed.
    """
    return (
        "A conversation between User and Assistant. The user asks a question, and the Assistant "
        "solves it. The assistant first thinks about the reasoning process in the mind and then "
        "provides the user with the answer. The reasoning process and answer are enclosed within "
        f"{tags.think_open} {tags.think_close} and {tags.answer_open} {tags.answer_close} tags, "
        f"respectively, i.e., {tags.think_open} reasoning process here {tags.think_close} "
        f"{tags.answer_open} answer here {tags.answer_close}. User:"
    )


TAIL = " Assistant:"


def render(question: str, tags: Tags = Tags()) -> str:
    """The whole prompt; generation starts right after its last character, a colon.

    As in Table 1 nothing is pre-filled: a model has to open the think tag itself.
    """
    return f"{head(tags)} {question}{TAIL}"


def few_shot(examples: Sequence[tuple[str, str]], question: str, tags: Tags = Tags()) -> str:
    """The prompt of a question behind worked examples, (question, completion) each.

    What a base model is shown to make it write long chains (DeepSeek-R1 2.3.1).
    """
    shown = [render(asked, tags) + answered for asked, answered in examples]
    return "\n\n".join([*shown, render(question, tags)])


def completion(thought: str, answer: str, tags: Tags = Tags()) -> str:
    """The completion the template asks for, without the stop token; it starts with a space."""
    return (
        f" {tags.think_open} {thought} {tags.think_close}"
        f" {tags.answer_open} {answer} {tags.answer_close}"
    )


def symbols(tags: Tags = Tags()) -> tuple[str, ...]:
    """What a tokenizer trained for this template should hold as single tokens.

    The constant head then costs one token instead of some hundred, and as the tail is a token of
    its own, prompt and completion tokenise alike apart and together.
    """
    return (head(tags), TAIL, *dataclasses.astuple(tags))
