"""What a reward model learns from: pairs of answers with a preference, answers with a label.

DeepSeek-R1 (Nature, 2025) 3.1: the judge is called four times a pair, which answer it sees as A
drawn at random each time, the scores are averaged, and a pair is kept when they differ by more
than 1. Helpfulness looks at the summary alone, harmlessness at the whole response.
"""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from r1_jax.core import build
from r1_jax.metrics import jsonl
from r1_jax.rewards import extract, judge

View = Literal["summary", "whole"]
VIEWS: dict[str, Callable[[str, extract.Tags], str | None]] = {
    "summary": extract.summary,
    "whole": lambda text, tags: text,
}
"""What is judged of a completion, and later read by the reward model; None: nothing is there."""


@dataclasses.dataclass(frozen=True)
class PreferenceConfig:
    """How pairs are judged and which are kept; the defaults are the paper's."""

    calls: int = 4  # of the judge per pair
    min_margin: float = 1.0  # a pair is kept when its mean score is further from 0 than this
    balance_lengths: bool = True  # see data.length_balance

    def __post_init__(self):
        if self.calls < 1 or not 0 <= self.min_margin < judge.MAX_SCORE:
            raise ValueError(
                f"calls={self.calls} must be at least 1 and min_margin={self.min_margin} in "
                f"[0, {judge.MAX_SCORE}): no score passes {judge.MAX_SCORE}"
            )


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Two completions of one prompt, whole."""

    uid: int  # of the prompt
    question: str
    first: str
    second: str
    pair: int = 0  # of the prompt's pairs


@dataclasses.dataclass(frozen=True)
class Preference:
    """A judged pair; chosen and rejected are what `view` shows of the completions."""

    uid: int
    question: str
    chosen: str
    rejected: str
    margin: float  # mean score of the judge's calls, above 0
    view: View
    pair: int = 0


@dataclasses.dataclass(frozen=True)
class Answer:
    """One completion, whole, before anybody labelled it."""

    uid: int  # of the prompt
    question: str
    response: str
    sample: int = 0  # of the prompt's answers


@dataclasses.dataclass(frozen=True)
class Labelled:
    """One answer under safety guidelines."""

    uid: int
    question: str
    response: str
    is_safe: bool
    view: View = "whole"


Record = TypeVar("Record", Candidate, Preference, Answer, Labelled)


class Judged(NamedTuple):
    """Pairs that were kept, and what became of all."""

    pairs: list[Preference]
    counts: dict[str, int]  # pairs, kept, dropped/WHY, calls, calls/unread, calls/unread/WHY
    first_mean: float  # mean score of what was shown first: 0 for a judge without a place bias


def draw(purpose: str, seed: int, uid: int, item: int, call: int) -> int:
    """32 random bits that are a function of the arguments alone, on any host, in any order."""
    text = f"{purpose}/{seed}/{uid}/{item}/{call}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest())


def judge_pairs(
    candidates: Iterable[Candidate],
    by: judge.Judge,
    config: PreferenceConfig,
    *,
    view: View,
    tags: extract.Tags,
    seed: int,
) -> Judged:
    """Judges every candidate config.calls times and keeps the pairs with a clear winner.

    The order in which a call shows the two, and the call's own noise, are functions of (seed,
    purpose, prompt and pair, call). A pair is dropped, with the reason counted, when the view
    shows nothing of one completion (no_view), when both are the same text (same), when one of the
    calls could not be read (unread: what is missing is never guessed), and when the mean score is
    within the margin (small_margin).
    """
    counts: Counter[str] = Counter()
    pairs, total = [], 0.0
    for candidate in candidates:
        counts["pairs"] += 1
        first, second = (VIEWS[view](text, tags) for text in (candidate.first, candidate.second))
        if not first or not second or first == second:
            counts["dropped/same" if first and second else "dropped/no_view"] += 1
            continue
        scores = []
        for call in range(config.calls):
            place = (seed, candidate.uid, candidate.pair, call)
            is_swapped = draw("preference/order", *place) & 1
            shown = (second, first) if is_swapped else (first, second)
            noise = draw("preference/draw", *place)
            found = by.compare(candidate.question, *shown, draw=noise)
            counts["calls"] += 1
            if found.score is None:
                counts["calls/unread"] += 1
                counts[f"calls/unread/{found.error}"] += 1
                continue
            total += found.score
            scores.append(-found.score if is_swapped else found.score)
        if len(scores) < config.calls:
            counts["dropped/unread"] += 1
            continue
        mean = sum(scores) / len(scores)
        if abs(mean) <= config.min_margin:
            counts["dropped/small_margin"] += 1
            continue
        chosen, rejected = (first, second) if mean > 0 else (second, first)
        uid, question = candidate.uid, candidate.question
        pairs.append(Preference(uid, question, chosen, rejected, abs(mean), view, candidate.pair))
    counts["kept"] = len(pairs)
    num_read = counts["calls"] - counts["calls/unread"]
    return Judged(pairs, dict(counts), total / num_read if num_read else 0.0)


def label(
    answers: Iterable[Answer], by: judge.Judge, *, seed: int
) -> tuple[list[Labelled], dict[str, int]]:
    """(labelled answers, counts): one call of the judge each, on the whole response.

    The judge's `grade` is asked without a reference; right means safe (model_judge.SAFE). An answer
    whose judge could not be read is dropped and counted.
    """
    counts: Counter[str] = Counter()
    found = []
    for answer in answers:
        noise = draw("safety/draw", seed, answer.uid, answer.sample, 0)
        ruling = by.grade(answer.question, None, answer.response, noise)
        counts["answers"] += 1
        if ruling.is_right is None:
            counts["dropped/unread"] += 1
            counts[f"dropped/unread/{ruling.error}"] += 1
            continue
        counts["safe" if ruling.is_right else "unsafe"] += 1
        found.append(Labelled(answer.uid, answer.question, answer.response, ruling.is_right))
    return found, dict(counts)


def write(path: str | os.PathLike[str], records: Sequence[Any]) -> None:
    """Writes records to a JSONL file, whole or not at all."""
    jsonl.write(path, [dataclasses.asdict(record) for record in records], durable=True)


def read(path: str | os.PathLike[str], kind: type[Record]) -> list[Record]:
    """The records of a JSONL file. ValueError naming file and row for one that is not a `kind`."""
    rows, is_torn = jsonl.read(path)
    if is_torn or not rows:
        raise ValueError(
            f"{path} {'ends in half a line' if is_torn else 'is absent or empty'}; "
            f"it must hold {kind.__name__} records, one JSON object a line"
        )
    records = []
    for number, row in enumerate(rows, start=1):
        try:
            records.append(build.build(kind, row))
        except ValueError as error:
            raise ValueError(f"{path}, record {number}: {error}") from None
    return records
