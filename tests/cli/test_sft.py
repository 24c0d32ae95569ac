"""The command fine-tunes and says where the result lies; bad words end it in one line."""

import pytest

from r1_jax.cli import sft as command
from r1_jax.pipeline import sft

CONFIG = "--config=configs/distill_qwen_7b.py"


def _main(*words):
    command.main(["sft", CONFIG, *words])


def test_it_fine_tunes_as_configured_on_the_data_given(monkeypatch, capsys):
    seen = []

    def run(config, data, workdir):
        seen.append((config.sft.epochs, data, workdir))
        return "there"

    monkeypatch.setattr(sft, "run", run)
    _main("--data=d.jsonl", "--workdir=W", "--config.sft.epochs=7")
    assert seen == [(7, "d.jsonl", "W")]
    assert "policy: there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workdir=W",), "--workdir and --data are required"),
        (("--workdir=W", "--data=d", "--config.grpo.kl_coef=1"), "does not read grpo"),
        (("--workdir=W", "--data=d"), "tokenizer.path='' stands for the one beside base"),
    ],
)
def test_bad_words_end_in_one_line(words, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        _main(*(word.replace("=W", f"={tmp_path}") for word in words))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
