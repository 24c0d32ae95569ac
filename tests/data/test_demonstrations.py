"""Demonstrations: read as written, trained on the completion and its stop token alone."""

import hashlib

import numpy as np
import pytest

from r1_jax.data import demonstrations
from r1_jax.text import tokenizer

TOKENS = tokenizer.ByteTokenizer()
SOME = [
    demonstrations.Demonstration(3, "2 + 2?", " 4 是", "a"),
    demonstrations.Demonstration(5, "1?", "\n", "b"),
]


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "data.jsonl"
    demonstrations.write(path, SOME)
    assert demonstrations.read(path) == SOME
    assert len(path.read_text().splitlines()) == 2


def test_the_same_is_a_tensorflow_datasets_data_set(tmp_path):
    path = demonstrations.prepare(tmp_path, SOME[:1])
    assert demonstrations.read(path) == SOME[:1]
    assert demonstrations.prepare(tmp_path, SOME * 3) == path  # after a kill: made again
    assert demonstrations.read(path) == SOME * 3
    first = demonstrations.digest(path)
    demonstrations.prepare(tmp_path, SOME)
    assert demonstrations.digest(path) != first
    file = tmp_path / "data.jsonl"
    demonstrations.write(file, SOME)
    assert demonstrations.digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "line",
    ["{", '{"uid": 1}', '{"uid": "1", "question": "", "completion": "", "source": ""}', "[]"],
)
def test_a_line_that_is_none_is_named(line, tmp_path):
    path = tmp_path / "data.jsonl"
    demonstrations.write(path, SOME)
    with open(path, "a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 3, is no demonstration"):
        demonstrations.read(path)


def test_the_loss_is_on_the_completion_and_one_stop_token():
    rows, num_long = demonstrations.pack(SOME, TOKENS, lambda q: f"Q{q}A", 40)
    assert num_long == 0
    weighed = rows.tokens_BT[rows.weight_BT > 0]
    assert sorted(weighed.tolist()) == sorted([*" 4 是".encode(), *b"\n", 257, 257])
    assert np.sum(rows.tokens_BT[rows.segment_BT > 0] == 257) == 2
    for segment in (1, 2):
        (inside,) = np.nonzero(rows.segment_BT[0] == segment)
        text = bytes(t for t in rows.tokens_BT[0, inside] if t < 256).decode()
        assert text in {"Q2 + 2?A 4 是", "Q1?A\n"}


def test_what_is_too_long_is_left_out_and_counted():
    rows, num_long = demonstrations.pack(SOME, TOKENS, lambda q: q, 5)
    assert num_long == 1 and rows.tokens_BT.shape == (1, 5)
