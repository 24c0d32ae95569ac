"""tokenizer.json: bytes come back, special tokens and stop ids are what the files say."""

import json
import unicodedata

import hypothesis
import hypothesis.strategies as st
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from r1_jax.text import hf_tokenizer
from tests.interop import tiny

MARKS = ("<|end|>", "<|pad|>", "<|turn|>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    tiny.tokenizer_files(folder, 300)
    return folder


@pytest.fixture(scope="module")
def tokens(folder):
    return hf_tokenizer.HuggingFaceTokenizer(folder)


def _copy(folder, tmp_path, **changes):
    """The folder with other contents of files: name without ".json" -> mapping, text or None."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name, content in changes.items():
        path = tmp_path / f"{name}.json"
        if content is None:
            path.unlink()
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path


@hypothesis.given(st.text())
@hypothesis.settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_every_text_without_its_marks_comes_back(tokens, text):
    hypothesis.assume(not any(mark in text for mark in MARKS))
    ids = tokens.encode(text)
    assert tokens.decode(ids) == text
    assert not set(ids) & {tokens.pad_id, *tokens.stop_ids}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  a",
        "a \n\n b\t",
        "<think>\nhm</think>",
        "\u2581a",
        "\x00\x7f",
        "\U0001f468\u200d\U0001f469",
        "a" * 500,
    ],
)
def test_awkward_texts_come_back(tokens, text):
    assert tokens.decode(tokens.encode(text)) == text


def test_special_tokens_are_one_id_wherever_they_stand(tokens):
    assert tokens.encode("a<|turn|>b") == [*tokens.encode("a"), 2, *tokens.encode("b")]
    (think,) = tokens.encode("<think>")
    assert tokens.encode("x<think>y").count(think) == 1
    assert tokens.decode(tokens.encode("x<think>y")) == "x<think>y"


def test_stop_and_pad_ids_are_several_and_vanish(tokens):
    assert tokens.stop_ids == (2, 0)  # eos_token first, then what generation stops at
    assert tokens.pad_id == 1
    ids = tokens.encode("a b")
    assert tokens.decode([1, 1, *ids, 2, 0, 1]) == "a b"


def test_half_a_character_is_the_replacement_character(tokens):
    ids = tokens.encode("Ж")
    assert len(ids) > 1 and tokens.decode(ids[:1]) == "\ufffd"


def test_rows_without_a_token_decode_and_ids_beyond_are_errors(folder):
    tokens = hf_tokenizer.HuggingFaceTokenizer(folder, vocab_size=384)
    assert (tokens.vocab_size, tokens.num_tokens) == (384, 300)
    a, b = tokens.encode("a"), tokens.encode("b")
    assert tokens.decode([*a, 350, *b]) == "a\ufffdb"
    for i in (384, -1):
        with pytest.raises(ValueError, match=f"token id {i} .*vocab_size=384"):
            tokens.decode([i])


def test_one_file_holds_all_and_the_digest_is_of_what_decides_the_ids(tokens, folder, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(tokens.model)
    alone = hf_tokenizer.HuggingFaceTokenizer(tmp_path / "tokenizer.model")
    for name in ("stop_ids", "pad_id", "vocab_size", "digest", "model", "files"):
        assert getattr(alone, name) == getattr(tokens, name)
    assert alone.encode("the fox <think>") == tokens.encode("the fox <think>")
    whole = tmp_path / "whole"
    whole.mkdir()
    same = _copy(folder, whole, special_tokens_map={"x": 1})
    assert hf_tokenizer.HuggingFaceTokenizer(same).digest == tokens.digest
    other = _copy(folder, whole, generation_config={"eos_token_id": 0})
    assert hf_tokenizer.HuggingFaceTokenizer(other).stop_ids == (2, 0)
    other = _copy(folder, whole, tokenizer_config={"eos_token": {"content": "<|end|>"}})
    changed = hf_tokenizer.HuggingFaceTokenizer(other / "tokenizer.json")
    assert changed.stop_ids == (0, 2) and changed.pad_id == 0
    assert changed.digest != tokens.digest


def test_a_normaliser_s_form_comes_back(tmp_path):
    tiny.tokenizer_files(tmp_path, 300, nfc=True)
    tokens = hf_tokenizer.HuggingFaceTokenizer(tmp_path)
    text = unicodedata.normalize("NFD", "un été")
    assert text != unicodedata.normalize("NFC", text)
    assert tokens.decode(tokens.encode(text)) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": None}, "tokenizer.json' cannot be read"),
        ({"tokenizer": "{"}, "is no JSON"),
        ({"tokenizer": "{}"}, "is no tokenizer.json"),
        ({"tokenizer_config": "["}, "tokenizer_config.json beside .* is no JSON"),
        ({"generation_config": "[]"}, "generation_config.json beside .* holds no mapping"),
        ({"tokenizer_config": {"eos_token": "</s>"}}, "eos_token='</s>', which is no token"),
        ({"tokenizer_config": {"eos_token": "<|end|>", "pad_token": "<P>"}}, "pad_token=.<P>."),
        ({"generation_config": {"eos_token_id": [2, 300]}}, "eos_token_id=300, which is no token"),
        ({"tokenizer_config": {}, "generation_config": {}}, "says how a text ends"),
    ],
)
def test_what_cannot_be_used_is_named(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        hf_tokenizer.HuggingFaceTokenizer(_copy(folder, tmp_path, **changes))


def test_a_tokenizer_larger_than_the_model_is_an_error(folder):
    with pytest.raises(ValueError, match="has 300 ids, the model only vocab_size=299"):
        hf_tokenizer.HuggingFaceTokenizer(folder, vocab_size=299)


def test_a_tokenizer_that_loses_text_is_an_error(folder, tmp_path):
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "<|turn|>": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    path = _copy(folder, tmp_path, tokenizer=words.to_str(), generation_config=None)
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|turn|>"}))
    with pytest.raises(ValueError, match="loses text"):
        hf_tokenizer.HuggingFaceTokenizer(path)


@pytest.mark.hf
@pytest.mark.parametrize("nfc", [True, False])
def test_ids_are_those_of_transformers(tmp_path, nfc):
    import transformers

    tiny.tokenizer_files(tmp_path, 300, nfc=nfc)
    ours = hf_tokenizer.HuggingFaceTokenizer(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (
        *tiny.TEXTS,
        "<think>\n a<|turn|>\n\n  b </think>",
        "e\u0301\u00e9 \U0001f9e0",
        "",
    ):
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False)
        kept = [i for i in ids if i not in (ours.pad_id, *ours.stop_ids)]
        assert ours.decode(ids) == theirs.decode(kept, clean_up_tokenization_spaces=False)
    assert ours.stop_ids[0] == theirs.eos_token_id and ours.pad_id == theirs.pad_token_id
