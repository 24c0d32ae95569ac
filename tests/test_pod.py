"""A program of several processes is the program of one: same rows, same checkpoints, one end.

Real processes that find each other as hosts do, on this machine's processor.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from r1_jax.checkpoints import weights
from r1_jax.core import interrupt
from r1_jax.data import demonstrations
from r1_jax.data.tasks import load
from r1_jax.pipeline import base
from r1_jax.sharding import hosts
from r1_jax.text import chat
from tests import pod_child

ROOT = pathlib.Path(__file__).parents[1]


def _start(kind, workdir, shared, num, *dies, only=None):
    """`num` processes of one program with eight devices in all, or `only` one of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [kind, workdir, shared, 8 // num, *dies]
    words = [sys.executable, "-m", "tests.pod_child", *map(str, words)]
    return [
        subprocess.Popen(
            words,
            cwd=ROOT,
            env=os.environ
            | {"JAX_PLATFORMS": "cpu"}
            | ({hosts.VARIABLE: f"{address},{num},{i}"} if num > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in (range(num) if only is None else [only])
    ]


def _end(processes, seconds=900) -> list[tuple[int, str]]:
    """[(exit status, standard error)] of processes that have ended."""
    try:
        errors = [process.communicate(timeout=seconds)[1] for process in processes]
        return [(p.returncode, error) for p, error in zip(processes, errors, strict=True)]
    finally:
        for process in processes:
            process.kill()


def _run(*words):
    for code, error in _end(_start(*words)):
        assert code == 0, error
    return words[1]


def _rows(path, *, is_process_s_own=("seconds/", "speed/", "compilations")):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(is_process_s_own)} for row in rows]


def _assert_same_rows(found, expected):
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if isinstance(value, float):
                close = pytest.approx(other[name], rel=1e-5, abs=1e-5)
                assert value == close, (row["step"], name)
            else:
                assert value == other[name], (row["step"], name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What all programs share: tokenizer, problems, demonstrations, compilation cache."""
    shared = tmp_path_factory.mktemp("shared")
    config = pod_child.config(str(shared))
    base.train_tokenizer(config, shared / "t.model")
    task = load.load(config.task)
    lessons = [
        demonstrations.Demonstration(
            p.uid, p.question, chat.completion("So.", task.ideal(p), config.tags), "ideal"
        )
        for p in task.splits["train"]
    ]
    demonstrations.write(shared / "demonstrations.jsonl", lessons)
    return shared


def test_a_process_that_dies_ends_the_others_with_its_name_and_the_barrier_s(shared):
    (code, error), (killed, _) = _end(_start("meet", shared / "meet", shared, 2), 200)
    assert killed == -signal.SIGKILL
    assert code == hosts.EXIT_CODE
    last = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(last) == 1
    host = socket.gethostname()
    assert "barrier 'after the loss'" in last[0]
    assert f"process 1 of 2 ({host}) (last at 'ours, read') did not come within 3 s" in last[0]


@pytest.mark.multihost
@pytest.mark.parametrize("only", [0, 1])
def test_a_process_that_never_comes_is_one_error(only, tmp_path):
    ((code, error),) = _end(_start("alone", tmp_path, tmp_path, 2, only=only), 200)
    assert code == hosts.EXIT_CODE, error
    (last,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "came within 5 s" in last and "same command runs on every host" in last


@pytest.mark.multihost
@pytest.mark.parametrize("num", [2, 4])
@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_processes_share_out_a_run_and_write_the_same_rows(kind, num, shared):
    whole = shared / f"{kind}_1"
    if not whole.exists():
        _run(kind, whole, shared, 1)
    found = shared / f"{kind}_{num}"
    if not found.exists():
        _run(kind, found, shared, num)
    _assert_same_rows(_rows(found / "metrics.jsonl"), _rows(whole / "metrics.jsonl"))
    if kind == "grpo":
        assert len(_rows(whole / "metrics.jsonl")) == 20
        _assert_same_rows(_rows(found / "eval.jsonl"), _rows(whole / "eval.jsonl"))
        names = [sorted(p.name for p in (d / "samples").iterdir()) for d in (found, whole)]
        assert names[0] == names[1]
    else:
        a, b = (weights.load_weights(d / "policy.safetensors")[1] for d in (found, whole))
        assert a["num_steps"] == b["num_steps"] > 10


def _result(workdir, last=20):
    rows = [_rows(workdir / f"{name}.jsonl") for name in ("metrics", "eval")]
    record = workdir / "checkpoints" / f"step_{last:08d}" / "record" / "metadata"
    samples = {p.name: p.read_bytes() for p in (workdir / "samples").iterdir()}
    return *rows, json.loads(record.read_text())["digest"], samples


def _uninterrupted(shared, num):
    whole = shared / f"grpo_{num}"
    if not whole.exists():
        _run("grpo", whole, shared, num)
    return whole


def _assert_ends(ends, index):
    """Process `index` killed itself; another one said who is lost and ended, too."""
    assert ends[index][0] == -signal.SIGKILL, ends
    for i, (code, error) in enumerate(ends):
        if i == index:
            continue
        if index == 0:  # with it went the service that all meet at: jax itself ends the others
            assert code == -signal.SIGABRT, error
            continue
        assert code == hosts.EXIT_CODE, error
        (last,) = [line for line in error.splitlines() if line.startswith("error: ")]
        assert f"process {index} of 2" in last


def _thirty():
    """{processes: [(phase, at, index)]}, five kills in each phase, in the order of a run."""
    draw = np.random.default_rng(0)
    phases = draw.permutation(
        np.repeat(["compile", "rollout", "score", "update", "eval", "save"], 5)
    )
    kills = {}
    for num, some in ((1, phases[:15]), (2, phases[15:])):
        steps = 1 + np.sort(draw.choice(18, len(some), replace=False))
        kills[num] = []
        for phase, step in zip(some, steps, strict=True):
            at = step + step % 2 if phase in ("eval", "save") else step  # every second step's
            at = draw.integers(1, 40) if phase == "compile" else at
            kills[num].append((str(phase), int(at), int(draw.integers(num))))
    return kills


@pytest.mark.multihost
@pytest.mark.parametrize("num", [1, 2])
def test_killed_fifteen_times_a_run_is_the_uninterrupted_one(num, shared):
    whole, workdir = _uninterrupted(shared, num), shared / f"grpo_{num}_killed"
    for phase, at, index in _thirty()[num]:
        ends = _end(_start("grpo", workdir, shared, num, phase, at, index, "SIGKILL"))
        _assert_ends(ends, index)
    _run("grpo", workdir, shared, num)
    assert _result(workdir) == _result(whole)


@pytest.mark.multihost
def test_told_to_end_one_process_takes_the_other_with_it(shared):
    whole, workdir = _uninterrupted(shared, 2), shared / "grpo_2_told"
    for code, error in _end(_start("grpo", workdir, shared, 2, "rollout", 17, 1, "SIGTERM")):
        assert code == interrupt.EXIT_CODE, error
    assert (workdir / "checkpoints" / "step_00000017").is_dir()
    _run("grpo", workdir, shared, 2)
    assert _result(workdir) == _result(whole)


@pytest.mark.multihost
def test_another_number_of_processes_goes_on_with_the_same_prompts(shared):
    whole, workdir = _uninterrupted(shared, 1), shared / "grpo_moved"
    _assert_ends(_end(_start("grpo", workdir, shared, 2, "update", 11, 1, "SIGKILL")), 1)
    _run("grpo", workdir, shared, 1)
    _assert_same_rows(_rows(workdir / "metrics.jsonl"), _rows(whole / "metrics.jsonl"))
    for step in range(20):
        name = f"samples/step_{step:06d}.jsonl"
        uids = [[row["uid"] for row in _rows(d / name)] for d in (workdir, whole)]
        assert uids[0] == uids[1] != []
