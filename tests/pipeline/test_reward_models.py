"""The stage learns which word is liked, unlearns it from swapped labels, and goes on to the bit."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from r1_jax.checkpoints import manifest, weights
from r1_jax.core import interrupt
from r1_jax.data import preferences
from r1_jax.metrics import log as metrics_log
from r1_jax.pipeline import assemble, preference_data, reward_models, reward_score
from r1_jax.sharding import mesh as meshes
from tests import tiny_preferences as world


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Compiling takes longer than these runs."""
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tokenizer and data; runs go into it too."""
    folder = tmp_path_factory.mktemp("reward_models")
    world.train_tokenizer(folder)
    preferences.write(folder / "pairs.jsonl", world.pairs())
    preferences.write(folder / "swapped.jsonl", world.swapped(world.pairs()))
    preferences.write(folder / "labels.jsonl", world.labelled())
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """The weights file of an uninterrupted run on pairs."""
    return reward_models.run(world.config(folder), folder / "whole", folder / "pairs.jsonl")


def _rows(workdir: pathlib.Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def _content(path: pathlib.Path) -> dict:
    """The manifest of a weights file, its arrays' digest included, without the code's commit."""
    return {**weights.load_weights(path)[1], "commit": ""}


def _accuracy(path: pathlib.Path, config, data: pathlib.Path) -> float:
    """Of the reward model at `path` on the held-out examples of a file."""
    mesh = assemble.make_mesh(config.mesh)
    with meshes.activate(mesh):
        judge = reward_score.open_model(path, mesh)
        found = preference_data.load(config, data, judge.tokens)
        row, _ = reward_models.held_out(config, mesh, judge.params, found.held_out, judge.tokens)
    assert row["num_examples"] == len(found.held_out) > 30
    return row["accuracy"]


def test_it_learns_the_preference_and_a_manifest_names_its_parents(folder, whole):
    (row,) = _rows(whole.parent, "eval.jsonl")
    assert row["accuracy"] > 0.9 and row["accuracy_low"] > 0.8 and row["num_examples"] > 30
    rows = _rows(whole.parent, "metrics.jsonl")
    assert [r["step"] for r in rows] == list(range(row["step"]))
    assert rows[0]["loss"] == pytest.approx(np.log(2), rel=1e-5)  # a new head says 0 of all
    assert rows[-1]["loss"] < 0.3 and rows[-1]["accuracy"] > 0.9
    params, about = weights.load_weights(whole)
    assert params.keys() == {"transformer", "scalar"}
    record = manifest.read(whole.parent / "manifest.json")
    assert record["parents"] == about["parents"] and about["view"] == "summary"
    tokens = assemble.load_tokenizer(world.config(folder))
    data = preference_data.digest(folder / "pairs.jsonl")
    assert about["parents"] == {"tokenizer": tokens.digest, "data": data}
    assert about["rewards"]["min"] < about["rewards"]["mean"]
    assert record["seconds"]["update"] > 0


def test_swapped_labels_invert_it(folder):
    config = world.config(folder)
    path = reward_models.run(config, folder / "inverted", folder / "swapped.jsonl")
    assert _rows(path.parent, "eval.jsonl")[0]["accuracy"] > 0.9
    assert _accuracy(path, config, folder / "pairs.jsonl") < 0.1


def test_a_safety_model_learns_from_labels(folder):
    # An answer alone says less than a pair, which differs in little else than the word.
    config = world.config(folder, reward_model__kind="pointwise", reward_model__num_epochs=10)
    path = reward_models.run(config, folder / "safety", folder / "labels.jsonl")
    assert _rows(path.parent, "eval.jsonl")[0]["accuracy"] > 0.9
    assert weights.load_weights(path)[1]["view"] == "whole"


def test_a_run_that_broke_goes_on_to_the_bit(folder, whole, monkeypatch):
    row = metrics_log.MetricsLog.row

    def breaks(self, step, mapping):
        row(self, step, mapping)
        if step == 13:
            raise RuntimeError("power cut")

    workdir, config = folder / "broken", world.config(folder)
    monkeypatch.setattr(metrics_log.MetricsLog, "row", breaks)
    with pytest.raises(RuntimeError, match="power cut"):
        reward_models.run(config, workdir, folder / "pairs.jsonl")
    assert not (workdir / "reward_model.safetensors").exists()
    assert [p.name for p in (workdir / "checkpoints").iterdir()] == ["step_00000010"]
    with pytest.raises(ValueError, match="was trained on data of digest"):
        reward_models.run(config, workdir, folder / "swapped.jsonl")
    with pytest.raises(ValueError, match=r"reward_model\.num_epochs=2 there, 1 now"):
        other = world.config(folder, reward_model__num_epochs=1)
        reward_models.run(other, workdir, folder / "pairs.jsonl")

    def told(self, step, mapping):
        row(self, step, mapping)
        if step == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(metrics_log.MetricsLog, "row", told)
    with interrupt.heeded(), pytest.raises(interrupt.Interrupted, match=r"step 12 of .* is kept"):
        reward_models.run(config, workdir, folder / "pairs.jsonl")
    seen = []
    monkeypatch.setattr(
        metrics_log.MetricsLog, "row", lambda self, s, m: (seen.append(s), row(self, s, m))
    )
    path = reward_models.run(config, workdir, folder / "pairs.jsonl")
    assert seen[0] == 12
    assert _content(path) == _content(whole)
    for name in ("metrics.jsonl", "eval.jsonl"):
        assert _rows(workdir, name) == _rows(whole.parent, name)


def test_a_run_that_is_done_is_left_alone(folder, whole, monkeypatch):
    before = whole.stat().st_mtime_ns
    monkeypatch.setattr(assemble, "make_mesh", None)  # nothing is set up
    config = world.config(folder)
    assert reward_models.run(config, whole.parent, folder / "pairs.jsonl") == whole
    assert whole.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="use another --workdir, or the same data"):
        reward_models.run(config, whole.parent, folder / "swapped.jsonl")


def test_a_batch_that_does_not_split_over_the_devices_is_named(folder, tmp_path):
    config = world.config(folder, reward_model__num_microbatches=8)
    with pytest.raises(ValueError, match="batch_size / num_microbatches=4 does not split over"):
        reward_models.run(config, tmp_path, folder / "pairs.jsonl")


_CHILD = """
import os, pathlib, signal, sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)
from r1_jax.metrics import log
from r1_jax.pipeline import reward_models
from r1_jax.sharding import mesh
from tests import tiny_preferences as world
mesh.enough_threads()
folder, row = pathlib.Path(sys.argv[1]), log.MetricsLog.row
def killed(self, step, mapping):
    row(self, step, mapping)
    if step == 13:
        os.kill(os.getpid(), signal.SIGKILL)
log.MetricsLog.row = killed
reward_models.run(world.config(folder), folder / "killed", folder / "pairs.jsonl")
"""


@pytest.mark.kill
def test_a_run_that_was_killed_goes_on_to_the_bit(folder, whole):
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder)],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        timeout=300,
    )
    assert child.returncode == -signal.SIGKILL
    path = reward_models.run(world.config(folder), folder / "killed", folder / "pairs.jsonl")
    assert _content(path) == _content(whole)
