"""Tokenizers of Hugging Face models: tokenizer.json, read by the `tokenizers` package."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from r1_jax.text import tokenizer

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
"""What is kept of a model's folder; stop and pad ids come from the second to fourth."""

_PROBE = "  a\n\n\tb  é 你好 \U0001f9e0 1234 <x>\u2581y\x00 \r\n"
_LOST = "\ufffd"


class HuggingFaceTokenizer:
    """The tokenizer of a Hugging Face model.

    path: its folder, the tokenizer.json in it, or a file with the bytes of `model`, which hold all
    FILES and so stand alone. vocab_size: rows of the model's embedding, which is often padded to a
    round number; ids without a token decode to U+FFFD. None: as many as there are tokens.

    encode() reads special tokens ("<|im_end|>") that stand in a text as what they are and adds
    none, no begin-of-text either: layouts (text/dialogue) write theirs, a plain prompt has none.
    decode(encode(s)) == s for every text without stop or pad tokens that is in the form the file's
    own normaliser brings it to (NFC in Qwen's). stop_ids: eos_token of tokenizer_config.json, then
    eos_token_id of generation_config.json and config.json. pad_id: pad_token, or the first stop id.

    Raises ValueError, naming the file, for files that are absent or broken, a tokenizer that loses
    text, one with more ids than `vocab_size`, and names or ids of special tokens that it lacks.
    """

    def __init__(self, path: str | os.PathLike[str], vocab_size: int | None = None):
        self._path = pathlib.Path(path)
        self.files = _read(self._path)
        self._inner = _parse(self._path, self.files["tokenizer.json"])
        self._names = {id: token for token, id in self._inner.get_vocab(True).items()}
        self.num_tokens: int = max(self._names, default=-1) + 1
        self.vocab_size: int = self.num_tokens if vocab_size is None else vocab_size
        if self.num_tokens > self.vocab_size:
            raise ValueError(
                f"tokenizer={str(path)!r} has {self.num_tokens} ids, the model only "
                f"vocab_size={self.vocab_size}; they do not belong together"
            )
        settings = {name: self._json(name) for name in FILES[1:4]}
        self.stop_ids: tuple[int, ...] = self._stops(settings)
        pad = _content(settings["tokenizer_config.json"].get("pad_token"))
        self.pad_id: int = self.stop_ids[0] if pad is None else self._id(pad, "pad_token")
        self._silent = {self.pad_id, *self.stop_ids}
        decides = [self.files["tokenizer.json"], self.stop_ids, self.pad_id]
        self.digest: str = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
        if self.decode(self.encode(_PROBE)) != _PROBE:
            raise ValueError(
                f"tokenizer={str(path)!r} does not give {_PROBE!r} back but "
                f"{self.decode(self.encode(_PROBE))!r}; one that loses text cannot be used"
            )

    @functools.cached_property
    def model(self) -> bytes:
        """All of the tokenizer as one file, which this class reads too; equal for equal FILES."""
        return json.dumps({"files": self.files}, sort_keys=True).encode()

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        known, texts = [], []
        for i in tokenizer.checked(ids, self.vocab_size):
            if i in self._names:
                known += [] if i in self._silent else [i]
                continue
            texts += [self._inner.decode(known, skip_special_tokens=False), _LOST]
            known = []
        texts.append(self._inner.decode(known, skip_special_tokens=False))
        return "".join(texts)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self.files.get(name, "{}"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{name} beside tokenizer={str(self._path)!r} is no JSON") from error
        if not isinstance(found, dict):
            raise ValueError(f"{name} beside tokenizer={str(self._path)!r} holds no mapping")
        return found

    def _stops(self, settings: dict[str, dict[str, Any]]) -> tuple[int, ...]:
        found = []
        named = _content(settings["tokenizer_config.json"].get("eos_token"))
        if named is not None:
            found.append(self._id(named, "eos_token"))
        for file in ("generation_config.json", "config.json"):
            ids = settings[file].get("eos_token_id")
            for i in ids if isinstance(ids, list) else [] if ids is None else [ids]:
                if i not in self._names:
                    raise ValueError(
                        f"{file} has eos_token_id={i}, which is no token of "
                        f"{str(self._path)!r} with its {self.num_tokens} ids; they do not "
                        "belong together"
                    )
                found.append(int(i))
        if not found:
            raise ValueError(
                f"nothing beside tokenizer={str(self._path)!r} says how a text ends: give "
                "tokenizer_config.json an eos_token, or generation_config.json an eos_token_id"
            )
        return tuple(dict.fromkeys(found))

    def _id(self, token: str, key: str) -> int:
        found = self._inner.token_to_id(token)
        if found is None:
            raise ValueError(
                f"tokenizer_config.json has {key}={token!r}, which is no token of "
                f"{str(self._path)!r}; they do not belong together"
            )
        return found


def _content(token: Any) -> str | None:
    """A special token's text; older files wrap it into a mapping."""
    return token.get("content") if isinstance(token, dict) else token


def _read(path: pathlib.Path) -> dict[str, str]:
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"tokenizer={str(path)!r} cannot be read ({error})") from error
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"tokenizer={str(path)!r} is no JSON: {error}") from error
    if isinstance(whole, dict) and isinstance(whole.get("files"), dict):
        return whole["files"]
    beside = {name: path.parent / name for name in FILES[1:]}
    found = {name: p.read_text(encoding="utf-8") for name, p in beside.items() if p.is_file()}
    return {"tokenizer.json": text, **found}


def _parse(path: pathlib.Path, text: str):
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"tokenizer={str(path)!r} is no tokenizer.json: {error}") from error
