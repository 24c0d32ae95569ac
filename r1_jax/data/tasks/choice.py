"""GPQA Diamond and MMLU: published records -> questions of which one lettered choice is right."""

import json
import random
import re
import string
from collections.abc import Sequence

from r1_jax.data.tasks import mathematics, published, task
from r1_jax.rewards import verdict

GPQA_DIAMOND = published.Source(
    "gpqa_diamond",
    ("gpqa_diamond.csv", "*.csv", "*.jsonl", "*.parquet"),
    "Idavidrein/gpqa, gpqa_diamond.csv",
)
MMLU = published.Source(
    "mmlu",
    ("test/*_test.csv", "*_test.csv", "**/test*.parquet", "*.jsonl"),
    "cais/mmlu (parquet), or the authors' folder test/*_test.csv",
    columns=("question", "A", "B", "C", "D", "answer"),
)

_LETTERS = frozenset(string.ascii_uppercase)
_STATED = re.compile(r"(?i:answer[ *_:]{0,8}(?:is)?[ *_:($]{0,8})([A-Z])(?![A-Za-z])")
_ALONE = re.compile(r"[ *_($]*([A-Z])[ *_)$.:]*")


def gpqa(source: published.Source, found: Sequence[published.Record]) -> list[task.Prompt]:
    """Graduate questions with four choices, in an order that is a function of the question."""
    prompts = []
    for index, record in enumerate(found):
        question, right, *wrong = (
            str(published.field(record, (name,), source, index)).strip()
            for name in (
                "Question", "Correct Answer",
                "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3",
            )
        )  # fmt: skip
        choices = [right, *wrong]
        order = list(range(4))
        # The published files put the right answer first.
        random.Random(f"gpqa {question}").shuffle(order)
        prompts.append(_prompt(index, question, [choices[i] for i in order], order.index(0)))
    return prompts


def mmlu(source: published.Source, found: Sequence[published.Record]) -> list[task.Prompt]:
    """Questions with their choices in the published order; the answer is a letter or an index."""
    prompts = []
    for index, record in enumerate(found):
        answer = published.field(record, ("answer",), source, index)
        choices = record.get("choices") or [
            published.field(record, (letter,), source, index) for letter in "ABCD"
        ]
        place = answer
        if not isinstance(answer, int):  # str.index finds "" and "AB" too
            place = string.ascii_uppercase.index(answer) if answer in _LETTERS else -1
        if not 0 <= place < len(choices) <= 26:
            raise ValueError(
                f"{source.name}: record {index} has the answer {answer!r} to {len(choices)} choices"
            )
        question = published.field(record, ("question",), source, index)
        prompts.append(_prompt(index, question.strip(), choices, place))
    return prompts


def _prompt(uid: int, question: str, choices: Sequence[str], place: int) -> task.Prompt:
    letters = string.ascii_uppercase[: len(choices)]
    listed = "\n".join(
        f"{letter}) {choice}" for letter, choice in zip(letters, choices, strict=True)
    )
    ask = f'Think step by step, then end with the line "Answer: X", X being one of {letters}.'
    reference = json.dumps({"answer": letters[place], "letters": letters})
    return task.Prompt(uid, f"{question}\n\n{listed}\n\n{ask}", reference)


def vote(answer: str | None) -> str | None:
    """The letter that an answer settles on, in upper case; None where it names none.

    An answer that is but a letter (boxed, in parentheses or not), else the last "Answer: X".
    """
    text = (answer or "").strip()
    inner = mathematics.boxed(text)
    for candidate in (text, inner or ""):
        alone = _ALONE.fullmatch(candidate[:64].upper()) if len(candidate) <= 64 else None
        if alone:
            return alone.group(1)
    stated = _STATED.findall(text)
    return stated[-1].upper() if stated else None


def accuracy(answer: str | None, prompt: task.Prompt) -> verdict.Verdict:
    """RIGHT for the reference's letter; UNPARSED where the answer names none of the choices."""
    reference = json.loads(prompt.reference)
    letter = vote(answer)
    if letter is None or letter not in reference["letters"]:
        return verdict.UNPARSED
    return verdict.RIGHT if letter == reference["answer"] else verdict.WRONG


def ideal(prompt: task.Prompt) -> str:
    """The asked line."""
    return f"Answer: {json.loads(prompt.reference)['answer']}"
