"""A Hugging Face model's folder <-> a folder of weights that a run starts from."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from r1_jax.checkpoints import folder, manifest, weights
from r1_jax.core import build
from r1_jax.interop import hf_config, hf_files, hf_weights
from r1_jax.models import config as model_config
from r1_jax.text import hf_tokenizer
from r1_jax.text import load as text_load

THEIRS = "huggingface"
"""Where a folder of weights keeps config.json and the tokenizer's files, as they came."""


def from_hf(
    source: str | os.PathLike[str], to: str | os.PathLike[str], *, drop_mtp: bool = False
) -> dict[str, Any]:
    """Converts the model in `source` to the new folder `to`; the manifest as written.

    In memory is one tensor at a time. A layer of multi-token prediction that is stored comes along;
    drop_mtp: it stays behind.
    Raises ValueError for what cannot be converted exactly and whole; `to` is then untouched.
    """
    source = pathlib.Path(source)
    folder.free(to)
    theirs = hf_files.read_json(source / "config.json")
    config = hf_config.from_hf(theirs)
    checkpoint = hf_files.Checkpoint(source, theirs)
    ahead = hf_weights.num_mtp_layers(config, checkpoint, drop_mtp=drop_mtp)
    config = dataclasses.replace(config, mtp_layers=ahead)
    wanted = hf_weights.plan(config, checkpoint, drop_mtp=drop_mtp)
    tokens = text_load.load(source, config.vocab_size)
    commit, _ = manifest.git_commit()
    facts = {
        "commit": commit,
        "config": {"model": build.to_dict(config)},
        "seed": 0,
        "tokenizer_digest": tokens.digest,
    }
    with folder.new(to) as part:
        (part / THEIRS).mkdir()
        for name in ("config.json", *hf_files.BESIDE):
            if (source / name).is_file():
                shutil.copyfile(source / name, part / THEIRS / name)
        return folder.write(part, hf_weights.leaves(wanted, checkpoint, config), facts)


@dataclasses.dataclass(frozen=True)
class Model:
    """What is exported: parameters, their shape, a folder with their tokenizer and other files."""

    source: hf_weights.Source
    config: model_config.ModelConfig
    beside: Mapping[str, bytes]  # name -> content; config.json gives the fields that are carried


def open_model(path: str | os.PathLike[str]) -> Model:
    """The Model in a folder that `from_hf` wrote, or in a weights file with its tokenizer beside.

    Raises ValueError when it is neither, or damaged.
    """
    path = pathlib.Path(path)
    if path.is_file():
        params, facts = weights.load_weights(path)
        tokenizer, config = path.with_suffix(".model"), _config(facts)
        is_there = tokenizer.is_file()
        beside = files_of(text_load.load(tokenizer, config.vocab_size)) if is_there else {}
        return Model(hf_weights.InMemory(params), config, beside)
    opened = folder.Folder(path)
    names = ("config.json", *hf_files.BESIDE)
    found = [path / THEIRS / name for name in names if (path / THEIRS / name).is_file()]
    return Model(opened, _config(opened.manifest), {p.name: p.read_bytes() for p in found})


def _config(facts: Mapping[str, Any]) -> model_config.ModelConfig:
    return build.build(model_config.ModelConfig, facts["config"]["model"])


def files_of(tokens: text_load.Loaded) -> dict[str, bytes]:
    """The files that `tokens` was read from, as a Model has them beside it."""
    if isinstance(tokens, hf_tokenizer.HuggingFaceTokenizer):
        return {name: text.encode() for name, text in tokens.files.items()}
    return {"tokenizer.model": tokens.model}


def to_hf(
    model: Model,
    to: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Writes `model` as the new folder `to`, which transformers' from_pretrained reads.

    dtype: "float32" or "bfloat16" to round to; None keeps what is stored, bit for bit. Raises
    ValueError when no known architecture has the model's shape; `to` is then untouched.
    """
    folder.free(to)
    theirs = json.loads(model.beside.get("config.json", b"{}"))
    carried: dict[str, Any] = {name: theirs[name] for name in theirs if name in hf_config.CARRIED}
    if not carried:  # a class' own defaults would name other tokens
        carried = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    tensors = hf_weights.tensors(model.source, model.config, dtype)
    carried.pop("dtype", None)
    carried["torch_dtype"] = tensors[0].dtype.name  # the embedding's; both spellings are read
    config = hf_config.to_hf(model.config, carried)
    with folder.new(to) as part:
        (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name, content in model.beside.items():
            if name != "config.json":
                (part / name).write_bytes(content)
        hf_files.write(part, tensors, shard_bytes)
