"""Questions with completions to learn from: JSON lines on disk, packed rows for training."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

from r1_jax.checkpoints import atomic
from r1_jax.data import packing
from r1_jax.text import tokenizer


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """One question and the whole text to answer it with, without prompt and stop token."""

    uid: int  # of the problem in its task
    question: str
    completion: str
    source: str  # what made it, such as "cold_start" or "general"

    def __post_init__(self):
        for name, kind in (("uid", int), ("question", str), ("completion", str), ("source", str)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name}={getattr(self, name)!r} must be {kind.__name__}")


def write(path: str | pathlib.Path, demonstrations: Sequence[Demonstration]) -> None:
    """Writes a line of JSON each, atomically."""
    lines = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in demonstrations]
    atomic.write(pathlib.Path(path), "".join(f"{line}\n" for line in lines).encode())


def read(path: str | pathlib.Path) -> list[Demonstration]:
    """The demonstrations of a file. Raises ValueError naming the first line that is none."""
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                found.append(Demonstration(**json.loads(line)))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {number}, is no demonstration ({error}); a line is JSON with "
                    "uid, question, completion and source"
                ) from error
    return found


def pack(
    demonstrations: Sequence[Demonstration],
    tokens: tokenizer.Tokenizer,
    render: Callable[[str], str],
    row_length: int,
) -> tuple[packing.Packed, int]:
    """(rows, how many were left out because they are longer than row_length).

    The loss is on the completion and its stop token alone. render: question -> prompt, which is
    tokenised apart from the completion, as when sampling.
    """
    documents, weights, num_long = [], [], 0
    for one in demonstrations:
        prompt = tokens.encode(render(one.question))
        completion = [*tokens.encode(one.completion), tokens.stop_ids[0]]
        if len(prompt) + len(completion) > row_length:
            num_long += 1
            continue
        documents.append([*prompt, *completion])
        weights.append([0.0] * len(prompt) + [1.0] * len(completion))
    rows = packing.pack(documents, row_length=row_length, pad_id=tokens.pad_id, weights=weights)
    return rows, num_long
