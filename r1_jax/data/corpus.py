"""The synthetic corpus a base model is pre-trained on; it plays the web's part.

Every document is a question under the Table 1 template and a completion. Countdown's completions
show one behaviour each. Which behaviours occur, how often, and how often they end right, is
configuration: that decides whether RL can take off (Gandhi et al., arXiv:2503.01307), so an
ablation is one override. Of other tasks nothing is known but their answers: `answers` writes
guesses alone. Only problems of the train split are written about.
"""

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from r1_jax.data.tasks import countdown
from r1_jax.data.tasks import task as tasks
from r1_jax.text import chat


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Shares of the behaviours (they are normalised) and their quality."""

    num_documents: int = 300_000
    guess: float = 0.35  # an answer without any reasoning
    steps: float = 0.35  # one attempt, step by step, answered without a check
    search: float = 0.20  # tries, checks, says so and tries again
    give_up: float = 0.10  # tries, checks, and resigns without an answer
    guess_right: float = 0.25  # share of guesses that are right
    steps_right: float = 0.25  # share of single attempts that are right
    search_on: float = 0.75  # chance that a search goes on after a failed attempt
    search_attempts: int = 12  # attempts of a search at most
    search_settles: float = 0.25  # share of searches that answer with a failed attempt
    near_of: int = 3  # a failed attempt is the nearest to the target of this many drawn
    max_value: int = 149  # largest number that any step computes

    def __post_init__(self):
        shares = (self.guess, self.steps, self.search, self.give_up)
        if not 0 <= self.search_on < 1:
            raise ValueError(f"search_on={self.search_on} must be a chance in [0, 1)")
        if min(shares) < 0 or sum(shares) == 0:
            raise ValueError(
                f"guess, steps, search, give_up = {shares} must be shares >= 0, not all 0"
            )
        if self.search_attempts < 1 or self.near_of < 1 or self.num_documents < 1:
            raise ValueError("search_attempts, near_of and num_documents must be at least 1")


class Attempt(NamedTuple):
    """One way to use all numbers: its steps as text, the expression, and its value."""

    steps: str
    expression: str
    value: int


class Document(NamedTuple):
    """What is trained on: prompt, then completion, then the stop token."""

    prompt: str
    completion: str


GUESS = "I guess."
RESIGN = " I give up."
NOTHING = "none"
CHECK = ". check: "
VERDICTS = {True: " is ", False: " is not "}
RETRY = (". wait, ", ". but maybe ", ". wrong, retry: ")


def symbols(max_value: int, tags: chat.Tags) -> tuple[str, ...]:
    """What a tokenizer for this corpus holds as single tokens: numbers, operators, phrases, tags.

    One token a number makes arithmetic learnable for a small model; one token a phrase makes
    "try again" one decision, so lengths read as steps of reasoning.
    """
    marks = (" + ", " - ", " * ", " / ", " = ", ", ", "(", ")", ".", GUESS, RESIGN, NOTHING)
    form = (f" {tags.think_open} ", f" {tags.think_close} {tags.answer_open} ")
    end = (f" {tags.answer_close}",)
    phrases = (CHECK, *VERDICTS.values(), *RETRY)
    numbers = tuple(str(n) for n in range(max_value + 1))
    return (*chat.symbols(tags), *form, *end, *marks, *phrases, *numbers)


@functools.lru_cache(maxsize=1 << 12)
def attempts(numbers: tuple[int, ...], max_value: int) -> tuple[Attempt, ...]:
    """All sequences of steps over the sorted `numbers`; every step gives a whole number.

    Values lie in 1..max_value. The larger operand of + and * is written first: one spelling.
    """
    found = []

    def combine(values: tuple[tuple[int, str], ...], steps: tuple[str, ...]):
        if len(values) == 1:
            value, expression = values[0]
            found.append(Attempt(", ".join(steps), expression.removeprefix("(")[:-1], value))
            return
        for i in range(len(values)):
            for j in range(i):
                (a, a_text), (b, b_text) = sorted((values[i], values[j]), reverse=True)
                rest = tuple(v for k, v in enumerate(values) if k not in (i, j))
                results = [("+", a + b), ("-", a - b), ("*", a * b)]
                if a % b == 0:
                    results.append(("/", a // b))
                for operator, value in results:
                    if 1 <= value <= max_value:
                        combined = (value, f"({a_text} {operator} {b_text})")
                        step = f"{a} {operator} {b} = {value}"
                        combine((*rest, combined), (*steps, step))

    combine(tuple((n, str(n)) for n in numbers), ())
    return tuple(sorted(set(found)))


def completion(
    rng: random.Random,
    config: CorpusConfig,
    numbers: Sequence[int],
    target: int,
    tags: chat.Tags,
) -> str | None:
    """One completion in a behaviour drawn from `config`; None if the problem has no attempt of
    either kind, right and wrong, within max_value. A search never tries the same steps twice."""
    options = attempts(tuple(sorted(numbers)), config.max_value)
    right = [a for a in options if a.value == target]
    wrong = [a for a in options if a.value != target]
    if not right or not wrong:
        return None
    behaviour = rng.choices(
        ("guess", "steps", "search", "give_up"),
        (config.guess, config.steps, config.search, config.give_up),
    )[0]
    if behaviour in ("guess", "steps"):
        share = config.guess_right if behaviour == "guess" else config.steps_right
        attempt = rng.choice(right if rng.random() < share else wrong)
        thought = GUESS if behaviour == "guess" else f"{attempt.steps}."
        return chat.completion(thought, attempt.expression, tags)
    resigns = behaviour == "give_up"
    settles = resigns or rng.random() < config.search_settles
    # Without memory, so that nothing is learnt about when a search ends except that it can.
    num_attempts, most = 1, 2 if resigns else config.search_attempts
    while num_attempts < most and rng.random() < config.search_on:
        num_attempts += 1
    tried: list[Attempt] = []
    for i in range(num_attempts):
        if i == num_attempts - 1 and not settles:
            tried.append(rng.choice(right))
            break
        untried = [a for a in wrong if a not in tried] or wrong
        drawn = rng.sample(untried, min(config.near_of, len(untried)))
        tried.append(min(drawn, key=lambda a: abs(a.value - target)))
    thought = ""
    for i, attempt in enumerate(tried):
        is_right = attempt.value == target
        thought += f"{attempt.steps}{CHECK}{attempt.value}{VERDICTS[is_right]}{target}"
        thought += "." if i == len(tried) - 1 else rng.choice(RETRY)
    if resigns:
        return chat.completion(thought + RESIGN, NOTHING, tags)
    return chat.completion(thought, tried[-1].expression, tags)


def documents(
    config: CorpusConfig,
    difficulty: countdown.Difficulty,
    seed: int,
    tags: chat.Tags,
) -> Iterator[Document]:
    """config.num_documents documents about problems of the train split; a function of `seed`."""
    rng = random.Random(f"corpus {seed}")
    written = num_rejected = 0
    while written < config.num_documents:
        if num_rejected == 10_000:
            raise ValueError(
                f"no problem could be written about with steps of at most max_value="
                f"{config.max_value}; raise it, or lower the task's numbers and targets"
            )
        numbers, target = countdown.sample_problem(rng, difficulty)
        num_rejected += 1
        if countdown.split_of(numbers, target) != "train":
            continue
        text = completion(rng, config, numbers, target, tags)
        if text is not None:
            written, num_rejected = written + 1, 0
            yield Document(chat.render(countdown.question(numbers, target), tags), text)


def answers(
    config: CorpusConfig,
    problems: Sequence[tasks.Prompt],
    ideal: Callable[[tasks.Prompt], str],
    seed: int,
    tags: chat.Tags,
) -> Iterator[Document]:
    """config.num_documents guesses about `problems`, in order and around again.

    config.guess_right of them are right; the others give the answer of another problem, drawn at
    random. The shares of the behaviours are not read: only countdown's solver can search.
    """
    rng = random.Random(f"corpus {seed}")
    for i in range(config.num_documents):
        problem = problems[i % len(problems)]
        is_right = rng.random() < config.guess_right
        answer = ideal(problem if is_right else rng.choice(problems))
        yield Document(chat.render(problem.question, tags), chat.completion(GUESS, answer, tags))
