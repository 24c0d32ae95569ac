"""A run is a function of its seed, and one that was killed goes on as if it had not been.

Real processes, a real model on two devices, everything that r1_zero.run does.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from r1_jax.core import interrupt
from r1_jax.pipeline import base
from tests import resume_child


def _start(workdir, shared, *kill, seed="random"):
    """A finished child: its exit status and what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "tests.resume_child", str(workdir), str(shared), *map(str, kill)],
        cwd=pathlib.Path(__file__).parents[1],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _rows(path, *, is_process_s_own=("seconds/", "speed/", "compilations")):
    """Rows of a file without what belongs to a process and not to the run."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(is_process_s_own)} for row in rows]


def _compilations(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["compilations"] for line in lines]


def _cached(shared):
    """The programs in the compilation cache: what is compiled comes to stand there."""
    return {path.name for path in (shared / "cache").iterdir()}


def _checkpoint(workdir, step=12):
    """(digest of all arrays, the data iterator's place) of a checkpoint."""
    path = workdir / "checkpoints" / f"step_{step:08d}" / "record" / "metadata"
    record = json.loads(path.read_text())
    assert any(name.startswith("reference/") for name in record["leaves"])
    assert any("opt_state" in name for name in record["leaves"])
    return record["digest"], record["host_state"]["batches"]


def _result(workdir):
    """All of a run that another run with its seed must give again, to the bit."""
    samples = {p.name: p.read_bytes() for p in sorted((workdir / "samples").iterdir())}
    rows = [_rows(workdir / f"{name}.jsonl") for name in ("metrics", "eval")]
    return (*rows, _checkpoint(workdir), samples)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What all runs share: tokenizer, problems, compilation cache."""
    shared = tmp_path_factory.mktemp("shared")
    base.train_tokenizer(resume_child.config(str(shared)), shared / "t.model")
    return shared


@pytest.fixture(scope="module")
def whole(shared):
    """An uninterrupted run."""
    done = _start(shared / "whole", shared, seed="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    return shared / "whole"


def test_the_run_did_what_the_other_tests_compare(whole):
    rows, evals, _, samples = _result(whole)
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert [row["step"] for row in evals] == [0, 4, 8, 12]
    assert len(samples) == 6 + 4
    # It learnt something, moved away from its reference, and that was refreshed at update 6.
    assert all(row["update/skipped"] == 0 and row["gradient/norm"] > 0 for row in rows)
    kl = [row["kl/reference"] for row in rows]
    assert kl[2] > kl[0] and kl[3] < kl[2]
    assert [row["length/limit"] for row in rows] == [16, 16, 16, 24, 24, 24]
    assert max(row["gap/sampler_learner_max"] for row in rows) <= 1e-4
    assert len({json.dumps(sample) for sample in samples.values().__str__().split()}) > 10


def test_nothing_is_compiled_after_the_first_step(whole):
    counts = _compilations(whole)
    assert counts[0] > 0
    assert counts[1:] == [0] * 5


def test_two_runs_with_one_seed_are_bit_identical_and_the_second_compiles_nothing(whole, shared):
    compiled = _cached(shared)
    again = _start(shared / "again", shared, seed="2")
    assert again.stdout == "done\n", again.stderr
    assert _result(shared / "again") == _result(whole)
    assert _cached(shared) == compiled  # nor before the first row, nor after the last
    first = json.loads((shared / "again" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["compilations/loaded"] == first["compilations"] > 30


@pytest.mark.kill
def test_killed_in_every_phase_a_run_is_bit_identical_to_the_uninterrupted_one(whole, shared):
    workdir = shared / "killed"
    for phase, at, kept in (("score", 2, 0), ("update", 7, 4), ("save", 8, 4), ("rollout", 10, 8)):
        killed = _start(workdir, shared, phase, at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        complete = [p.name for p in (workdir / "checkpoints").glob("step_????????")]
        found = int(max(complete, default="step_00000000").removeprefix("step_"))
        # Checkpoints are written beside the training: on a busy machine the last may not be whole.
        assert found in {kept, max(0, kept - 4)}
        if phase == "save":
            assert list((workdir / "checkpoints").glob("step_00000008*tmp*"))
    resumed = _start(workdir, shared)
    assert resumed.stdout == "done\n", resumed.stderr
    assert _result(workdir) == _result(whole)
    assert _compilations(workdir)[found // 2 + 1 :] == [0] * (5 - found // 2)
    assert _start(workdir, shared).stdout == "was done\n"


@pytest.mark.kill
def test_a_run_told_to_end_in_any_phase_saves_and_goes_on_to_the_bit(whole, shared):
    """SIGTERM, again and again, at steps without a checkpoint of their own."""
    workdir = shared / "told"
    for phase, at, kept in (
        ("update", 0, 2),
        ("score", 2, 2),
        ("rollout", 10, 10),
        ("eval", 12, 12),
    ):
        told = _start(workdir, shared, phase, at, "grpo", "SIGTERM")
        assert told.returncode == interrupt.EXIT_CODE, told.stderr
        assert "SIGTERM: this run saves" in told.stderr
        assert f"interrupted: step {kept} of 12 is kept" in told.stderr.splitlines()[-1]
        assert max((workdir / "checkpoints").iterdir()).name == f"step_{kept:08d}"
    assert _start(workdir, shared).stdout == "done\n"
    assert _result(workdir) == _result(whole)


# --- one step off -------------------------------------------------------------------------------


@pytest.mark.kill
def test_rollouts_drawn_ahead_are_drawn_again_to_the_bit_after_a_kill_and_a_signal(shared):
    whole = shared / "whole_off"
    done = _start(whole, shared, "", 0, "off")
    assert done.returncode == 0, done.stderr
    assert [row["policy/lag"] for row in _result(whole)[0]] == [0, 2, 2, 2, 2, 2]
    assert max(row["gap/sampler_learner_max"] for row in _result(whole)[0]) <= 1e-4
    assert _compilations(whole)[1:] == [0] * 5
    workdir = shared / "off_killed"
    killed = _start(workdir, shared, "rollout", 6, "off")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = _start(workdir, shared, "score", 8, "off", "SIGTERM")
    assert told.returncode == interrupt.EXIT_CODE, told.stderr
    assert _start(workdir, shared, "", 0, "off").stdout == "done\n"
    assert _result(workdir) == _result(whole)


# --- with a critic ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_ppo(shared):
    """An uninterrupted run of PPO: four updates a rollout."""
    done = _start(shared / "whole_ppo", shared, "", 0, "ppo")
    assert done.returncode == 0, done.stderr
    return shared / "whole_ppo"


@pytest.mark.slow
def test_ppo_trains_a_policy_and_a_critic_and_compiles_nothing_after_the_first_step(whole_ppo):
    rows = _result(whole_ppo)[0]
    assert [row["step"] for row in rows] == [0, 4, 8]
    for name in ("update/skipped", "value/skipped"):
        assert all(row[name] == 0 for row in rows)
    assert all(row["gradient/norm"] > 0 and row["value/gradient_norm"] > 0 for row in rows)
    assert rows[0]["value/explained_variance"] == pytest.approx(0, abs=1e-6)  # it said 0
    assert rows[2]["value/loss"] < rows[0]["value/loss"]
    assert max(row["gap/sampler_learner_max"] for row in rows) <= 1e-4
    assert _compilations(whole_ppo)[1:] == [0, 0]


@pytest.mark.kill
def test_a_run_of_ppo_killed_in_two_phases_goes_on_to_the_bit(whole_ppo, shared):
    workdir = shared / "ppo_killed"
    for phase, at in (("update", 7), ("save", 8)):
        killed = _start(workdir, shared, phase, at, "ppo")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = _start(workdir, shared, "", 0, "ppo")
    assert resumed.stdout == "done\n", resumed.stderr
    assert _result(workdir) == _result(whole_ppo)
