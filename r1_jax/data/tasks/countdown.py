"""Countdown: reach a target from given numbers, each used exactly once, with + - * /."""

import dataclasses
import functools
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from r1_jax.data.tasks import task
from r1_jax.rewards import countdown, extract, verdict

MARKERS = ("check", "wait", "wrong")  # as in the synthetic corpus


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """Which problems are drawn; bounds are inclusive. Raises ValueError for impossible ones."""

    num_numbers: int = 3  # 2 to 6
    min_number: int = 1
    max_number: int = 20
    min_target: int = 10
    max_target: int = 99

    def __post_init__(self):
        if not 2 <= self.num_numbers <= 6:
            raise ValueError(f"num_numbers={self.num_numbers} must lie in 2..6")
        if not 1 <= self.min_number <= self.max_number < 10**6:
            raise ValueError(
                f"min_number={self.min_number}, max_number={self.max_number}: "
                "must satisfy 1 <= min_number <= max_number < 10**6"
            )
        if not 0 <= self.min_target <= self.max_target < 10**9:
            raise ValueError(
                f"min_target={self.min_target}, max_target={self.max_target}: "
                "must satisfy 0 <= min_target <= max_target < 10**9"
            )


QUESTIONS = {
    "en": "Using the numbers {numbers}, write an expression that equals {target}. "
    "Use + - * / and each number exactly once.",
    "zh": "用数字 {numbers} 写出等于 {target} 的算式。用 + - * / 且每个数字恰好用一次。",
}


def question(numbers: Sequence[int], target: int, language: str = "en") -> str:
    """The text of a problem, in one of the languages of QUESTIONS."""
    return QUESTIONS[language].format(numbers=list(numbers), target=target)


def identity(numbers: Sequence[int], target: int) -> tuple[int, ...]:
    """What makes two problems the same: their numbers in any order, and their target."""
    return (*sorted(numbers), target)


def split_of(numbers: Sequence[int], target: int) -> str:
    """The one split in which this problem may appear, whatever the configuration."""
    return task.split_of(identity(numbers, target))


def sample_problem(rng: random.Random, difficulty: Difficulty) -> tuple[tuple[int, ...], int]:
    """(numbers in random order, target): both uniform, redrawn until the target can be reached.

    A pure function of the state of `rng`. Raises ValueError after 10,000 problems that cannot be
    solved.
    """
    for _ in range(10_000):
        numbers = tuple(
            rng.randint(difficulty.min_number, difficulty.max_number)
            for _ in range(difficulty.num_numbers)
        )
        target = rng.randint(difficulty.min_target, difficulty.max_target)
        if is_reachable(numbers, target):
            return numbers, target
    raise ValueError(
        f"no target in {difficulty.min_target}..{difficulty.max_target} was reachable with "
        f"{difficulty.num_numbers} numbers of {difficulty.min_number}..{difficulty.max_number}; "
        "widen min_target..max_target, or change num_numbers or max_number"
    )


def is_reachable(numbers: Sequence[int], target: int | Fraction) -> bool:
    """Whether some expression over all of `numbers` equals `target` exactly."""
    numbers = tuple(sorted(numbers))
    if len(numbers) <= 3:  # few enough sets of numbers to remember all values of each
        return target in _values(numbers)  # an int finds its equal among Fractions
    return next(_trees(numbers, Fraction(target)), None) is not None


@functools.lru_cache(maxsize=1 << 14)
def _solutions(numbers: tuple[int, ...], target: int) -> tuple[str, ...]:
    spellings = {}
    for tree in _trees(numbers, Fraction(target)):
        text = _spelling(tree)
        spellings.setdefault(countdown.canonical(text), text)
    return tuple(sorted(spellings.values(), key=lambda text: (len(text), text)))


def solutions(numbers: Sequence[int], target: int) -> list[str]:
    """All solutions, shortest first; one of each kind (as rewards.countdown.canonical sees it).

    No step of a solution is negative: whatever can be reached can be reached without, and people
    write it so. Fractions do occur. Empty if the target cannot be reached.
    """
    return list(_solutions(tuple(sorted(numbers)), target))


def ideal(prompt: task.Prompt) -> str:
    """The shortest solution of a problem."""
    reference = json.loads(prompt.reference)
    return solutions(reference["numbers"], reference["target"])[0]


def accuracy(answer: str | None, prompt: task.Prompt) -> verdict.Verdict:
    """rewards.countdown's verdict on an answer: on its last box, where it has one."""
    reference = json.loads(prompt.reference)
    return countdown.verdict(final(answer), reference["numbers"], reference["target"])


def vote(answer: str | None) -> str | None:
    """One spelling for all answers that are the same expression; None does not vote."""
    return countdown.canonical(final(answer))


def final(answer: str | None) -> str | None:
    """The content of an answer's last box, or the whole of an answer without one."""
    boxed = extract.boxed(answer) if answer is not None else None
    return answer if boxed is None else boxed


def problems(
    difficulty: Difficulty, sizes: Mapping[str, int], seed: int, languages: Sequence[str] = ("en",)
) -> dict[str, list[task.Prompt]]:
    """Distinct problems for every split, within each asked in `languages` in turn.

    Raises ValueError if there are not enough of them.
    """
    rng = random.Random(f"countdown {seed}")

    def candidates() -> Iterator[tuple[tuple[int, ...], task.Prompt]]:
        while True:
            numbers, target = sample_problem(rng, difficulty)
            reference = json.dumps({"numbers": numbers, "target": target})
            prompt = task.Prompt(0, question(numbers, target), reference)
            yield identity(numbers, target), prompt

    found = task.fill(
        candidates(),
        sizes,
        "ask for fewer, or widen min_number..max_number or min_target..max_target",
    )

    def asked(prompt: task.Prompt, language: str) -> task.Prompt:
        text = question(**json.loads(prompt.reference), language=language)
        return dataclasses.replace(prompt, question=text)

    return {
        split: list(map(asked, prompts, itertools.cycle(languages)))
        for split, prompts in found.items()
    }


class _Tree(NamedTuple):
    """A number (operator "") or an operation on two trees."""

    value: Fraction
    operator: str = ""
    left: "_Tree | None" = None
    right: "_Tree | None" = None


@functools.cache
def _cuts(length: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """All ways to cut positions 0..length-1 in two parts, the first no longer than the second."""
    cuts = []
    for size in range(1, length // 2 + 1):
        for left in itertools.combinations(range(length), size):
            if 2 * size < length or left[0] == 0:
                cuts.append((left, tuple(i for i in range(length) if i not in left)))
    return tuple(cuts)


def _halves(numbers: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All ways to cut the sorted `numbers` in two, equal numbers taken for one another."""
    seen = set()
    for left, right in _cuts(len(numbers)):
        half = tuple(numbers[i] for i in left), tuple(numbers[i] for i in right)
        if half not in seen:
            seen.add(half)
            yield half


@functools.lru_cache(maxsize=1 << 16)
def _values(numbers: tuple[int, ...]) -> frozenset[Fraction]:
    """All values >= 0 of expressions over the sorted `numbers` without negative steps."""
    if len(numbers) == 1:
        return frozenset([Fraction(numbers[0])])
    values = set()
    for left, right in _halves(numbers):
        for a, b in itertools.product(_values(left), _values(right)):
            values.update((a + b, abs(a - b), a * b))
            if b:
                values.add(a / b)
            if a:
                values.add(b / a)
    return frozenset(values)


def _partners(a: Fraction, target: Fraction) -> Iterator[tuple[str, Fraction, bool]]:
    """All (operator, b, is_swapped) with b >= 0 and a operator b = target (swapped: b, a)."""
    if target >= a:
        yield "+", target - a, False
    else:
        yield "-", a - target, False
    yield "-", target + a, True
    if a:
        yield "*", target / a, False
        yield "/", target * a, True
        if target:
            yield "/", a / target, False


def _trees(numbers: tuple[int, ...], target: Fraction) -> Iterator[_Tree]:
    """All expressions over the sorted `numbers` that equal `target`, no step negative.

    Meets in the middle: every value of the smaller half asks for one value of the other half.
    """
    if len(numbers) == 1:
        if numbers[0] == target:
            yield _Tree(target)
        return
    for left, right in _halves(numbers):
        right_values = _values(right) if len(right) <= 3 else None
        for a in _values(left):
            partners = list(_partners(a, target))
            if not a and not target:  # 0 * b and 0 / b, for any b
                for b in _values(right):
                    partners.append(("*", b, False))
                    if b:
                        partners.append(("/", b, False))
            for operator, b, is_swapped in partners:
                if right_values is not None and b not in right_values:
                    continue
                for tree in _trees(right, b):
                    for other in _trees(left, a):
                        pair = (tree, other) if is_swapped else (other, tree)
                        yield _Tree(target, operator, *pair)


def _spelling(tree: _Tree) -> str:
    """The expression with as few parentheses as + - * / read from the left allow."""
    if tree.left is None or tree.right is None:
        return str(tree.value)
    left, right = _spelling(tree.left), _spelling(tree.right)
    if tree.operator in "*/" and tree.left.operator in ("+", "-"):
        left = f"({left})"
    binds_no_tighter = {"+": "", "-": "+-", "*": "+-", "/": "+-*/"}[tree.operator]
    if tree.right.operator and tree.right.operator in binds_no_tighter:
        right = f"({right})"
    return f"{left} {tree.operator} {right}"
