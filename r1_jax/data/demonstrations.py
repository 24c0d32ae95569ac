"""Questions with completions to learn from: JSON lines on disk, packed rows for training."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence

from r1_jax.checkpoints import atomic
from r1_jax.data import packing, sources
from r1_jax.text import tokenizer


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """One question and the whole text to answer it with, without prompt and stop token."""

    uid: int  # of the problem in its task
    question: str
    completion: str
    source: str  # what made it, such as "cold_start" or "general"

    def __post_init__(self):
        for name, kind in FIELDS.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name}={getattr(self, name)!r} must be {kind.__name__}")


FIELDS = {"uid": int, "question": str, "completion": str, "source": str}
PREPARED = pathlib.Path("tfds", "demonstrations", sources.VERSION)


def prepare(workdir: str | pathlib.Path, demonstrations: Sequence[Demonstration]) -> pathlib.Path:
    """The same as a tensorflow-datasets data set, WORKDIR/tfds/..., with one split, "train"."""
    path = pathlib.Path(workdir) / PREPARED
    if path.exists():  # of a preparation after which nothing else was written
        shutil.rmtree(path)
    records = [dataclasses.asdict(one) for one in demonstrations]
    sources.prepare(path, FIELDS, "demonstrations", {"train": records})
    return path


def write(path: str | pathlib.Path, demonstrations: Sequence[Demonstration]) -> None:
    """Writes a line of JSON each, atomically."""
    lines = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in demonstrations]
    atomic.write(pathlib.Path(path), "".join(f"{line}\n" for line in lines).encode())


def read(path: str | pathlib.Path) -> list[Demonstration]:
    """The demonstrations of a file, or of a folder that `prepare` or another tfds builder wrote.

    Raises ValueError naming the first line that is none.
    """
    if pathlib.Path(path).is_dir():
        return [Demonstration(**record) for record in sources.records(path, "train")]
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


def digest(path: str | pathlib.Path) -> str:
    """SHA-256, hex, of what `read` reads: a file's bytes, or those of a folder's record files."""
    path = pathlib.Path(path)
    files = sorted(path.glob("*.array_record*")) if path.is_dir() else [path]
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.read_bytes())
    return sha.hexdigest()


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
