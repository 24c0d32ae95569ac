"""A folder of weights to start from: one safetensors file a parameter, and what they are.

For models that no host holds: a file is written in pieces and read in pieces, each device's own.
On disk: <folder>/manifest.json and <folder>/weights/<a.b.c>.safetensors for the parameter a/b/c,
which holds one tensor of that name. An element type is kept as it came. The folder is made beside
its place and renamed when all is in it.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.checkpoints import manifest as manifests
from r1_jax.checkpoints import tensor_file, weights
from r1_jax.core import trees


class Leaf(NamedTuple):
    """A parameter to be written: `pieces` are its parts in C order, made when they are needed."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: Iterable[np.ndarray]


@contextlib.contextmanager
def new(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A directory to fill, which becomes `path` when the block ends; on an error nothing stays.

    Raises ValueError when `path` exists and is not an empty directory.
    """
    path = pathlib.Path(path).absolute()
    free(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        os.rename(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def free(path: str | os.PathLike[str]) -> None:
    """Raises ValueError unless `path` is absent or an empty directory."""
    path = pathlib.Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} exists; name a new folder, or move that one away")


def write(
    directory: pathlib.Path, leaves: Iterable[Leaf], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes `leaves` and `manifest` into `directory`, as inside `new`; the manifest as written.

    manifest: what weights.REQUIRED names. Added: "leaves" (name -> shape, dtype, SHA-256 of the
    bytes) and "digest" of those. Raises ValueError for values that are not finite.
    """
    missing = [name for name in weights.REQUIRED if name not in manifest]
    if missing:
        raise ValueError(f"the manifest of {directory} lacks {', '.join(missing)}")
    (directory / "weights").mkdir()
    written = {}
    for leaf in leaves:
        sha = hashlib.sha256()
        tensors = {leaf.name: (leaf.dtype, leaf.shape)}
        with tensor_file.Writer(_file(directory, leaf.name), tensors) as file:
            for piece in leaf.pieces:
                if not _is_finite(piece):
                    raise ValueError(f"{leaf.name} is not finite; mend it before it is stored")
                sha.update(file.write(piece))
        written[leaf.name] = [list(leaf.shape), leaf.dtype.name, sha.hexdigest()]
    complete = {**manifest, "leaves": written, "digest": _digest(written)}
    manifests.write(directory / "manifest.json", complete)
    return complete


def _is_finite(piece: np.ndarray) -> bool:
    step = 1 << 22  # the float32 copy is what costs memory
    flat = piece.reshape(-1)
    return all(
        np.isfinite(flat[i : i + step].astype(np.float32)).all() for i in range(0, flat.size, step)
    )


class Folder:
    """The weights folder at `path`, opened: names, shapes and sizes are checked, not the values.

    Raises ValueError, naming the file, when a file is absent, cut short, or another's.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self.manifest = manifests.read(self.path / "manifest.json")
        missing = [name for name in (*weights.REQUIRED, "leaves") if name not in self.manifest]
        if missing:
            raise ValueError(
                f"{self.path} is no folder of weights: its manifest lacks {', '.join(missing)}"
            )
        self._entries = {}
        for name, (shape, dtype, _) in self.manifest["leaves"].items():
            found = tensor_file.header(_file(self.path, name))
            entry = found.get(name)
            if entry is None or [list(entry.shape), entry.dtype.name] != [shape, dtype]:
                raise ValueError(
                    f"{_file(self.path, name)} does not hold {name}, {dtype}{shape}, as the "
                    "manifest says; convert the model anew"
                )
            self._entries[name] = entry

    def leaves(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """{"a/b/c": (element type, shape)}."""
        return {name: (entry.dtype, entry.shape) for name, entry in self._entries.items()}

    def read(self, name: str, index: Sequence[int] = ()) -> np.ndarray:
        """parameter[index], its element type as stored; only that part is read."""
        return tensor_file.read(_file(self.path, name), self._entries[name], index)

    def load(self, shardings: Any) -> Any:
        """float32 parameters laid out as `shardings`, a tree of NamedShardings.

        Every process reads what its devices hold, and checks the digests of its share of the
        files. Raises ValueError for a changed file and for other parameters than the tree's.
        """
        placed = trees.paths(shardings)
        if placed.keys() != self._entries.keys():
            odd = sorted(placed.keys() ^ self._entries.keys())[0]
            state = "lacks" if odd in placed else "has"
            raise ValueError(
                f"{self.path} {state} {odd}; the model's config must be its manifest's"
            )
        for i, name in enumerate(sorted(self._entries)):
            if i % jax.process_count() == jax.process_index():
                self._check(name)
        arrays = [self._place(name, sharding) for name, sharding in placed.items()]
        return jax.tree.unflatten(jax.tree.structure(shardings), arrays)

    def _place(self, name: str, sharding: jax.sharding.Sharding) -> jax.Array:
        entry = self._entries[name]
        mapped = np.memmap(_file(self.path, name), np.uint8, "r", entry.start, (entry.num_bytes,))
        whole = mapped.view(entry.dtype).reshape(entry.shape)
        is_float = jnp.issubdtype(entry.dtype, jnp.floating)
        dtype = np.dtype(np.float32) if is_float else entry.dtype
        return jax.make_array_from_callback(
            entry.shape, sharding, lambda index: np.array(whole[index], dtype)
        )

    def _check(self, name: str) -> None:
        entry, sha = self._entries[name], hashlib.sha256()
        for piece in tensor_file.pieces(_file(self.path, name), entry):
            sha.update(piece)
        if sha.hexdigest() != self.manifest["leaves"][name][2]:
            raise ValueError(
                f"{_file(self.path, name)} is not what was written: its digest is "
                f"{sha.hexdigest()[:12]}; convert the model anew"
            )


def _file(directory: pathlib.Path, name: str) -> pathlib.Path:
    return directory / "weights" / f"{name.replace('/', '.')}.safetensors"


def _digest(leaves: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()
