"""Which test questions share a run of words with training questions: n-gram overlap.

The revised DeepSeek-R1 paper filters training text by overlaps of 10 words. Here questions are
compared with questions, and nothing is removed: the overlap is reported, or the evaluation refused.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

NUM_WORDS = 10
_WORD = re.compile(r"\w+")


class Overlap(NamedTuple):
    """What a comparison found."""

    num_test: int
    found: list[tuple[int, str]]  # (index of the test question, the first words it shares)

    @property
    def share(self) -> float:
        """Share of test questions that overlap with training."""
        return len(self.found) / self.num_test


def overlap(train: Iterable[str], test: Sequence[str], num_words: int = NUM_WORDS) -> Overlap:
    """Test questions that have num_words words in a row in common with a training question.

    Words are runs of letters, digits and underscores, in lower case: white space and punctuation
    decide nothing. A test question of fewer words is found where all of it stands in a row in a
    training question. A wording that all questions of a task share counts like any other: questions
    made from one template overlap almost always. The training questions are read once and not
    kept. Raises ValueError without test questions or for num_words below 1.
    """
    if not test:
        raise ValueError("there is no test question to compare")
    if num_words < 1:
        raise ValueError(f"num_words={num_words} must be at least 1")
    owners: dict[tuple[str, ...], list[int]] = {}
    for index, question in enumerate(test):
        words = _words(question)
        for gram in set(_grams(words, min(num_words, len(words)))):
            owners.setdefault(gram, []).append(index)
    lengths = sorted({len(gram) for gram in owners})
    found: dict[int, str] = {}
    for question in train:
        words = _words(question)
        for length in lengths:
            for gram in _grams(words, length):
                for index in owners.pop(gram, ()):
                    found.setdefault(index, " ".join(gram))
    return Overlap(len(test), sorted(found.items()))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    if length:
        yield from (tuple(words[i : i + length]) for i in range(len(words) - length + 1))
