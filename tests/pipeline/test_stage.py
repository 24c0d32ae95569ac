"""Stages: in order, once, each from the parents that there are."""

import json
import os
import signal

import pytest

from r1_jax.core import interrupt
from r1_jax.pipeline import stage


@pytest.fixture
def chain(tmp_path):
    """(run with keywords -> names of stages that ran, tmp_path, what each stage writes)."""
    content = {"a": "A", "b": "B", "c": "C"}

    def make(name, parents, ran):
        def run():
            ran.append(name)
            path = tmp_path / name / "out"
            path.parent.mkdir(exist_ok=True)
            path.write_text(content[name])
            return path

        return stage.Stage(name, parents, run)

    def run(**given):
        ran = []
        stages = [make("a", (), ran), make("b", ("a",), ran), make("c", ("a", "b"), ran)]
        said = []
        stage.run(stages, tmp_path, **{"first": None, "only": None, "say": said.append} | given)
        return ran

    return run, tmp_path, content


def test_stages_run_once_in_order(chain):
    run, _, _ = chain
    assert run() == ["a", "b", "c"]
    assert run() == []


def test_what_is_missing_is_made_again(chain):
    run, path, _ = chain
    run()
    (path / "b" / stage.DONE).unlink()
    assert run() == ["b"]


def test_markers_name_parents_by_digest(chain):
    run, path, _ = chain
    run()
    a, c = (json.loads((path / name / stage.DONE).read_text()) for name in "ac")
    assert c["parents"]["a"] == a["digest"] and set(c["parents"]) == {"a", "b"}
    assert c["output"] == "out" and len(c["commit"]) == 40


def test_a_chain_told_to_end_leaves_between_two_stages(chain):
    run, _, _ = chain

    def tell(line):
        if line == "a: done":
            os.kill(os.getpid(), signal.SIGTERM)

    with interrupt.heeded(), pytest.raises(interrupt.Interrupted, match="b is next"):
        run(say=tell)
    assert run() == ["b", "c"]


def test_only_and_first(chain):
    run, _, _ = chain
    assert run(only="a") == ["a"]
    with pytest.raises(ValueError, match="c is made from b, which is not done"):
        run(only="c")
    assert run(first="b") == ["b", "c"]
    for name in ("first", "only"):
        with pytest.raises(ValueError, match="'d' is no stage; the stages are a, b, c"):
            run(**{name: "d"})


def test_a_stage_made_from_another_parent_is_refused(chain):
    run, path, content = chain
    run()
    content["a"] = "another"
    (path / "a" / stage.DONE).unlink()
    with pytest.raises(ValueError, match="b was made from another a than there is now"):
        run()


def test_a_folder_of_weights_is_known_by_its_manifest(tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "manifest.json").write_text('{"digest": 1}')
    stages = [stage.Stage("base", (), lambda: weights)]
    stage.run(stages, tmp_path, first=None, only=None, say=lambda line: None)
    first = json.loads((tmp_path / "base" / "done.json").read_text())["digest"]
    (tmp_path / "base" / "done.json").unlink()
    (weights / "manifest.json").write_text('{"digest": 2}')
    stage.run(stages, tmp_path, first=None, only=None, say=lambda line: None)
    assert json.loads((tmp_path / "base" / "done.json").read_text())["digest"] != first
