"""A data set on disk is whole or absent, however its preparation ends."""

import pathlib
import signal
import subprocess
import sys

import pytest

from r1_jax.data import sources
from r1_jax.data.tasks import task

SPLITS = {
    "train": [task.Prompt(i, f"q {i} é", '{"a": 1}') for i in range(5)],
    "validation": [task.Prompt(5, "line\nline \u2581", "{}")],
    "test": [task.Prompt(2**31 - 1, "", "{}")],
}


def _open(path, generate=lambda: SPLITS):
    return sources.open_or_prepare("toy", {"x": 1}, str(path), generate)


def test_everything_comes_back(tmp_path):
    for splits in (_open(tmp_path), _open(tmp_path, generate=None)):
        assert {split: list(records) for split, records in splits.items()} == SPLITS


def test_records_are_a_sequence(tmp_path):
    train = _open(tmp_path)["train"]
    assert train[1:4:2] == SPLITS["train"][1:4:2] and train[:2] == SPLITS["train"][:2]
    assert train[-1] == SPLITS["train"][-1]
    for index in (5, -6):
        with pytest.raises(IndexError, match="of 5"):
            train[index]


def test_a_failed_preparation_leaves_nothing_that_is_taken_as_good(tmp_path):
    def half():
        def prompts():
            yield from SPLITS["train"][:3]
            raise RuntimeError("disk full")

        return {**SPLITS, "test": prompts()}

    with pytest.raises(RuntimeError, match="disk full"):
        _open(tmp_path, half)
    assert {k: list(v) for k, v in _open(tmp_path).items()} == SPLITS


def test_a_killed_preparation_leaves_nothing_that_is_taken_as_good(tmp_path):
    code = """
import os, signal, sys
from r1_jax.data import sources
from r1_jax.data.tasks import task

def prompts():
    yield task.Prompt(0, "half", "{}")
    print("in the middle", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

whole = [task.Prompt(1, "whole", "{}")]
splits = {"train": whole, "validation": whole, "test": prompts()}
sources.open_or_prepare("toy", {"x": 1}, sys.argv[1], lambda: splits)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert result.returncode == -signal.SIGKILL and "in the middle" in result.stderr
    assert list(tmp_path.rglob("*incomplete*"))  # it was really at work
    assert {k: list(v) for k, v in _open(tmp_path).items()} == SPLITS


def test_two_preparations_at_once_end_in_one_whole_set(tmp_path):
    def overtaken():
        def prompts():
            yield from SPLITS["test"]
            _open(tmp_path)  # another one ends while this one writes

        return {**SPLITS, "test": prompts()}

    splits = _open(tmp_path, overtaken)
    assert {split: list(records) for split, records in splits.items()} == SPLITS
    assert not list(tmp_path.rglob("*incomplete*"))


@pytest.mark.parametrize("damage", ["truncate", "remove", "info"])
def test_a_damaged_set_is_an_error_that_says_what_to_delete(tmp_path, damage):
    _open(tmp_path)
    path = sources.directory("toy", {"x": 1}, str(tmp_path))
    (file,) = path.glob("*-train.array_record*")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "remove":
        file.unlink()
    else:
        (path / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"1\.0\.0 cannot be read .*delete that folder"):
        _open(tmp_path)


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = sources.directory("toy", {}, "~/data")
    assert path.is_relative_to(pathlib.Path(tmp_path) / "data")
