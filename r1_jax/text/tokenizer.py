"""Tokenizers: text <-> ids. SentencePiece for runs, bytes for tests; hf_tokenizer has a third."""

import hashlib
import io
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Protocol

# SentencePiece writes a space as this character, and reads it back as a space wherever it stands.
_SPACE = "\u2581"


class Decoder(Protocol):
    """What a grader's room knows of a tokenizer: ids become text."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; pad and stop ids vanish, broken UTF-8 becomes U+FFFD.

        Raises ValueError for an id outside the vocabulary.
        """
        ...


class Tokenizer(Decoder, Protocol):
    """What the other rooms know of a tokenizer. decode(encode(s)) == s for every string."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def stop_ids(self) -> tuple[int, ...]: ...
    @property
    def digest(self) -> str:
        """sha256 (hex) of all that decides the ids."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without any stop id."""
        ...


def checked(ids: Iterable[int], vocab_size: int) -> list[int]:
    """`ids` as Python integers."""
    ids = [int(i) for i in ids]
    for i in ids:
        if not 0 <= i < vocab_size:
            raise ValueError(
                f"token id {i} is outside the tokenizer's vocab_size={vocab_size}; "
                "a model must have the tokenizer's own vocabulary"
            )
    return ids


class ByteTokenizer:
    """One id per UTF-8 byte (0-255), then pad (256) and stop (257)."""

    vocab_size = 258
    pad_id = 256
    stop_ids = (257,)
    digest = hashlib.sha256(b"r1_jax: UTF-8 bytes, pad 256, stop 257").hexdigest()

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Iterable[int]) -> str:
        ids = checked(ids, self.vocab_size)
        return bytes(i for i in ids if i < 256).decode(errors="replace")


class SentencePieceTokenizer:
    """A SentencePiece model file as written by `train_sentencepiece`.

    `model` is the file's content, kept so that a checkpoint can carry it. Raises ValueError for a
    missing or broken file, and for a model that could not give every string back (no byte
    fallback) or cannot end a text (no end id, or the same as pad).
    """

    def __init__(self, path: str | os.PathLike[str]):
        import sentencepiece

        try:
            self.model = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise ValueError(
                f"tokenizer={str(path)!r} cannot be read ({error.strerror}); "
                "`python -m r1_jax tokenizer` trains one"
            ) from error
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except RuntimeError as error:
            raise ValueError(
                f"tokenizer={str(path)!r} is no SentencePiece model; "
                "train it anew with `python -m r1_jax tokenizer`"
            ) from error
        self.vocab_size: int = self._processor.vocab_size()
        self.pad_id: int = self._processor.pad_id()
        self.stop_ids: tuple[int, ...] = (self._processor.eos_id(),)
        self.digest: str = hashlib.sha256(self.model).hexdigest()
        self._space_ids = [self._processor.piece_to_id(f"<0x{b:02X}>") for b in _SPACE.encode()]
        if self.pad_id < 0 or self.stop_ids[0] < 0 or self.pad_id == self.stop_ids[0]:
            raise ValueError(
                f"tokenizer={str(path)!r}: pad id {self.pad_id} and end id {self.stop_ids[0]} must "
                "both exist and differ; `python -m r1_jax tokenizer` trains such a model"
            )
        if not all(map(self._processor.is_byte, self._space_ids)):
            raise ValueError(
                f"tokenizer={str(path)!r} has no byte fallback, so some text would be lost; "
                "`python -m r1_jax tokenizer` trains a model that has it"
            )

    def encode(self, text: str) -> list[int]:
        # A literal U+2581 would come back as a space, so its three bytes are written instead.
        parts = self._processor.encode(text.split(_SPACE))
        ids = parts[0]
        for part in parts[1:]:
            ids = ids + self._space_ids + part
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return self._processor.decode(checked(ids, self.vocab_size))


def train_sentencepiece(
    texts: Iterable[str],
    path: str | os.PathLike[str],
    vocab_size: int,
    *,
    symbols: Sequence[str] = (),
) -> SentencePieceTokenizer:
    """Trains byte-pair encoding on `texts`, writes the model to `path` and returns it loaded.

    Ids: 0 pad, 1 end, 2 unknown (never produced), then `symbols` in order, then 256 bytes for
    whatever the pieces do not cover, then learnt pieces and characters. A symbol is always one
    token wherever it occurs, the longest first: whole numbers, tags, a template's constant text.
    Pieces may cross word borders and nothing is normalised. The file appears whole or not at all,
    and equal input gives equal bytes. Raises ValueError for a vocabulary that is too small for
    the symbols and characters or too large for the texts.
    """
    import sentencepiece

    symbols = list(dict.fromkeys(symbols))
    if "" in symbols or any(_SPACE in symbol for symbol in symbols):
        raise ValueError(f"symbols={symbols} must not be empty or contain {_SPACE!r}")
    buffer = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=buffer,
            model_type="bpe",
            vocab_size=vocab_size,
            user_defined_symbols=[symbol.replace(" ", _SPACE) for symbol in symbols],
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            unk_surface="\ufffd",
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_whitespace=False,
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentencepiece_length=512,
            max_sentence_length=1 << 20,
            num_threads=1,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise ValueError(
            f"vocab_size={vocab_size} does not fit: {len(symbols)} symbols, 256 bytes, 3 special "
            f"ids and every character of the texts need a place, and the texts must hold enough "
            f"repetition to fill the rest. SentencePiece says: {error}"
        ) from error
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial{os.getpid()}")
    partial.write_bytes(buffer.getvalue())
    os.replace(partial, path)
    return SentencePieceTokenizer(path)
