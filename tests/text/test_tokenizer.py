"""Every string survives, symbols are single tokens, and bad files are clear errors."""

import random

import hypothesis
import numpy as np
import pytest
import sentencepiece
from hypothesis import strategies as st

from r1_jax.text import chat, tokenizer

NUMBERS = tuple(str(n) for n in range(100))


def _question(rng):
    numbers = [rng.randint(1, 20) for _ in range(3)]
    return (
        f"Using the numbers {numbers}, write an expression that equals {rng.randint(10, 99)}. "
        "Use + - * / and each number exactly once."
    )


def _texts(num_texts):
    rng = random.Random(0)
    for _ in range(num_texts):
        thought = f"try {rng.randint(1, 20)} + {rng.randint(1, 20)}. wait, wrong."
        yield chat.render(_question(rng)) + chat.completion(thought, f"({rng.randint(1, 9)} + 1)")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "sp.model"
    symbols = NUMBERS + chat.symbols()
    return tokenizer.train_sentencepiece(_texts(500), path, 512, symbols=symbols)


TRICKY = [
    "",
    " ",
    "a\u2581 \u2581b",
    "\u2581",
    "  two  spaces ",
    "\r\n\t\0",
    "<unk></s><0x41>",
    "é😀",
]


@hypothesis.given(st.text())
@hypothesis.settings(deadline=None)
def test_sentencepiece_gives_every_string_back(trained, text):
    for each in (text, text + "<think>" + text):
        assert trained.decode(trained.encode(each)) == each


@pytest.mark.parametrize("text", TRICKY)
def test_both_tokenizers_give_tricky_strings_back(trained, text):
    for tok in (trained, tokenizer.ByteTokenizer()):
        ids = tok.encode(text)
        assert tok.decode(ids) == text
        assert tok.decode(np.array(ids, np.int32)) == text


@hypothesis.given(st.text())
@hypothesis.settings(deadline=None)
def test_bytes_give_every_string_back(text):
    tok = tokenizer.ByteTokenizer()
    assert tok.decode(tok.encode(text)) == text


def test_a_whole_number_and_a_tag_are_one_token(trained):
    for symbol in (*NUMBERS, *chat.symbols()):
        assert len(trained.encode(symbol)) == 1
    seven, ten = trained.encode("7")[0], trained.encode("10")[0]
    assert [i for i in trained.encode("(7 + 10) * 7") if i in (seven, ten)] == [seven, ten, seven]


def test_a_countdown_prompt_is_short(trained):
    assert len(trained.encode(chat.render(_question(random.Random(7))))) <= 48


@hypothesis.given(st.text(max_size=20))
@hypothesis.settings(deadline=None)
def test_prompt_and_completion_tokenise_alike_apart_and_together(trained, thought):
    prompt, completion = chat.render("3 + 4 = ?"), chat.completion(thought, "7")
    assert trained.encode(prompt + completion) == trained.encode(prompt) + trained.encode(
        completion
    )


def test_special_ids_never_come_from_text_and_vanish_from_it(trained):
    for tok in (trained, tokenizer.ByteTokenizer()):
        special = {tok.pad_id, *tok.stop_ids}
        assert len(special) == 2
        assert all(0 <= i < tok.vocab_size for i in special)
        assert not special & set(tok.encode("<pad></s><s>\0"))
        (stop,) = tok.stop_ids
        assert tok.decode([*tok.encode("ab"), stop, tok.pad_id]) == "ab"


def test_an_id_outside_the_vocabulary_is_an_error(trained):
    for tok in (trained, tokenizer.ByteTokenizer()):
        for i in (-1, tok.vocab_size):
            with pytest.raises(ValueError, match=f"token id {i} .*vocab_size={tok.vocab_size}"):
                tok.decode([i])


def test_the_digest_is_that_of_the_file_and_training_repeats_it(trained, tmp_path):
    again = tokenizer.train_sentencepiece(
        _texts(500), tmp_path / "a.model", 512, symbols=NUMBERS + chat.symbols()
    )
    assert again.digest == trained.digest and again.model == trained.model
    other = tokenizer.train_sentencepiece(_texts(500), tmp_path / "b.model", 512, symbols=NUMBERS)
    assert other.digest != trained.digest
    (tmp_path / "copy.model").write_bytes(trained.model)
    copy = tokenizer.SentencePieceTokenizer(tmp_path / "copy.model")
    assert copy.digest == trained.digest and copy.encode("a 7") == trained.encode("a 7")


@pytest.mark.parametrize("vocab_size", [300, 100_000])
def test_a_vocabulary_that_does_not_fit_is_an_error_and_writes_nothing(tmp_path, vocab_size):
    with pytest.raises(ValueError, match=f"vocab_size={vocab_size} does not fit"):
        tokenizer.train_sentencepiece(_texts(50), tmp_path / "m", vocab_size, symbols=NUMBERS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("symbol", ["", "\u2581x"])
def test_a_symbol_that_could_not_be_given_back_is_an_error(tmp_path, symbol):
    with pytest.raises(ValueError, match="symbols="):
        tokenizer.train_sentencepiece(_texts(50), tmp_path / "m", 400, symbols=[symbol])


def test_files_that_are_no_such_model_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"absent.*r1_jax tokenizer"):
        tokenizer.SentencePieceTokenizer(tmp_path / "absent")
    (tmp_path / "junk").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="junk"):
        tokenizer.SentencePieceTokenizer(tmp_path / "junk")


@pytest.mark.parametrize(
    "options, message",
    [({"pad_id": 3, "byte_fallback": False}, "byte fallback"), ({"pad_id": -1}, "pad id -1")],
)
def test_a_foreign_model_that_could_lose_text_is_an_error(tmp_path, options, message):
    with open(tmp_path / "foreign", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_texts(50),
            model_writer=file,
            model_type="bpe",
            vocab_size=400,
            minloglevel=3,
            **{"byte_fallback": True, **options},
        )
    with pytest.raises(ValueError, match=message):
        tokenizer.SentencePieceTokenizer(tmp_path / "foreign")
