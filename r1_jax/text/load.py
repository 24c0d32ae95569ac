"""The tokenizer at a path, of whichever kind it is."""

import os
import pathlib

from r1_jax.text import hf_tokenizer, tokenizer

Loaded = tokenizer.SentencePieceTokenizer | hf_tokenizer.HuggingFaceTokenizer


def load(path: str | os.PathLike[str], vocab_size: int) -> Loaded:
    """The tokenizer in the file or folder `path`, for a model with `vocab_size` rows.

    In a folder tokenizer.json is preferred to tokenizer.model. Raises ValueError as the kinds do,
    and when a SentencePiece model has another number of pieces than the model has rows.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        names = ("tokenizer.json", "tokenizer.model")
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise ValueError(f"tokenizer={str(path)!r} has neither {' nor '.join(names)}")
        path = found[0]
    if _is_json(path):
        return hf_tokenizer.HuggingFaceTokenizer(path, vocab_size)
    tokens = tokenizer.SentencePieceTokenizer(path)
    if tokens.vocab_size != vocab_size:
        raise ValueError(
            f"model.vocab_size={vocab_size}, but the tokenizer at {path} has "
            f"{tokens.vocab_size} pieces; give the model that size or train another tokenizer"
        )
    return tokens


def _is_json(path: pathlib.Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(64).lstrip()[:1] == b"{"
