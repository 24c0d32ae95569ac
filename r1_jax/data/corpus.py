"""The synthetic corpus a base model is pre-trained on; it plays the web's part.

Every document is a question under the Table 1 template and a completion. Countdown's completions
show one behaviour each. Which behaviours occur, how often, and how often they end right, is
configuration: that decides whether RL can take off (Gandhi et al., arXiv:2503.01307), so an
ablation is one override. Of other tasks nothing is known but their answers: `answers` writes
guesses alone. Only problems of the train split are written about.
"""

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from r1_jax.data.tasks import countdown, general
from r1_jax.data.tasks import task as tasks
from r1_jax.rewards import extract
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
    languages: tuple[str, ...] = ("en",)  # of chains, drawn whatever the question's is
    switch: float = 0.0  # chance that a search goes on in another language than it was in
    statements: float = 0.0  # share of documents that state one fact of data.tasks.general

    def __post_init__(self):
        shares = (self.guess, self.steps, self.search, self.give_up)
        if not 0 <= self.search_on < 1:
            raise ValueError(f"search_on={self.search_on} must be a chance in [0, 1)")
        if min(shares) < 0 or sum(shares) == 0:
            raise ValueError(
                f"guess, steps, search, give_up = {shares} must be shares >= 0, not all 0"
            )
        if not 0 <= self.statements < 1:
            raise ValueError(f"statements={self.statements} must be a share in [0, 1)")
        if not self.languages or any(name not in PHRASES for name in self.languages):
            raise ValueError(f"languages={self.languages} must be some of {', '.join(PHRASES)}")
        if not 0 <= self.switch <= 1 or (self.switch and len(self.languages) == 1):
            raise ValueError(
                f"switch={self.switch} must be a chance in [0, 1], and 0 with one language"
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


class Phrases(NamedTuple):
    """What a chain of thought says besides its steps, in one language."""

    opening: str  # said where a corpus has several languages: no chain is then without words
    guess: str
    resign: str
    check: str
    verdicts: tuple[str, str]  # is not, is
    retry: tuple[str, ...]
    end: str  # of a sentence


PHRASES = {
    "en": Phrases(
        opening="We try: ",
        guess="I guess.",
        resign=" I give up.",
        check=". check: ",
        verdicts=(" is not ", " is "),
        retry=(". wait, ", ". but maybe ", ". wrong, retry: "),
        end=".",
    ),
    "zh": Phrases(
        opening="我们试：",
        guess="我猜。",
        resign="我放弃。",
        check="。检查：",
        verdicts=("不是", "就是"),
        retry=("。等等，", "。也许换成", "。错了，重来："),
        end="。",
    ),
}
NOTHING = "none"


def symbols(config: CorpusConfig, tags: chat.Tags) -> tuple[str, ...]:
    """What a tokenizer for this corpus holds as single tokens: numbers, operators, phrases, tags.

    One token a number makes arithmetic learnable for a small model; one token a phrase makes
    "try again" one decision, so lengths read as steps of reasoning.
    """
    first, *others = [PHRASES[language] for language in config.languages]
    marks = (" + ", " - ", " * ", " / ", " = ", ", ", "(", ")", first.end, first.guess)
    marks += (first.resign, NOTHING)
    form = (f" {tags.think_open} ", f" {tags.think_close} {tags.answer_open} ")
    end = (f" {tags.answer_close}",)
    phrases = (first.check, *reversed(first.verdicts), *first.retry)
    if others:
        phrases += (first.opening, extract.BOX, "}")
    for other in others:
        phrases += (other.opening, other.guess, other.resign, other.check, *other.verdicts)
        phrases += (*other.retry, other.end)
    numbers = tuple(str(n) for n in range(config.max_value + 1))
    if config.statements:
        numbers += general.symbols()
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
    # One language draws nothing: its corpus is the same whether or not there could be others.
    several = len(config.languages) > 1
    language = rng.choice(config.languages) if several else config.languages[0]
    words = PHRASES[language]
    opening = words.opening if several else ""
    if behaviour in ("guess", "steps"):
        share = config.guess_right if behaviour == "guess" else config.steps_right
        attempt = rng.choice(right if rng.random() < share else wrong)
        is_guess = behaviour == "guess"
        thought = words.guess if is_guess else f"{opening}{attempt.steps}{words.end}"
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
    thought = opening
    for i, attempt in enumerate(tried):
        is_right = attempt.value == target
        thought += f"{attempt.steps}{words.check}{attempt.value}{words.verdicts[is_right]}{target}"
        if i == len(tried) - 1:
            thought += words.end
            break
        if several and rng.random() < config.switch:
            language = rng.choice([name for name in config.languages if name != language])
            words = PHRASES[language]
        thought += rng.choice(words.retry)
    if resigns:
        return chat.completion(thought + words.resign, NOTHING, tags)
    return chat.completion(thought, tried[-1].expression, tags)


def documents(
    config: CorpusConfig,
    difficulty: countdown.Difficulty,
    seed: int,
    tags: chat.Tags,
    asked_in: Sequence[str] = ("en",),
) -> Iterator[Document]:
    """config.num_documents documents about problems of the train split; a function of `seed`.

    asked_in: languages of the questions, in turn; a chain's language does not heed them.
    """
    rng, turn = random.Random(f"corpus {seed}"), itertools.cycle(asked_in)
    written = num_rejected = 0
    while written < config.num_documents:
        if num_rejected == 10_000:
            raise ValueError(
                f"no problem could be written about with steps of at most max_value="
                f"{config.max_value}; raise it, or lower the task's numbers and targets"
            )
        if config.statements and not num_rejected and rng.random() < config.statements:
            written += 1
            yield Document("", rng.choice(general.statements()))
            continue
        numbers, target = countdown.sample_problem(rng, difficulty)
        num_rejected += 1
        if countdown.split_of(numbers, target) != "train":
            continue
        text = completion(rng, config, numbers, target, tags)
        if text is not None:
            written, num_rejected = written + 1, 0
            question = countdown.question(numbers, target, next(turn))
            yield Document(chat.render(question, tags), text)


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
        yield Document(
            chat.render(problem.question, tags), chat.completion(PHRASES["en"].guess, answer, tags)
        )
