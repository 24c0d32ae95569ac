"""The road: every stage after what it is made from; and all of it, killed in every one."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from configs import r1_tiny
from r1_jax.checkpoints import weights
from r1_jax.cli import main
from r1_jax.core import build, trees
from r1_jax.data import demonstrations
from r1_jax.data.tasks import general
from r1_jax.pipeline import r1

PAPER = ("r1_zero", "cold_start", "dev1", "dev2", "rejection_sampling", "dev3", "r1")


@pytest.fixture(scope="module")
def config() -> r1.R1Config:
    return build.build(r1.R1Config, r1_tiny.get_config("smoke"))


def test_stages_come_after_their_parents_in_the_paper_s_order(config, tmp_path):
    names = []
    for one in r1.stages(config, tmp_path):
        assert set(one.parents) <= set(names)
        names.append(one.name)
    assert tuple(name for name in names if name in PAPER) == PAPER
    assert names[-1] == "standing" and len(set(names)) == len(names)


def test_both_fine_tunings_start_from_the_base_and_not_from_the_policy_before(config, tmp_path):
    parents = {one.name: set(one.parents) for one in r1.stages(config, tmp_path)}
    assert parents["dev1"] == {"base", "cold_start"}
    assert parents["dev3"] == {"base", "rejection_sampling"}
    assert parents["dev2"] == {"dev1"} and parents["r1"] == {"dev3", "reward_model"}
    assert parents["reward_model"] == {"dev3", "preferences"}
    assert parents["student"] == {"student_base", "rejection_sampling"}  # what Dev3 reads


def test_cold_start_data_may_come_from_the_base_behind_examples(config, tmp_path):
    changed = dataclasses.replace(config, cold_start_from="base")
    parents = {one.name: one.parents for one in r1.stages(changed, tmp_path)}
    assert parents["cold_start"] == ("base",)
    assert {one.name: one.parents for one in r1.stages(config, tmp_path)}["cold_start"] == (
        "r1_zero",
    )


@pytest.mark.parametrize("variant", ["full", "smoke"])
def test_the_configuration_builds(variant):
    assert build.build(r1.R1Config, r1_tiny.get_config(variant)).dev2.reward.language_weight == 1


@pytest.mark.parametrize("variant", ["full", "smoke"])
def test_there_are_as_many_problems_as_stages_ask_for(variant):
    config = build.build(r1.R1Config, r1_tiny.get_config(variant))
    assert config.preferences.num_prompts <= len(general.problems(0)["train"])
    for choice in (config.cold_start, config.rejection_sampling):
        assert choice.num_prompts <= config.r1_zero.task.num_train


def test_a_stage_whose_parents_are_not_done_is_one_line(tmp_path, capsys):
    words = ["pipeline", "--config=configs/r1_tiny.py:smoke", f"--workdir={tmp_path}"]
    with pytest.raises(SystemExit) as stop:
        main.main([*words, "--only=dev1"])
    assert stop.value.code == 2
    assert "dev1 is made from base, which is not done" in capsys.readouterr().err


# Where a stage shows that it is under way; bases are copied here, which takes no time to speak of.
UNDER_WAY = {
    "r1_zero": "metrics.jsonl",
    "cold_start": "samples/00000.jsonl",
    "dev1": "metrics.jsonl",
    "dev2": "metrics.jsonl",
    "rejection_sampling": "samples/00000.jsonl",
    "dev3": "metrics.jsonl",
    "preferences": "samples/00000.jsonl",
    "reward_model": "metrics.jsonl",
    "r1": "metrics.jsonl",
    "student": "metrics.jsonl",
    "student_rl": "metrics.jsonl",
    "standing": "R1-Zero.jsonl",
}


def _smoke(workdir, until=None):
    """What the command printed and its status; killed as soon as the file `until` has content."""
    words = ["pipeline", "--config=configs/r1_tiny.py:smoke", f"--workdir={workdir}"]
    child = subprocess.Popen(
        [sys.executable, "-m", "r1_jax", *words],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while until is not None and child.poll() is None:
        if until.exists() and until.stat().st_size:
            child.kill()
        time.sleep(0.02)
    out, _ = child.communicate(timeout=900)
    return out, child.returncode


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The workdir of a chain that was killed once in every stage, and what it printed at last."""
    workdir = tmp_path_factory.mktemp("chain")
    for name, file in UNDER_WAY.items():
        out, status = _smoke(workdir, until=workdir / name / file)
        assert status == -signal.SIGKILL, f"{name}: {out}"
        assert f"{name}: begins" in out and not (workdir / name / "done.json").exists()
    out, status = _smoke(workdir)
    assert status == 0, out
    return workdir, out


@pytest.mark.kill
def test_the_whole_road_killed_once_in_every_stage(killed):
    workdir, out = killed
    assert out.count("done already") == 13 and out.count("begins") == 1
    done = {path.parent.name: json.loads(path.read_text()) for path in workdir.glob("*/done.json")}
    assert set(PAPER) < set(done) and len(done) == 14
    for name, marker in done.items():
        assert marker["output"] and (workdir / name / marker["output"]).exists()
        for parent, digest in marker["parents"].items():
            assert done[parent]["digest"] == digest
    data = demonstrations.read(workdir / "rejection_sampling" / "data.jsonl")
    assert {one.source for one in data} == {"rejection_sampling", "general"}
    table = json.loads((workdir / "standing" / "table.json").read_text())
    assert [row["model"] for row in table][:5] == ["R1-Zero", "Dev1", "Dev2", "Dev3", "R1"]
    assert all(0 <= row["language"] <= 1 for row in table)
    assert "Where every model stands" in (workdir / "report.html").read_text()


@pytest.mark.slow
def test_a_chain_that_was_killed_is_the_one_that_was_not_to_the_bit(killed, tmp_path):
    workdir, _ = killed
    out, status = _smoke(tmp_path)
    assert status == 0, out
    for path in sorted(tmp_path.glob("*/policy.safetensors")):
        there, _ = weights.load_weights(workdir / path.parent.name / path.name)
        here, _ = weights.load_weights(path)
        assert trees.digest(there) == trees.digest(here), path.parent.name
    for name in ("cold_start/data.jsonl", "rejection_sampling/data.jsonl", "standing/table.json"):
        assert (workdir / name).read_bytes() == (tmp_path / name).read_bytes(), name
