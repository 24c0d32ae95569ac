"""Problems on disk: a tensorflow-datasets builder for any list of problems, read lazily."""

import contextlib
import hashlib
import json
import operator
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from r1_jax.data.tasks import task

# Raised when what a task generates from equal settings changes: old files are then left alone.
VERSION = "1.0.0"


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
        _prepare(path, settings, generate())
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


def _prepare(path, settings, splits):
    """Writes the data set that `_open` reads to `path`."""
    import numpy as np
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Problems(tfds.core.GeneratorBasedBuilder):
            """Problems with uid, question and reference; see r1_jax.data.tasks."""

            VERSION = tfds.core.Version(path.name)
            name = path.parent.name
            code_path = None  # nothing is downloaded, so there are no checksums beside the code

            def _info(self):
                text = tfds.features.Text()
                features = {"uid": np.int32, "question": text, "reference": text}
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    description=json.dumps(settings, sort_keys=True),
                    disable_shuffling=True,  # files keep the order of the uids
                )

            def _split_generators(self, dl_manager):
                return {
                    split: self._generate_examples(prompts) for split, prompts in splits.items()
                }

            def _generate_examples(self, prompts):
                for prompt in prompts:
                    yield (
                        prompt.uid,
                        {
                            "uid": prompt.uid,
                            "question": prompt.question,
                            "reference": prompt.reference,
                        },
                    )

    tfds.disable_progress_bar()
    builder = Problems(data_dir=path.parent.parent, file_format="array_record")
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        try:
            builder.download_and_prepare(download_dir=scratch)
        except OSError:
            if not path.exists():  # else another process was faster, with the same problems
                raise
