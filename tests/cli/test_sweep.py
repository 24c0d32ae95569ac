"""The sweep command: what it asks of the pipeline, what it refuses, and one real sweep."""

import json
import sys

import pytest

from r1_jax.cli import sweep as command
from r1_jax.metrics import jsonl
from r1_jax.pipeline import sweep

CONFIG = """
import ml_collections
def get_config(variant="plain"):
    if variant not in ("plain", "bare"):
        raise ValueError(f"no variant {variant}")
    config = ml_collections.ConfigDict({"grpo": {"num_steps": 16}})
    config.reward = {"format_weight": float(variant == "plain")}
    return config
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def asked(monkeypatch):
    """What sweep.run was called with, in place of running it."""
    calls = []

    def run(jobs, **options):
        calls.append((jobs, options))
        return asked_failures

    asked_failures: list[sweep.Failure] = []
    monkeypatch.setattr(sweep, "run", run)
    return calls, asked_failures


def main(*words):
    return command.main(["sweep", *words])


def test_cells_and_seeds_become_train_commands(config_file, asked, tmp_path):
    words = ["--grid=grpo.kl_coef=0,0.04", "--grid=variant=plain,bare", "--seeds=2"]
    words += ["--first_seed=3", "--workers=2", f"--workdir={tmp_path / 'w'}"]
    assert main(f"--config={config_file}", *words, "--config.grpo.group_size=8") == 0
    ((jobs, options),) = asked[0]
    assert options["workers"] == 2 and options["cores"] == 1
    assert [job.seed for job in jobs] == [3] * 4 + [4] * 4
    job = jobs[1]
    assert job.cell == "kl_coef=0,variant=bare"
    assert job.workdir == tmp_path / "w/kl_coef=0,variant=bare/seed3"
    assert job.command == (
        sys.executable, "-m", "r1_jax", "train", f"--config={config_file}:bare",
        "--config.grpo.group_size=8", "--config.grpo.kl_coef=0", "--config.seed=3",
        f"--workdir={job.workdir}",
    )  # fmt: skip
    assert job.config["seed"] == 3 and job.config["reward"]["format_weight"] == 0.0
    record = json.loads((tmp_path / "w/sweep.json").read_text())
    assert record["seeds"] == [3, 4] and len(record["grid"]) == 4


def test_failures_are_told_and_the_status_is_1(config_file, asked, tmp_path, capsys):
    job = sweep.Job("plain", 0, tmp_path, (), {})
    asked[1].append(sweep.Failure(job, -9, ("the last line",)))
    assert main(f"--config={config_file}", "--seeds=1", f"--workdir={tmp_path / 'w'}") == 1
    shown = capsys.readouterr()
    assert "0 of 1 runs are done" in shown.out
    assert "failed: plain seed 0, signal 9" in shown.err and "the last line" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid=grpo.kl_coeff=0"], "did you mean grpo.kl_coef?"),
        (["--grid=grpo.group_size=4,1"], "group_size=1"),
        (["--grid=corpus.search=0"], "does not read corpus"),
        (["--grid=variant=odd"], "no variant odd"),
        (["--seeds=0"], "at least 1"),
        (["--config.seed=1"], "first_seed"),
        (["--grid=grpo.kl_coef"], "must read"),
    ],
)
def test_what_a_child_would_refuse_is_refused_before_any_starts(
    config_file, asked, tmp_path, capsys, words, message
):
    with pytest.raises(SystemExit) as stopped:
        main(f"--config={config_file}", f"--workdir={tmp_path / 'w'}", *words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not asked[0] and not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_real_sweep_trains_goes_on_and_can_be_reported(tmp_path, capsys):
    words = [
        "--config=configs/r1_zero_countdown.py", "--grid=grpo.kl_coef=0,0.04", "--seeds=2",
        "--workers=2", f"--workdir={tmp_path / 'w'}", "--config.grpo.num_steps=2",
        "--config.grpo.prompts_per_rollout=8", "--config.grpo.group_size=8",
        "--config.grpo.num_microbatches=1", "--config.sampling.num_slots=0",
        "--config.grpo.max_response=32", "--config.eval.num_problems=4",
        "--config.eval.num_problems_between=2", "--config.eval.num_samples=4",
    ]  # fmt: skip
    assert main(*words) == 0
    path = tmp_path / "w/kl_coef=0.04/seed1"
    first, _ = jsonl.read(path / "metrics.jsonl")
    assert [row["step"] for row in first] == [0, 1]
    capsys.readouterr()
    assert main(*words) == 0
    assert "4 runs, 4 done already" in capsys.readouterr().out
    from r1_jax.cli import report

    report.main(["report", str(tmp_path / "w")])
    assert "report.html" in capsys.readouterr().out
