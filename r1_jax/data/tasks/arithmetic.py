"""Arithmetic: the value of a short expression with + - *, a whole number."""

import json
import random
import re
from collections.abc import Iterator, Mapping

from r1_jax.data.tasks import countdown as countdown_task
from r1_jax.data.tasks import task
from r1_jax.rewards import accuracy as grading
from r1_jax.rewards import countdown, verdict

MARKERS = ("check", "wait", "wrong")


def sample_problem(
    rng: random.Random, difficulty: countdown_task.Difficulty
) -> tuple[str, int] | None:
    """(expression, value), or None where the value drawn lies outside the target's bounds.

    Numbers and operators are uniform; `difficulty` bounds numbers and value as in countdown.
    """
    numbers = [
        rng.randint(difficulty.min_number, difficulty.max_number)
        for _ in range(difficulty.num_numbers)
    ]
    text, total, term = str(numbers[0]), 0, numbers[0]
    for number in numbers[1:]:
        operator = rng.choice("+-*")
        text += f" {operator} {number}"
        if operator == "*":
            term *= number
        else:
            total, term = total + term, number if operator == "+" else -number
    value = total + term
    return (text, value) if difficulty.min_target <= value <= difficulty.max_target else None


def problems(
    difficulty: countdown_task.Difficulty, sizes: Mapping[str, int], seed: int
) -> dict[str, list[task.Prompt]]:
    """Distinct problems for every split; 3 + 5 and 5 + 3 are the same problem.

    Raises ValueError if there are not enough of them.
    """
    rng = random.Random(f"arithmetic {seed}")

    def candidates() -> Iterator[tuple[str | None, task.Prompt]]:
        num_rejected = 0
        while num_rejected < 10_000:
            problem = sample_problem(rng, difficulty)
            num_rejected += 1
            if problem is not None:
                num_rejected = 0
                text, value = problem
                reference = json.dumps({"answer": str(value)})
                prompt = task.Prompt(0, f"What is {text}?", reference)
                yield countdown.canonical(text), prompt

    return task.fill(
        candidates(),
        sizes,
        "ask for fewer, or widen num_numbers, min_number..max_number or min_target..max_target",
    )


def accuracy(answer: str | None, prompt: task.Prompt) -> verdict.Verdict:
    """rewards.accuracy's verdict on an answer."""
    return grading.exact(answer, json.loads(prompt.reference)["answer"])


def ideal(prompt: task.Prompt) -> str:
    """The value."""
    return json.loads(prompt.reference)["answer"]


def vote(answer: str | None) -> str | None:
    """The answer without surrounding space; whole numbers in one spelling (+07 is 7)."""
    text = (answer or "").strip()
    if re.fullmatch(r"[+-]?[0-9]{1,30}", text):
        return str(int(text))
    return text or None
