"""What a task is to the rest of the program: problems in three splits, and how to judge answers."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from r1_jax.rewards import verdict

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One problem."""

    uid: int  # unique in its task over all splits, 0 <= uid < 2**31
    question: str  # what the template's {question} becomes
    reference: str  # JSON: what the accuracy function needs besides the answer


@dataclasses.dataclass(frozen=True)
class Task:
    """A set of problems with its verifier. The functions never raise on an answer's text."""

    name: str
    splits: Mapping[str, Sequence[Prompt]]  # "train", "validation", "test": random access, lazy
    accuracy: Callable[[str | None, Prompt], verdict.Verdict]  # of the answer's text, if any
    ideal: Callable[[Prompt], str]  # an answer that earns the full accuracy reward
    # the key under which an answer votes, None for no vote; no function: answers have no majority
    vote: Callable[[str | None], str | None] | None
    markers: tuple[str, ...]  # words that show reflection in this task, counted apart
    # whether two voting keys are one answer; None: where they are spelt alike
    equal: Callable[[str, str], bool] | None = None
    is_general: Callable[[Prompt], bool] = lambda prompt: False  # a request, and not reasoning
    reasoning: Sequence[Prompt] | None = None  # of a mixture: the train problems of its first task


def split_of(problem: Hashable) -> str:
    """The split that `problem` belongs to: "train" (3/4), "validation" or "test" (1/8 each).

    A function of the problem alone: splits are disjoint whatever the seed, the sizes and the
    difficulty, and a corpus made elsewhere can leave the held-out problems out. `problem` is what
    makes two problems the same, as a value that json writes in one way (str, int, tuples of them).
    """
    eighth = hashlib.sha256(json.dumps(problem).encode()).digest()[0] % 8
    return {6: "validation", 7: "test"}.get(eighth, "train")


def fill(
    candidates: Iterator[tuple[Hashable, Prompt]], sizes: Mapping[str, int], way_out: str
) -> dict[str, list[Prompt]]:
    """Distinct problems for each split, in the order drawn, with uids counted over all splits.

    candidates: (identity as for split_of, problem whose uid is not yet known). Draws until every
    split has its size. Raises ValueError when candidates end or 20,000 in a row bring nothing new
    to a split that is not full; `way_out` says what a user can change.
    """
    if sum(sizes.values()) >= 2**31:
        raise ValueError(f"{dict(sizes)} is more than 2**31 problems; ask for fewer")
    found: dict[str, list[Prompt]] = {split: [] for split in sizes}
    seen, num_idle = set(), 0
    while any(len(found[split]) < size for split, size in sizes.items()):
        identity, prompt = next(candidates, (None, None)) if num_idle < 20_000 else (None, None)
        if prompt is None:
            split = next(s for s, size in sizes.items() if len(found[s]) < size)
            raise ValueError(
                f"num_{split}={sizes[split]}, but no more than {len(found[split])} distinct "
                f"{split} problems were found; {way_out}"
            )
        num_idle += 1
        split = split_of(identity)
        if identity in seen or len(found[split]) == sizes[split]:
            continue
        seen.add(identity)
        found[split].append(prompt)
        num_idle = 0
    uid, numbered = 0, {}
    for split, prompts in found.items():
        numbered[split] = [
            dataclasses.replace(prompt, uid=uid + i) for i, prompt in enumerate(prompts)
        ]
        uid += len(prompts)
    return numbered
