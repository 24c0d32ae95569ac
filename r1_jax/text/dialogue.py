"""How chat models write a conversation down: the layouts of R1, Qwen and Llama, as values.

A layout may write the beginning of the answer itself (R1's opens the think tag). What the model
adds is then not all of the answer: `graded` puts the two together for whoever looks for tags, and
`completion` takes them apart for whoever trains on answers.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

_MARK = re.compile(r"<\|.*?\|>|<｜.*?｜>")  # how these families spell special tokens


class Message(NamedTuple):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """The text before and after every kind of turn.

    stop: the token that ends an answer; a tokenizer's stop_ids must have it. prefill: what the
    layout writes of every answer. default_system: the system turn of a conversation without one;
    None writes no such turn. preamble: stands in every system turn. strips: contents lose the
    white space around them. thought_end: earlier answers are shown only from behind its last
    occurrence, "" shows all.
    """

    begin: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    stop: str
    default_system: str | None = None
    preamble: str = ""
    prefill: str = ""
    strips: bool = False
    thought_end: str = ""

    def marks(self) -> tuple[str, ...]:
        """What no turn may contain, as it would end the turn or begin another."""
        around = (self.begin, self.stop, *self.system, *self.user, *self.assistant)
        return tuple(dict.fromkeys(_MARK.findall(" ".join(around))))


R1 = Layout(
    begin="<｜begin▁of▁sentence｜>",
    system=("", ""),
    user=("<｜User｜>", ""),
    assistant=("<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    stop="<｜end▁of▁sentence｜>",
    prefill="<think>\n",
    thought_end="</think>",
)
"""DeepSeek-R1 and its distilled students: it opens the think tag, and drops earlier thoughts."""

R1_OPEN = dataclasses.replace(R1, prefill="")
"""R1's, with the think tag left to the model: what a format reward can be earned under."""

QWEN = Layout(
    begin="",
    system=("<|im_start|>system\n", "<|im_end|>\n"),
    user=("<|im_start|>user\n", "<|im_end|>\n"),
    assistant=("<|im_start|>assistant\n", "<|im_end|>\n"),
    stop="<|im_end|>",
    default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
)
"""Qwen2.5-Instruct. Its base models end texts with another token, <|endoftext|>."""

QWEN_MATH = dataclasses.replace(
    QWEN,
    default_system="Please reason step by step, and put your final answer within \\boxed{}.",
)
"""Qwen2.5-Math-Instruct."""

LLAMA3 = Layout(
    begin="<|begin_of_text|>",
    system=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
    user=("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
    assistant=("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    stop="<|eot_id|>",
    default_system="",
    preamble="Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
    strips=True,
)
"""Llama 3.1, 3.2 and 3.3 without tools; the date is the one their template falls back to."""

LAYOUTS = {"r1": R1_OPEN, "qwen": QWEN, "qwen_math": QWEN_MATH, "llama3": LLAMA3}
"""What a run may be told to use. R1's own prefill is not among them: a policy under it never writes
the opening tag, and a format reward could not be earned (open-r1 #560)."""


def question(layout: Layout, asked: str, examples: Sequence[tuple[str, str]] = ()) -> str:
    """The prompt of one question behind earlier turns, (question, answer) each."""
    turns = []
    for earlier, answered in examples:
        turns += [Message("user", earlier), Message("assistant", answered)]
    return prompt(layout, [*turns, Message("user", asked)])


def prompt(layout: Layout, messages: Sequence[Message]) -> str:
    """The text from which the model answers the last message, a user's.

    Raises ValueError for turns in another order than [system,] user, assistant, user, ..., and for
    a content with one of the layout's marks in it: it could speak for somebody else.
    """
    messages = list(messages)
    has_system = bool(messages) and messages[0].role == "system"
    turns = messages[has_system:]
    roles = [message.role for message in turns]
    if roles != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        raise ValueError(
            f"turns of {[message.role for message in messages]}; they go [system,] user, "
            "assistant, user, ... and end with the user's"
        )
    text = layout.begin
    system = messages[0].content if has_system else layout.default_system
    if system is not None:
        before, after = layout.system
        text += before + layout.preamble + _content(layout, system) + after
    for message in turns:
        before, after = layout.user if message.role == "user" else layout.assistant
        content = message.content
        if message.role == "assistant" and layout.thought_end:
            content = content.rsplit(layout.thought_end, 1)[-1]
        text += before + _content(layout, content) + after
    return text + layout.assistant[0] + layout.prefill


def _content(layout: Layout, content: str) -> str:
    for mark in layout.marks():
        if mark in content:
            raise ValueError(
                f"a turn contains {mark!r}, which ends or begins turns: {content!r:.80}"
            )
    return content.strip() if layout.strips else content


def completion(layout: Layout, answer: str) -> str:
    """What the model has to add to `prompt` so that its answer is `answer`, stop token included.

    Raises ValueError for an answer that does not begin as the layout has begun it.
    """
    if not answer.startswith(layout.prefill):
        raise ValueError(
            f"the layout begins every answer with {layout.prefill!r}, this one begins "
            f"{answer[:40]!r}; use a layout without prefill, or such answers"
        )
    return answer.removeprefix(layout.prefill) + layout.stop


def graded(layout: Layout, generated: str) -> str:
    """The whole answer of a model that generated `generated` after `prompt`, for the rewards.

    With a prefill the model never writes the tag that a format reward looks for, and could never
    earn it: graders must see this text and not the model's part.
    """
    return layout.prefill + generated
