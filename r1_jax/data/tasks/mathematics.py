"""AIME, MATH-500 and GSM8K: published records -> problems whose answer is a number or a formula.

A question asks for a boxed answer (R1_FACTS 6.1); the template's answer block may hold the box or
the bare answer.
"""

import json
import re
from collections.abc import Sequence

from r1_jax.data.tasks import published, task
from r1_jax.rewards import math_equal, verdict

AIME_2024 = published.Source(
    "aime_2024",
    ("*.jsonl", "*.parquet", "*.csv"),
    "HuggingFaceH4/aime_2024 or Maxwell-Jia/AIME_2024",
)
AIME_2025 = published.Source(
    "aime_2025", ("*.jsonl", "*.parquet", "*.csv"), "opencompass/AIME2025 or math-ai/aime25"
)
MATH_500 = published.Source(
    "math_500", ("test*.jsonl", "test*.parquet", "*.jsonl"), "HuggingFaceH4/MATH-500"
)
GSM8K = published.Source(
    "gsm8k",
    ("test.jsonl", "test*.jsonl", "**/test*.parquet"),
    "openai/gsm8k, or gsm8k in tensorflow-datasets",
)

_ASK = "\nReason step by step, and put your final answer within \\boxed{}."
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")


def aime(source: published.Source, found: Sequence[published.Record]) -> list[task.Prompt]:
    """Problems whose answers are whole numbers 0..999; ValueError for one that is not."""
    prompts = []
    for index, record in enumerate(found):
        answer = str(published.field(record, ("answer", "Answer"), source, index)).strip()
        digits = re.fullmatch(r"([0-9]{1,3})(\.0|\^\\circ)?", answer)
        if digits is None:
            raise ValueError(
                f"{source.name}: record {index} has the answer {answer!r}; an AIME answer is a "
                "whole number 0..999"
            )
        question = published.field(record, ("problem", "Problem", "question"), source, index)
        prompts.append(_prompt(index, question, str(int(digits.group(1)))))
    return prompts


def math_500(source: published.Source, found: Sequence[published.Record]) -> list[task.Prompt]:
    """Problems of the MATH test set; answers are LaTeX."""
    return [
        _prompt(
            index,
            published.field(record, ("problem",), source, index),
            str(published.field(record, ("answer",), source, index)),
        )
        for index, record in enumerate(found)
    ]


def gsm8k(source: published.Source, found: Sequence[published.Record]) -> list[task.Prompt]:
    """Grade school problems; the answer stands after "####" in the worked solution."""
    prompts = []
    for index, record in enumerate(found):
        _, mark, answer = published.field(record, ("answer",), source, index).rpartition("####")
        if not mark or not answer.strip():
            raise ValueError(f'{source.name}: record {index} has no "#### answer" in its solution')
        question = published.field(record, ("question",), source, index)
        prompts.append(_prompt(index, question, answer.strip().replace(",", "")))
    return prompts


def _prompt(uid: int, question: str, answer: str) -> task.Prompt:
    return task.Prompt(uid, question.strip() + _ASK, json.dumps({"answer": answer}))


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{...} of `text`, braces balanced; None if it is incomplete."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if not depth:
            return text[start + len("\\boxed{") : position].strip()
    return None


def vote(answer: str | None) -> str | None:
    """The answer in its box, or the whole answer, without dollar signs and thousands' commas."""
    text = (answer or "").strip()
    inner = boxed(text)
    text = (text if inner is None else inner).strip("$ \n\t")
    return _THOUSANDS.sub("", text) or None


def equal(answer: str, other: str) -> bool:
    """Whether two voting keys are one answer, by value (rewards.math_equal)."""
    return math_equal.equal(answer, other).outcome == verdict.Outcome.RIGHT


def accuracy(answer: str | None, prompt: task.Prompt) -> verdict.Verdict:
    """rewards.math_equal's verdict on the answer's box, or on the whole answer without one."""
    return math_equal.equal(vote(answer), json.loads(prompt.reference)["answer"])


def ideal(prompt: task.Prompt) -> str:
    """The boxed reference."""
    return f"\\boxed{{{json.loads(prompt.reference)['answer']}}}"
