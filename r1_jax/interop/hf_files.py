"""A folder of a Hugging Face model: its tensors read one at a time, and such folders written."""

import json
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from r1_jax.checkpoints import tensor_file

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
BESIDE = (
    "generation_config.json tokenizer.json tokenizer_config.json tokenizer.model "
    "special_tokens_map.json added_tokens.json vocab.json merges.txt chat_template.jinja "
    "chat_template.json"
).split()
"""Files that are copied as they are, both ways."""

_SHARD_BYTES = 5_000_000_000
_SCALE = "_scale_inv"
_FP8 = jnp.dtype(jnp.float8_e4m3fn)
_BFLOAT16 = jnp.dtype(jnp.bfloat16)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The mapping in a JSON file; ValueError, naming the file, when there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a model's folder must have it") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a mapping")
    return found


class Checkpoint:
    """The weights of a folder with config.json and safetensors, in one file or with an index.

    A tensor in fp8 counts as the bfloat16 one that it stands for: its block scales
    (NAME_scale_inv, one a block of quantization_config.weight_block_size) are read with it.
    Raises ValueError, naming the file, when the files are not whole or disagree.
    """

    def __init__(self, path: pathlib.Path, config: dict[str, Any]):
        self.path = path
        self.num_mtp = int(
            config.get("num_nextn_predict_layers") or config.get("num_mtp_layers") or 0
        )
        self._block = _block(config.get("quantization_config"))
        self._files, self._entries = {}, {}
        for file, expected in _listed(path).items():
            entries = tensor_file.header(path / file)
            if expected is not None and entries.keys() != expected:
                odd = sorted(entries.keys() ^ expected)[0]
                where = "has" if odd in entries else "lacks"
                raise ValueError(f"{path / file} {where} {odd}, against {INDEX}")
            for name, entry in entries.items():
                self._files[name], self._entries[name] = path / file, entry
        self._scales = {n for n in self._entries if n.removesuffix(_SCALE) in self._entries}
        self._scales = {n for n in self._scales if n.endswith(_SCALE)}
        for name, entry in self._entries.items():
            self._check(name, entry)

    def _check(self, name: str, entry: tensor_file.Entry) -> None:
        if name in self._scales:
            return
        if entry.dtype != _FP8:
            if not jnp.issubdtype(entry.dtype, jnp.floating) or entry.dtype.itemsize > 4:
                raise ValueError(
                    f"{self._files[name]}: {name} is {entry.dtype.name}; weights are float32, "
                    "float16, bfloat16, or fp8 with block scales"
                )
            return
        scale = self._entries.get(name + _SCALE)
        if scale is None or self._block is None or len(entry.shape) != 2:
            raise ValueError(
                f"{self._files[name]}: {name} is fp8, but without {name + _SCALE}, a "
                "quantization_config that gives its blocks, or two dimensions"
            )
        blocks = tuple(-(-n // b) for n, b in zip(entry.shape, self._block, strict=True))
        if scale.shape != blocks or scale.dtype != np.float32:
            raise ValueError(
                f"{self._files[name + _SCALE]}: {name + _SCALE} is {scale.dtype.name}"
                f"{list(scale.shape)}; {list(entry.shape)} in blocks of {list(self._block)} needs "
                f"float32{list(blocks)}"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of all tensors; scales of blocks belong to theirs."""
        return {n: e.shape for n, e in self._entries.items() if n not in self._scales}

    def dtype(self, name: str) -> np.dtype:
        """The element type that `read` gives."""
        dtype = self._entries[name].dtype
        return _BFLOAT16 if dtype == _FP8 else dtype

    def read(self, name: str) -> np.ndarray:
        """A whole tensor; fp8 is multiplied out."""
        raw = tensor_file.read(self._files[name], self._entries[name])
        if raw.dtype != _FP8:
            return raw
        assert self._block is not None
        scale = tensor_file.read(self._files[name + _SCALE], self._entries[name + _SCALE])
        rows, columns = self._block
        whole = np.empty(raw.shape, _BFLOAT16)
        for i, factors in enumerate(scale):
            part = slice(i * rows, (i + 1) * rows)
            wide = np.repeat(factors, columns)[None, : raw.shape[1]]
            whole[part] = (raw[part].astype(np.float32) * wide).astype(_BFLOAT16)
        return whole

    def equal(self, name: str, other: str) -> bool:
        """Whether two tensors are the same, bit for bit."""
        one, two = self._entries[name], self._entries[other]
        if (one.shape, one.dtype) != (two.shape, two.dtype):
            return False
        first = tensor_file.pieces(self._files[name], one)
        second = tensor_file.pieces(self._files[other], two)
        return all(a == b for a, b in zip(first, second, strict=True))


def _block(quantisation: Any) -> tuple[int, int] | None:
    if quantisation is None:
        return None
    method, block = quantisation.get("quant_method"), quantisation.get("weight_block_size")
    fmt = quantisation.get("fmt", "e4m3")
    if method != "fp8" or fmt != "e4m3" or not isinstance(block, list) or len(block) != 2:
        raise ValueError(
            f"config.json: quantization_config={quantisation!r:.120} is not honoured here, only "
            "fp8 e4m3 with a weight_block_size of two numbers"
        )
    return int(block[0]), int(block[1])


def _listed(path: pathlib.Path) -> dict[str, set[str] | None]:
    """{file: names that the index puts there, or None without an index}."""
    if not (path / INDEX).is_file():
        if not (path / SINGLE).is_file():
            raise ValueError(f"{path} has neither {SINGLE} nor {INDEX}; other formats are not read")
        return {SINGLE: None}
    placed = read_json(path / INDEX).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ValueError(f"{path / INDEX} has no weight_map")
    files: dict[str, set[str] | None] = {}
    for name, file in placed.items():
        if not isinstance(file, str) or pathlib.PurePath(file).name != file:
            raise ValueError(f"{path / INDEX} puts {name} into {file!r}, which is no file's name")
        names = files.setdefault(file, set())
        assert names is not None
        names.add(name)
    return files


class Tensor(NamedTuple):
    """A tensor to be written: pieces() makes its parts in C order, one after another."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray]]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write(
    directory: pathlib.Path, tensors: Sequence[Tensor], shard_bytes: int = _SHARD_BYTES
) -> None:
    """Writes `tensors` in files of up to `shard_bytes`, with an index if they are several."""
    shards: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.num_bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.num_bytes
    many = len(shards) > 1
    placed = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors" if many else SINGLE
        shard = sorted(shard, key=lambda t: -t.dtype.itemsize)  # every element stays aligned
        announced = {t.name: (t.dtype, t.shape) for t in shard}
        with tensor_file.Writer(directory / file, announced, {"format": "pt"}) as out:
            for tensor in shard:
                for piece in tensor.pieces():
                    out.write(piece)
                placed[tensor.name] = file
    if many:
        total = sum(tensor.num_bytes for tensor in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": placed}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")
