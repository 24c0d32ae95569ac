"""Records on disk: a tensorflow-datasets builder for any list of records; problems, read lazily."""

import contextlib
import dataclasses
import hashlib
import json
import operator
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from r1_jax.data.tasks import task

# Raised when what a task generates from equal settings changes: old files are then left alone.
VERSION = "1.0.0"
PROBLEM = {"uid": int, "question": str, "reference": str}


class Records(Sequence[task.Prompt]):
    """One split as a sequence of Prompts, each read from disk when it is asked for."""

    def __init__(self, source: Sequence[Mapping[str, Any]]):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, index: int) -> task.Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> list[task.Prompt]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        row = self._source[position % len(self)]
        return task.Prompt(int(row["uid"]), row["question"].decode(), row["reference"].decode())


def directory(name: str, settings: Mapping[str, Any], data_dir: str) -> pathlib.Path:
    """Where the problems of `settings` lie: other settings or another VERSION, another folder."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return pathlib.Path(data_dir).expanduser() / f"{name}_{digest}" / VERSION


def open_or_prepare(
    name: str,
    settings: Mapping[str, Any],
    data_dir: str,
    generate: Callable[[], Mapping[str, Sequence[task.Prompt]]],
) -> dict[str, Records]:
    """The splits of a data set, prepared on first use: generate() -> split -> problems.

    settings: all that decides what `generate` returns, JSON-able. The files are a tensorflow-
    datasets data set (array_record, no TensorFlow needed). They are written to a scratch folder
    that takes its final name when all is there: a preparation that was interrupted, or that runs
    twice at once, leaves a whole set or none. Raises ValueError when `generate` does, and for a
    prepared set that cannot be read.
    """
    path = directory(name, settings, data_dir)
    if not path.exists():
        splits = {split: map(dataclasses.asdict, found) for split, found in generate().items()}
        prepare(path, PROBLEM, json.dumps(settings, sort_keys=True), splits)
    return _open(path)


def _open(path: pathlib.Path) -> dict[str, Records]:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(path)
        read = builder.as_data_source  # its decorator hides its arguments from type checkers
        splits = {
            split: Records(read(split=split))  # pyright: ignore[reportCallIssue]
            for split in task.SPLITS
        }
        for records in splits.values():  # a damaged file is noticed here, not in some later step
            _ = records[0], records[-1]
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise ValueError(
            f"the problems under {path} cannot be read ({error}); "
            "delete that folder and they are made anew"
        ) from error
    return splits


def records(path: str | os.PathLike[str], split: str) -> list[dict[str, Any]]:
    """The records of a split of the tfds data set in folder `path`, text as str, in its order."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(path)
    read = builder.as_data_source  # its decorator hides its arguments from type checkers
    rows = read(split=split)  # pyright: ignore[reportCallIssue]
    return [
        {k: v.decode() if isinstance(v, bytes) else int(v) for k, v in row.items()} for row in rows
    ]


def prepare(
    path: pathlib.Path,
    fields: Mapping[str, type],
    description: str,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
) -> None:
    """Writes splits of records to `path`, NAME/VERSION, which tfds.builder_from_directory opens.

    fields: name -> int or str, of every record; "uid" among them, unique in its split.
    """
    import numpy as np
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Prepared(tfds.core.GeneratorBasedBuilder):
            """Records of r1_jax; see r1_jax.data."""

            VERSION = tfds.core.Version(path.name)
            name = path.parent.name
            code_path = None  # nothing is downloaded, so there are no checksums beside the code

            def _info(self):
                kinds = {int: np.int32, str: tfds.features.Text()}
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {name: kinds[kind] for name, kind in fields.items()}
                    ),
                    description=description,
                    disable_shuffling=True,  # files keep the order of the uids
                )

            def _split_generators(self, dl_manager):
                return {
                    split: self._generate_examples(records) for split, records in splits.items()
                }

            def _generate_examples(self, records):
                for number, record in enumerate(records):
                    yield number, dict(record)

    tfds.disable_progress_bar()
    builder = Prepared(data_dir=path.parent.parent, file_format="array_record")
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        try:
            builder.download_and_prepare(download_dir=scratch)
        except OSError:
            if not path.exists():  # else another process was faster, with the same problems
                raise
