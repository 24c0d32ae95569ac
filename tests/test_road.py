"""The commands one after another, as a user types them, on a model that takes seconds."""

import json
import re

import pytest

from r1_jax.cli import main

CONFIG = """
import ml_collections

def get_config():
    config = ml_collections.ConfigDict()
    config.task = {"num_train": 24, "num_validation": 4, "num_test": 6, "min_target": 10}
    config.model = {
        "vocab_size": 400, "num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 8, "mlp_dim": 16,
    }
    config.corpus = {"num_documents": 600, "max_value": 60}
    config.pretrain = {"batch_rows": 16, "row_length": 128}
    config.optim = {"learning_rate": 0.01}
    config.sampling = {"num_slots": 8}
    config.grpo = {
        "num_steps": 2, "prompts_per_rollout": 4, "group_size": 4, "num_minibatches": 1,
        "max_prompt": 64, "max_response": 32,
    }
    config.mesh = {"fsdp": 4, "tensor": 2}
    config.reward = {"custom": "tests.toy_rewards:letters", "custom_weight": 1.0}
    config.eval = {"num_problems": 6, "num_samples": 4}
    config.task["data_dir"] = DATA
    return config
"""


def call(capsys, *words):
    """(exit status, stdout, stderr) of `python -m r1_jax words`."""
    with pytest.raises(SystemExit) as stop:
        main.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    (folder / "tiny.py").write_text(CONFIG.replace("DATA", repr(str(folder / "data"))))
    return folder


def words(folder, command, *more):
    return (command, f"--config={folder}/tiny.py", *more)


def test_from_a_corpus_to_an_answer(folder, capsys):
    train = words(
        folder, "train", f"--workdir={folder}/run", f"--config.base={folder}/base/base.safetensors"
    )

    code, out, err = call(capsys, *words(folder, "tokenizer", f"--out={folder}/t.model"))
    assert code == 0 and re.search(r"t.model: 400 pieces, digest [0-9a-f]{12}", out), err

    pretrain = words(folder, "pretrain", f"--workdir={folder}/base")
    code, out, err = call(capsys, *pretrain)
    assert code == 0 and out == f"base: {folder}/base/base.safetensors\n", err
    rows = (folder / "base/metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows]
    assert len(losses) > 5 and losses[-1] < losses[0] - 0.5
    # The corpus' tokenizer is a function of the config, and the base has its own beside it.
    assert (folder / "t.model").read_bytes() == (folder / "base/base.model").read_bytes()
    before = (folder / "base/base.safetensors").read_bytes()
    assert call(capsys, *pretrain)[0] == 0  # again: it is there
    assert (folder / "base/base.safetensors").read_bytes() == before

    code, out, err = call(capsys, *train)
    assert code == 0, err
    assert "pre-flight: pass_rate" in err and "eval at step 2: pass@1" in err
    code, out, _ = call(capsys, *train)
    assert code == 0 and out == f"{folder}/run is done already: 2 steps\n"

    code, out, err = call(capsys, "evaluate", folder / "run", "--set=eval.num_problems=4")
    assert code == 0, err
    row = json.loads(out[: out.index("\n}") + 2])
    assert (row["step"], row["num_problems"], row["num_samples"]) == (2, 4, 4)
    call(capsys, "evaluate", folder / "run", "--set=eval.num_problems=5")
    files = sorted(path.name for path in (folder / "run/evaluations").iterdir())
    assert len(files) == 4  # two settings, a row and its samples each
    # What the command says of the run's own settings is what the run said.
    call(capsys, "evaluate", folder / "run", "--step=2")
    own = json.loads((folder / "run/eval.jsonl").read_text().splitlines()[-1])
    [found] = (
        set((folder / "run/evaluations").glob("*.jsonl"))
        - {folder / "run/evaluations" / name for name in files}
        - set((folder / "run/evaluations").glob("*_samples.jsonl"))
    )
    again = json.loads(found.read_text())
    assert {k: again[k] for k in own} == own

    # A suite of our own task; what it stored is regraded to the same row, without the model.
    config = (folder / "tiny.py").read_text().replace("get_config", "experiment")
    more = """
def get_config():
    config = ml_collections.ConfigDict()
    config.entries = {"own": {"num_samples": 2, "ks": (2,), "task": experiment().task}}
    config.sampling = {"temperature": 0.6, "top_p": 0.95}
    return config
"""
    (folder / "suite.py").write_text(config + more)
    suite = ("evaluate", f"--checkpoint={folder}/run", f"--suite={folder}/suite.py")
    lengths = ("--suite.max_prompt=64", "--suite.max_response=16", "--suite.batch_size=4")
    code, out, err = call(capsys, *suite, *lengths)
    assert code == 0, err
    row = json.loads(out[: out.index("\n}") + 2])
    assert (row["task"], row["num_problems"], row["max_response"]) == ("own", 6, 16)
    assert {"pass@2", "pass@2_low", "cons@2_high", "contamination/share", "outcome/right"} <= set(
        row
    )
    (samples,) = (folder / "run/evaluations").glob("*_own_*_samples.jsonl")
    code, out, err = call(capsys, "evaluate", f"--regrade={samples}")
    assert code == 0, err
    again = json.loads(out[: out.index("\n}") + 2])
    assert {k: again[k] for k in row} == row and again["regraded/changed"] == 0
    code, _, err = call(capsys, "evaluate", folder / "run", f"--regrade={samples}")
    assert code == 2 and "--regrade needs no run" in err
    code, _, err = call(capsys, "evaluate", folder / "run", "--suite.seed=1")
    assert code == 2 and "--suite.seed needs a file" in err

    question = "Using the numbers [3, 5, 7], write an expression that equals 22. Go."
    code, out, err = call(capsys, "generate", folder / "run", question, "--samples=3")
    assert code == 0, err
    assert out.startswith(question + "\n") and len(out.splitlines()) >= 1

    code, out, err = call(capsys, "report", folder / "run")
    assert code == 0, err
    assert (folder / "run/report/report.html").stat().st_size > 10_000
    assert "pass@1" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "--workdir is required"),
        (("--workdir=x", "--config.grpo.group_siz=3"), "did you mean .*group_size"),
        (("--workdir=x", "--config.grpo.group_size=1"), "group_size=1: .* needs at least 2"),
        (("--workdir=x", "--config.corpus.search=0"), "does not read corpus"),
        (("--workdir=x", "--config.mesh.tensor=3"), "tensor=3 makes 12 devices, but there are 8"),
        (("--workdir=x", "--config.base=no.safetensors"), "cannot be read|no weights there"),
        (("--workdir=x", "--config.base=bases/countdown.safetensors"), "vocab_size=400, but the"),
    ],
)
def test_input_that_cannot_be_used_is_one_line(more, message, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, err = call(capsys, *words(folder, "train", *more))
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and re.search(message, lines[0]), err
    assert not (folder / "x").exists() or not any((folder / "x").rglob("*.json*"))


def test_a_run_is_needed_to_evaluate_or_generate(folder, capsys):
    code, _, err = call(capsys, "evaluate", folder / "nothing")
    assert code == 2 and "has no config.json: it is not the --workdir of a run" in err
    code, _, err = call(capsys, "generate", folder / "nothing")
    assert code == 2 and "at least one question" in err
