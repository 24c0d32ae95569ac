"""A path is a tokenizer of either kind, by its content."""

import pytest

from r1_jax.text import hf_tokenizer, load, tokenizer
from tests.interop import tiny


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.model"
    texts = ["the quick brown fox jumps over the lazy dog " * 3, "pack my box with five dozen"]
    tokenizer.train_sentencepiece(texts, path, 300)
    return path


def test_the_content_decides(pieces, tmp_path):
    found = load.load(pieces, 300)
    assert isinstance(found, tokenizer.SentencePieceTokenizer)
    assert load.load(pieces.parent, 300).digest == found.digest
    tiny.tokenizer_files(tmp_path, 300)
    theirs = load.load(tmp_path, 301)
    assert isinstance(theirs, hf_tokenizer.HuggingFaceTokenizer) and theirs.vocab_size == 301
    bundle = tmp_path / "run" / "tokenizer.model"
    bundle.parent.mkdir()
    bundle.write_bytes(theirs.model)
    assert load.load(bundle, 301).digest == theirs.digest
    assert load.load(bundle.parent, 301).digest == theirs.digest


def test_tokenizer_json_goes_first(pieces, tmp_path):
    tiny.tokenizer_files(tmp_path, 300)
    (tmp_path / "tokenizer.model").write_bytes(pieces.read_bytes())
    assert isinstance(load.load(tmp_path, 300), hf_tokenizer.HuggingFaceTokenizer)


def test_what_does_not_fit_the_model_or_is_not_there_is_an_error(pieces, tmp_path):
    with pytest.raises(ValueError, match=r"vocab_size=301, but the tokenizer at .* has 300 pieces"):
        load.load(pieces, 301)
    with pytest.raises(ValueError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        load.load(tmp_path, 300)
    with pytest.raises(ValueError, match="absent"):
        load.load(tmp_path / "absent", 300)
    tiny.tokenizer_files(tmp_path, 300)
    with pytest.raises(ValueError, match="has 300 ids, the model only vocab_size=299"):
        load.load(tmp_path, 299)
