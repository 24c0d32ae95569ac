"""Drawing from a policy: what it is shown, and that nothing is drawn twice."""

import json
import os
import signal

import pytest

from r1_jax.core import interrupt
from r1_jax.pipeline import sampled
from r1_jax.text import chat
from tests.pipeline.conftest import Tokenizer


def _rows(toy, workdir, **changes):
    config = toy.config(grpo__max_prompt=8)
    return list(sampled.draw(config, workdir, num_prompts=6, num_samples=2, **changes))


def test_every_problem_stands_behind_the_examples(toy, tmp_path, monkeypatch):
    shown, encode = [], Tokenizer.encode

    def seen(self, text):
        shown.append(text)
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", seen)
    examples = [("w", " <think> hm </think> <answer> good </answer>")]
    found = _rows(toy, tmp_path, examples=examples)
    questions = [problem.question for problem in toy.task.splits["train"][:6]]
    assert [row["question"] for row in found[::2]] == questions
    assert set(shown) == {chat.few_shot(examples, question) for question in questions}


def test_a_batch_on_disk_is_not_drawn_again(toy, tmp_path):
    first = _rows(toy, tmp_path)
    (tmp_path / "samples" / "00001.jsonl").unlink()
    path = tmp_path / "samples" / "00000.jsonl"
    kept = [json.loads(line) | {"mark": 1} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    second = _rows(toy, tmp_path)
    assert [row.pop("mark", None) for row in second] == [1] * 8 + [None] * 4
    assert second == first


def test_told_to_end_it_leaves_between_two_batches(toy, tmp_path):
    toy.before = lambda name, step: os.kill(os.getpid(), signal.SIGTERM)
    with interrupt.heeded(), pytest.raises(interrupt.Interrupted, match="samples are kept in"):
        _rows(toy, tmp_path)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["00000.jsonl"]
