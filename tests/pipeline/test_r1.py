"""The road: every stage after what it is made from; the smoke run of all of it is marked slow."""

import json
import pathlib

import pytest

from configs import r1_tiny
from r1_jax.cli import main
from r1_jax.core import build
from r1_jax.data import demonstrations
from r1_jax.pipeline import r1, stage

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
    assert parents["dev2"] == {"dev1"} and parents["r1"] == {"dev3"}


@pytest.mark.parametrize("variant", ["full", "smoke"])
def test_the_configuration_builds(variant):
    assert build.build(r1.R1Config, r1_tiny.get_config(variant)).dev2.reward.language_weight == 1


def test_a_stage_whose_parents_are_not_done_is_one_line(tmp_path, capsys):
    words = ["pipeline", "--config=configs/r1_tiny.py:smoke", f"--workdir={tmp_path}"]
    with pytest.raises(SystemExit) as stop:
        main.main([*words, "--only=dev1"])
    assert stop.value.code == 2
    assert "dev1 is made from base, which is not done" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_road(tmp_path, capsys):
    words = ["pipeline", "--config=configs/r1_tiny.py:smoke", f"--workdir={tmp_path}"]
    with pytest.raises(SystemExit):
        main.main(words)
    done = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/done.json")}
    assert set(PAPER) < set(done) and len(done) == 12
    for name, marker in done.items():
        assert marker["output"] and (tmp_path / name / marker["output"]).exists()
        for parent, digest in marker["parents"].items():
            assert done[parent]["digest"] == digest
    data = demonstrations.read(tmp_path / "rejection_sampling" / "data.jsonl")
    assert {one.source for one in data} == {"rejection_sampling", "general"}
    table = json.loads((tmp_path / "standing" / "table.json").read_text())
    assert [row["model"] for row in table][:5] == ["R1-Zero", "Dev1", "Dev2", "Dev3", "R1"]
    assert all(0 <= row["language"] <= 1 for row in table)
    before = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main.main(words)
    assert capsys.readouterr().out.count("done already") == 12 and "begins" in before
    assert stage.DONE == pathlib.Path("done.json").name
