"""JSON lines that survive a kill: strict values, torn last lines, rows taken back on resume."""

import enum
import json
import math
import numbers
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

NONFINITE = "nonfinite"  # the key under which a row names its values that JSON cannot hold


def line(row: Mapping[str, Any]) -> bytes:
    """Returns `row` as one line of strict JSON, newline included.

    Arrays of no dimensions become numbers, members of an Enum their lower-case names. A NaN or an
    infinity becomes null, and the row gains "nonfinite": {key: "nan" | "inf" | "-inf"}: a reader
    sees that there was a value, and which. Raises ValueError naming a key whose value fits no row.
    """
    nonfinite: dict[str, str] = {}
    plain: dict[str, Any] = {
        str(key): _plain(value, str(key), nonfinite) for key, value in row.items()
    }
    if nonfinite:
        plain[NONFINITE] = nonfinite
    return json.dumps(plain, allow_nan=False).encode("ascii") + b"\n"


def _plain(value, name: str, nonfinite: dict[str, str]) -> Any:
    """Returns `value` as JSON-able Python; enters NaNs and infinities into `nonfinite`."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(v, f"{name}/{key}", nonfinite) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{name}/{i}", nonfinite) for i, v in enumerate(value)]
    if hasattr(value, "dtype"):
        array = np.asarray(value)
        if array.ndim:
            raise ValueError(
                f"{name} has shape {array.shape}; a row holds scalars, reduce it first"
            )
        value = array.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        value = float(value)
        if not math.isfinite(value):
            nonfinite[name] = str(value)
            return None
        return value
    raise ValueError(f"{name}={value!r} is a {type(value).__name__}; a row holds numbers and text")


def read(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], bool]:
    """Returns the rows of the file at `path` and whether its last line was torn by a kill.

    A torn line is left out. No file: no rows. Raises ValueError for a broken line before the last.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return [], False
    rows = []
    lines = path.read_bytes().split(b"\n")
    numbered = [
        (number, text) for number, text in enumerate(lines, start=1) if text.strip(b" \r\0")
    ]
    for number, text in numbered:
        try:
            row = json.loads(text)
        except ValueError as error:  # UnicodeDecodeError is one
            if number == len(lines):  # no newline after it: the write never ended
                return rows, True
            raise ValueError(
                f"{path}:{number} is not JSON ({error}); repair or remove it"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number} is not a JSON object; repair or remove it")
        rows.append(row)
    return rows, False


def keep(path: str | os.PathLike[str], is_kept: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites the file at `path` with the rows for which `is_kept` holds, atomically.

    A torn last line goes too. No file: nothing happens.
    """
    path = pathlib.Path(path)
    rows, _ = read(path)
    kept = [row for row in rows if is_kept(row)]
    if path.exists() and (len(kept) < len(rows) or not path.read_bytes().endswith(b"\n")):
        write(path, kept, durable=True)


def write(
    path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], *, durable: bool = False
) -> None:
    """Writes `rows` to `path`: a reader, or a run after a kill, sees all of it or none.

    durable: also waits for the disk, so that a power cut cannot lose what was there before.
    """
    path = pathlib.Path(path)
    content = b"".join(line(row) for row in rows)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _disk_error(error, path) from error


def append(file, path: str | os.PathLike[str], row: Mapping[str, Any]) -> None:
    """Appends `row` to the unbuffered binary `file` open at `path`: on return the kernel has it."""
    rest = memoryview(line(row))
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _disk_error(error, path) from error


def _disk_error(error: OSError, path) -> OSError:
    way_out = "make room or mend the path and start again: a run resumes, a half line is dropped"
    return OSError(error.errno, f"could not write: {error.strerror}; {way_out}", str(path))


def missing(row: Mapping[str, Any], required: Sequence[str] | Mapping[str, str]) -> list[str]:
    """Returns the names of `required` that `row` lacks, in order."""
    return [name for name in required if name not in row]
