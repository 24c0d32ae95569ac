"""The command judges, trains and says where the result lies; bad words end it in one line."""

import pytest

from r1_jax.cli import reward_model
from r1_jax.data import preferences
from r1_jax.pipeline import reward_models

CONFIG = "--config=configs/reward_model_tiny.py"
JUDGE = "--judge=tests.tiny_preferences:better"


def _main(*words):
    reward_model.main(["reward_model", CONFIG, *words])


@pytest.fixture
def trained(monkeypatch):
    """The arguments of reward_models.run, which is not run."""
    seen = []

    def run(config, workdir, data):
        seen.append((config.reward_model.kind, workdir, data))
        return "there"

    monkeypatch.setattr(reward_models, "run", run)
    return seen


def test_pairs_are_judged_once_and_trained_on(tmp_path, trained, capsys):
    def completion(text):
        return f"</think> {text}"

    candidates, data = str(tmp_path / "candidates.jsonl"), str(tmp_path / "pairs.jsonl")
    preferences.write(
        candidates,
        [preferences.Candidate(0, "q", completion("please go"), completion("now go"))],
    )
    words = (f"--candidates={candidates}", JUDGE, f"--data={data}", "--workdir=W")
    _main(*words, "--config.preference.balance_lengths=false")
    assert trained == [("pairwise", "W", data)]
    assert '"kept": 1' in (out := capsys.readouterr().out) and "reward model: there" in out
    (pair,) = preferences.read(data, preferences.Preference)
    assert (pair.chosen, pair.rejected) == ("please go", "now go")
    _main(*words)
    assert "kept" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--workdir and --data are required"),
        (("--workdir=W", "--data=d", JUDGE), "--candidates and --judge go together"),
        (("--workdir=W", "--data=d", "--config.grpo.kl_coef=1"), "does not read grpo"),
        (("--workdir=W", "--data=none.jsonl"), "none.jsonl: no file of judged pairs"),
    ],
)
def test_bad_words_end_in_one_line(words, message, capsys, tmp_path, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        _main(*(word.replace("=W", f"={tmp_path}") for word in words))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
