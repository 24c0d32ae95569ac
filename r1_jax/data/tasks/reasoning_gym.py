"""Any data set of the reasoning-gym package by name; its own verifier is the reward."""

import ast
import dataclasses
import difflib
import functools
import importlib.metadata
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from r1_jax.data.tasks import task
from r1_jax.rewards import verdict

MARKERS = ()
NONSENSE = "(42, 22)"  # that is the answer to no question
# Data sets whose verifier, in 0.1.25, evaluates an answer as Python, in reach of the right one, or
# has sympy do so. Only answers that cannot be code are shown to these.
AS_PYTHON = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")
BY_SYMPY = (
    "countdown",
    "intermediate_integration",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
)
_WORDS = "sin cos tan sec csc cot asin acos atan sinh cosh tanh exp log ln sqrt pi Abs".split()
_WORD = re.compile(r"[^\W\d]\w*")


def version() -> str:
    """The version of the reasoning-gym package, on which its problems depend."""
    return importlib.metadata.version("reasoning-gym")


@functools.lru_cache(maxsize=8)
def _dataset(name: str, seed: int, size: int) -> Any:
    """The generator; entry i of it is a function of name, seed, size and i."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of what it imports is of an older Python's time
        import reasoning_gym
        from reasoning_gym import factory
    if name not in factory.DATASETS:
        near = difflib.get_close_matches(name, factory.DATASETS, n=3, cutoff=0)
        raise ValueError(f"dataset={name!r} is not in reasoning-gym; near: {', '.join(near)}")
    try:
        return reasoning_gym.create_dataset(name, seed=seed, size=size)
    except Exception as error:
        raise ValueError(
            f"dataset={name!r} cannot be made with size={size} ({error}); "
            "ask for fewer problems or for another data set"
        ) from error


@dataclasses.dataclass(frozen=True)
class Verifier:
    """Grades answers to the problems that `problems` made with the same arguments."""

    name: str
    seed: int
    size: int

    def __call__(self, answer: str | None, prompt: task.Prompt) -> verdict.Verdict:
        """The package's score of an answer: RIGHT if 1, else WRONG with the score as value.

        A problem is made again from its index, so no part of it is lost in writing; if that gives
        another question the verdict is BAD_REFERENCE. What the verifier raises is a CRASH.
        The verifiers are taken as they are: some give part of the reward to a wrong answer. Those
        that evaluate answers see none that could be code; such a one is UNPARSED.
        """
        if answer is None or not is_safe(self.name, answer):
            return verdict.UNPARSED
        reference = json.loads(prompt.reference)
        entry = _entry(self.name, self.seed, self.size, reference["index"])
        if entry["question"] != prompt.question or entry["answer"] != reference["answer"]:
            return verdict.BAD_REFERENCE
        try:
            score = float(_dataset(self.name, self.seed, self.size).score_answer(answer, entry))
        except Exception as error:  # of whatever kind: it is counted, and the row is left out
            return verdict.Verdict(0.0, verdict.Outcome.CRASH, {type(error).__name__: 1.0})
        if score == 1.0:
            return verdict.RIGHT
        return verdict.Verdict(score, verdict.Outcome.WRONG)


def is_safe(name: str, answer: str) -> bool:
    """Whether the verifier of data set `name` may see the answer without running what it says."""
    if name in AS_PYTHON:
        try:
            tree = ast.parse(answer.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return True  # to evaluate it fails in the same way
        if isinstance(tree, ast.Name):
            return tree.id.isupper() or not tree.id.strip("_")  # ABCD, as letters
        return all(isinstance(node, _LITERAL) for node in ast.walk(tree))
    if name in BY_SYMPY:
        words = _WORD.findall(answer)
        is_maths = all(len(word) == 1 or word in _WORDS for word in words)
        return is_maths and not re.search(r"['\"\[\]{}\\:;@`]|\.\s*[^\W\d]", answer)
    return True


_LITERAL = (ast.List, ast.Tuple, ast.Constant, ast.Load, ast.UnaryOp, ast.USub)


@functools.lru_cache(maxsize=1 << 12)
def _entry(name: str, seed: int, size: int, index: int) -> dict[str, Any]:
    return _dataset(name, seed, size)[index]


def accepts_anything(name: str, seed: int, size: int) -> bool:
    """Whether the verifier pays nonsense in full, as game_of_life_halting's does in 0.1.25."""
    entry = _entry(name, seed, size, 0)
    score = _dataset(name, seed, size).score_answer
    return is_safe(name, NONSENSE) and score(NONSENSE, entry) == 1.0


def num_candidates(sizes: Mapping[str, int]) -> int:
    """How many entries to draw so that the splits fill up unless many questions repeat."""
    return 64 + math.ceil(
        1.25 * max(sizes["train"] * 4 / 3, sizes["validation"] * 8, sizes["test"] * 8)
    )


def problems(name: str, sizes: Mapping[str, int], seed: int) -> dict[str, list[task.Prompt]]:
    """Distinct questions for every split.

    Entries whose worked answer `is_safe` would not show to the verifier are left out. Raises
    ValueError for an unknown data set, for one whose verifier accepts anything, for one without
    worked answers (no answer of which a run could be told that it is right), and if there are not
    enough different questions.
    """
    size = num_candidates(sizes)
    dataset = _dataset(name, seed, size)
    if accepts_anything(name, seed, size):
        raise ValueError(
            f"dataset={name!r} has a verifier that accepts {NONSENSE!r} for an answer; use another"
        )

    def candidates() -> Iterator[tuple[str, task.Prompt]]:
        for index in range(size):
            try:
                entry = dataset[index]
            except IndexError:
                return
            if (
                not isinstance(entry["answer"], str)
                or dataset.score_answer(entry["answer"], entry) < 1.0
            ):
                raise ValueError(
                    f"dataset={name!r} has no worked answer that its verifier accepts for entry "
                    f"{index} (seed {seed}); use another data set"
                )
            if not is_safe(name, entry["answer"]):
                continue  # Integral(...) and the like: the question restated
            reference = json.dumps({"index": index, "answer": entry["answer"]})
            identity = " ".join(entry["question"].split())
            yield identity, task.Prompt(0, entry["question"], reference)

    return task.fill(
        candidates(), sizes, f"ask for fewer, or for another data set than dataset={name!r}"
    )


def ideal(prompt: task.Prompt) -> str:
    """The worked answer."""
    return json.loads(prompt.reference)["answer"]


def vote(answer: str | None) -> str | None:
    """The answer without surrounding space."""
    return (answer or "").strip() or None
