"""Records of published data sets, in the formats they are published in, from a folder on disk.

Nothing is fetched: a person puts the files there, and an error says which and under what name they
are published.
"""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """Which files hold a data set. patterns: globs below the folder; the first that finds any wins.

    split: of a tensorflow-datasets folder. columns: names for CSV files without a header.
    """

    name: str  # of the data set, and of the error
    patterns: tuple[str, ...]
    published: str  # the public name under which the files are found
    split: str = "test"
    columns: tuple[str, ...] = ()


def records(source: Source, folder: str | pathlib.Path) -> list[Record]:
    """All records of `source` under `folder`, files in the order of their names.

    JSONL, CSV (UTF-8, quoted as RFC 4180) and parquet are read by their suffix; a folder that
    tensorflow-datasets prepared (array_record, no TensorFlow needed) by its dataset_info.json.
    Raises ValueError when no file is there, and for one that cannot be read, naming file and line.
    """
    folder = pathlib.Path(folder).expanduser()
    prepared = sorted(folder.rglob("dataset_info.json"))
    if prepared:
        return _from_tfds(prepared[-1].parent, source.split)
    for pattern in source.patterns:
        paths = sorted(path for path in folder.glob(pattern) if path.suffix in _READERS)
        if paths:
            found = [record for path in paths for record in _READERS[path.suffix](path, source)]
            if not found:
                raise ValueError(f"{', '.join(map(str, paths))}: no record of {source.name} inside")
            return found
    expected = " or ".join(str(folder / pattern) for pattern in source.patterns)
    raise ValueError(
        f"{source.name}: no file {expected} ({', '.join(_READERS)}); it is published as "
        f"{source.published}: put its files there, or leave {source.name} out of the suite"
    )


def field(record: Record, names: Sequence[str], source: Source, index: int) -> Any:
    """The value of the first of `names` that record number `index` has; ValueError without any."""
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise ValueError(
        f"{source.name}: record {index} has no {' or '.join(names)}, only {', '.join(record)}; is "
        f"this {source.published}?"
    )


def _jsonl(path: pathlib.Path, source: Source) -> Iterator[Record]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number} is not JSON ({error})") from error
            if not isinstance(record, dict):
                raise ValueError(f"{path}:{number} is not a JSON object")
            yield record


def _csv(path: pathlib.Path, source: Source) -> Iterator[Record]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, fieldnames=source.columns or None, strict=True)
        try:
            for record in reader:
                if None in record or None in record.values():
                    raise ValueError(
                        f"{path}:{reader.line_num} has more or fewer fields than asked"
                    )
                # MMLU's files say of which subject they are by their names alone.
                yield record | {"file": path.stem}
        except csv.Error as error:
            raise ValueError(f"{path} is not CSV after line {reader.line_num} ({error})") from error


def _parquet(path: pathlib.Path, source: Source) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    try:
        yield from parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a parquet file ({error})") from error


_READERS = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}


def _from_tfds(path: pathlib.Path, split: str) -> list[Record]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(path)
    if split not in builder.info.splits:
        raise ValueError(f"{path} has the splits {', '.join(builder.info.splits)}, but no {split}")
    read = builder.as_data_source  # its decorator hides its arguments from type checkers
    return [_plain(row) for row in read(split=split)]  # pyright: ignore[reportCallIssue]


def _plain(value: Any) -> Any:
    """What tensorflow-datasets gives, as JSON would: text for bytes, lists for arrays."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
