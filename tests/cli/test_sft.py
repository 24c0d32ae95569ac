"""The command fine-tunes and says where the result lies; bad words end it in one line."""

import pytest

from r1_jax.cli import sft as command
from r1_jax.pipeline import sft

CONFIG = "--config=configs/distill_qwen_7b.py"


def _main(*words):
    command.main(["sft", CONFIG, *words])


def test_it_fine_tunes_with_adapters_when_told_to(monkeypatch, capsys):
    seen = []

    def run(config, data, workdir):
        seen.append((config.lora, data, workdir))
        return "there"

    monkeypatch.setattr(sft, "run", run)
    _main("--data=d.jsonl", "--workdir=W")
    _main("--data=d.jsonl", "--workdir=W", "--config.lora.rank=4")
    (plain, *rest), (adapted, *_) = seen
    assert plain is None and rest == ["d.jsonl", "W"]
    assert (adapted.rank, adapted.alpha, adapted.layers) == (4, 32.0, ())
    assert "policy: there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workdir=W",), "--workdir and --data are required"),
        (("--workdir=W", "--data=d", "--config.grpo.kl_coef=1"), "does not read grpo"),
        (("--workdir=W", "--data=d", "--config.lora.rank=0"), "lora: rank=0 must be at least 1"),
        (("--workdir=W", "--data=d"), "tokenizer.path='' stands for the one beside base"),
    ],
)
def test_bad_words_end_in_one_line(words, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        _main(*(word.replace("=W", f"={tmp_path}") for word in words))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
