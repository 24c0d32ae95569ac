"""Safetensors files a piece at a time: what is not asked for is neither read nor mapped.

The library reads through a map of the whole file, which counts as the process' memory, and writes
from arrays that are all there. A model that is converted tensor by tensor has neither.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, NamedTuple

import jax.numpy as jnp
import numpy as np

DTYPES = {
    "F64": jnp.dtype(jnp.float64),
    "F32": jnp.dtype(jnp.float32),
    "F16": jnp.dtype(jnp.float16),
    "BF16": jnp.dtype(jnp.bfloat16),
    "F8_E4M3": jnp.dtype(jnp.float8_e4m3fn),
    "I64": jnp.dtype(np.int64),
    "I32": jnp.dtype(np.int32),
}
"""The format's names of the element types read here; others are errors."""

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # bytes, as in the library
_PIECE = 1 << 24  # bytes


class Entry(NamedTuple):
    """Where a tensor lies: `start` in bytes from the beginning of the file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def header(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """The tensors of the file at `path`, by name.

    Raises ValueError, naming the file and what is wrong, unless it is there, whole, and its
    tensors fill it without gap or overlap.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise ValueError(f"{path} is no safetensors file, or cut short in its header")
        text = file.read(length)
    try:
        listed = json.loads(text)
        listed.pop("__metadata__", None)
        entries = {name: _entry(path, name, found, 8 + length) for name, found in listed.items()}
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no safetensors file: its header is damaged") from error
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start != end and entry.num_bytes:
            raise ValueError(f"{path}: {name} starts at byte {entry.start}, expected was {end}")
        end += entry.num_bytes
    if end != size:
        state = "cut short" if size < end else "followed by something else"
        raise ValueError(f"{path} is {state}: it has {size} bytes, its header speaks of {end}")
    return entries


def _entry(path: pathlib.Path, name: str, found: Mapping, offset: int) -> Entry:
    if found["dtype"] not in DTYPES:
        raise ValueError(
            f"{path}: {name} has element type {found['dtype']}; known are {', '.join(DTYPES)}"
        )
    first, last = found["data_offsets"]
    entry = Entry(DTYPES[found["dtype"]], tuple(map(int, found["shape"])), offset + int(first))
    if entry.num_bytes != last - first or min(entry.shape, default=0) < 0:
        raise ValueError(
            f"{path}: {name} takes {last - first} bytes, its shape {entry.shape} of "
            f"{found['dtype']} {entry.num_bytes}"
        )
    return entry


def read(path: str | os.PathLike[str], entry: Entry, index: Sequence[int] = ()) -> np.ndarray:
    """tensor[index] of an entry of `header(path)`: a copy of that part alone.

    index: positions in the leading dimensions, fewer than the tensor has or as many.
    """
    shape = entry.shape[len(index) :]
    place = 0
    for position, size in zip(index, entry.shape, strict=False):
        place = place * size + position
    count = math.prod(shape)
    start = entry.start + place * count * entry.dtype.itemsize
    raw = np.fromfile(path, np.uint8, count * entry.dtype.itemsize, offset=start)
    if raw.size != count * entry.dtype.itemsize:
        raise ValueError(f"{path} was cut short while it was read")
    return raw.view(entry.dtype).reshape(shape)


def pieces(path: str | os.PathLike[str], entry: Entry) -> Iterator[bytes]:
    """The bytes of a tensor, in pieces of a bounded size."""
    with open(path, "rb") as file:
        file.seek(entry.start)
        for done in range(0, entry.num_bytes, _PIECE):
            yield file.read(min(_PIECE, entry.num_bytes - done))


class Writer:
    """A new file whose tensors are announced first and then written, in that order, in pieces.

    A context manager; leaving it without an error raises ValueError unless all was written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Mapping[str, tuple[np.dtype, Sequence[int]]],
        metadata: Mapping[str, str] | None = None,
    ):
        self._path = pathlib.Path(path)
        listed: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
        self._end = 0
        for name, (dtype, shape) in tensors.items():
            start = self._end
            self._end += math.prod(shape) * dtype.itemsize
            listed[name] = {
                "dtype": _CODES[dtype],
                "shape": list(shape),
                "data_offsets": [start, self._end],
            }
        text = json.dumps(listed).encode()
        self._text = text + b" " * (-len(text) % 8)
        self._written = 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "Writer":
        self._file = open(self._path, "xb")
        self._file.write(len(self._text).to_bytes(8, "little") + self._text)
        return self

    def write(self, piece: np.ndarray) -> memoryview:
        """Appends the elements of `piece` in C order; returns their bytes (for a digest)."""
        assert self._file is not None
        raw = np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
        self._file.write(raw)
        self._written += len(raw)
        return raw

    def __exit__(self, kind, error, trace) -> None:
        assert self._file is not None
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if kind is None and self._written != self._end:
            raise ValueError(
                f"{self._path}: {self._written} bytes were written, {self._end} announced"
            )
