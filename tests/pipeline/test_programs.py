"""A run whose task runs programs: the level is reached, told, kept, and can be asked for."""

import dataclasses
import json

import pytest

from r1_jax.data.tasks import load
from r1_jax.data.tasks import task as tasks
from r1_jax.pipeline import programs, suite
from r1_jax.rewards import code, pool, sandbox
from tests.pipeline import conftest as runs

NOTHING = json.dumps({"stdin": [{"input": "", "output": ""}]})  # which the program `1` prints
HERE = sandbox.level()


def _asked(task, **config):
    return programs.equip(task, sandbox.SandboxConfig(**config), pool.GraderConfig())


@pytest.fixture
def of_programs(toy, monkeypatch):
    """The toy task with programs for answers: 1 is right, the rest is not Python, or raises."""
    monkeypatch.setattr(runs, "PIECES", tuple(piece.replace("good", "1") for piece in runs.PIECES))
    splits = {
        split: [dataclasses.replace(prompt, reference=NOTHING) for prompt in prompts]
        for split, prompts in toy.task.splits.items()
    }
    toy.task = dataclasses.replace(
        toy.task, splits=splits, accuracy=code.Accuracy(), ideal=lambda prompt: "1"
    )
    return toy


def test_a_task_of_programs_gets_the_sandbox_and_graders_that_may_start_it(of_programs):
    found = _asked(of_programs.task, require=HERE, memory_mb=99)
    assert found.level == HERE and found.graders.processes
    assert found.task.accuracy.config.memory_mb == 99
    programs.refuse_unread(found, sandbox.SandboxConfig(memory_mb=99))


def test_another_task_gets_neither_and_asks_for_nothing(toy, monkeypatch):
    monkeypatch.setattr(sandbox, "level", lambda: pytest.fail("nobody runs a program"))
    found = _asked(toy.task)
    assert found == (toy.task, pool.GraderConfig(), None)
    programs.refuse_unread(found, sandbox.SandboxConfig())
    with pytest.raises(
        ValueError, match=r"sandbox.seconds=3\.0 would change nothing: the task toy"
    ):
        programs.refuse_unread(found, sandbox.SandboxConfig(seconds=3.0))


def test_a_level_that_is_not_there_stops_the_run_before_it_begins(
    of_programs, monkeypatch, tmp_path
):
    monkeypatch.setattr(sandbox, "level", lambda: "limits")
    with pytest.raises(
        ValueError, match=r"sandbox\.require=namespaces, but this machine reaches on"
    ):
        of_programs.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_graders_that_would_fail_before_a_program_is_too_slow_are_refused(of_programs):
    with pytest.raises(ValueError, match=r"deadline_seconds=10.0.*total_seconds=9.5"):
        _asked(of_programs.task, require=HERE, total_seconds=9.5)


@pytest.mark.slow
def test_a_run_tells_and_keeps_its_level(of_programs, tmp_path, capsys):
    of_programs.run(
        tmp_path, sandbox={"require": HERE}, grpo__num_steps=2, eval__num_problems=2,
        eval__num_problems_between=1, eval__num_samples=4,
    )  # fmt: skip
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["sandbox"] == HERE
    assert manifest["preflight"]["pass_rate"] > 0
    told = capsys.readouterr()
    assert (told.out + told.err).count(f"sandbox: programs run at level {HERE}") == 1
    outcomes = {k: v for k, v in runs.rows(tmp_path)[0].items() if k.startswith("outcome/")}
    assert outcomes["outcome/right"] > 0
    assert outcomes["outcome/crash"] == outcomes["outcome/timeout"] == 0


def test_a_run_without_programs_keeps_none_and_refuses_a_sandbox(toy, tmp_path):
    with pytest.raises(ValueError, match="would change nothing"):
        toy.run(tmp_path / "run", sandbox__require="limits")
    assert not (tmp_path / "run").exists()


def test_a_suite_s_entry_of_programs_is_refused_below_the_level(toy, tmp_path, monkeypatch):
    toy.run(tmp_path / "run", grpo__num_steps=2, eval__num_problems=1, eval__every=0)
    made = dataclasses.replace(toy.task, name="programs", accuracy=code.Accuracy())
    monkeypatch.setattr(load, "load", lambda config: made)
    monkeypatch.setattr(sandbox, "level", lambda: "seccomp")
    asked = suite.SuiteConfig({"toy": suite.EntryConfig(task=load.TaskConfig())})
    with pytest.raises(ValueError, match="reaches only seccomp"):
        next(suite.evaluate(tmp_path / "run", toy.config(), asked, None))


def test_every_accuracy_that_runs_programs_is_found():
    prompt = tasks.Prompt(0, "", NOTHING)
    task = tasks.Task("t", {}, code.Accuracy(), lambda p: "1", lambda a: a, ())
    found = _asked(task, require=HERE)
    assert found.task.accuracy("1", prompt).value == 1.0
