"""The spans of a completion that a grader looks at. Linear in the text's length, no patterns."""

from typing import Protocol


class Tags(Protocol):
    """The four tags of the template (paper Table 1) as values; text.chat.Tags is one."""

    @property
    def think_open(self) -> str: ...
    @property
    def think_close(self) -> str: ...
    @property
    def answer_open(self) -> str: ...
    @property
    def answer_close(self) -> str: ...


def answer(text: str, tags: Tags) -> str | None:
    """The stripped content of the last complete answer block after the thinking, or None.

    Thinking must be closed: only text after the last `think_close` counts, and a `think_open`
    after it (thinking begun again, never ended) leaves no answer. `think_open` itself may be
    absent, as where a template has opened it already. A block is complete when its open tag is
    followed by a close tag; of nested blocks the innermost counts, and an unfinished block after
    a complete one is ignored. The last block counts, not the first, so that a guess written early
    cannot be kept in reserve.
    """
    end_of_thought = text.rfind(tags.think_close)
    if end_of_thought < 0:
        return None
    start = end_of_thought + len(tags.think_close)
    if text.find(tags.think_open, start) >= 0:
        return None
    last_close = text.rfind(tags.answer_close, start)
    if last_close < 0:
        return None
    begin = text.rfind(tags.answer_open, start, last_close)
    if begin < 0:
        return None
    begin += len(tags.answer_open)
    return text[begin : text.find(tags.answer_close, begin)].strip()


BOX = "\\boxed{"


def boxed(text: str) -> str | None:
    """The stripped content of the \\boxed{...} that ends last, its braces counted; or None."""
    stack: list[int] = []  # where the open braces stand
    found = None
    for position, letter in enumerate(text):
        if letter == "{":
            stack.append(position)
        elif letter == "}" and stack:
            begin = stack.pop()
            if text.startswith(BOX, begin - len(BOX) + 1) and begin >= len(BOX) - 1:
                found = text[begin + 1 : position].strip()
    return found


def thought(text: str, tags: Tags) -> str | None:
    """The stripped thinking, or None where it is not closed.

    From the first `think_open` (the start of the text where there is none before the end) to the
    last `think_close`. None as well when thinking is opened again after that.
    """
    end = text.rfind(tags.think_close)
    if end < 0 or text.find(tags.think_open, end) >= 0:
        return None
    begin = text.find(tags.think_open, 0, end)
    return text[0 if begin < 0 else begin + len(tags.think_open) : end].strip()


def summary(text: str, tags: Tags) -> str | None:
    """The stripped text after the thinking, what a user reads; None where thinking is not closed.

    As for `answer`: the last `think_close` counts, and thinking begun again after it leaves none.
    """
    end = text.rfind(tags.think_close)
    if end < 0 or text.find(tags.think_open, end) >= 0:
        return None
    return text[end + len(tags.think_close) :].strip()
