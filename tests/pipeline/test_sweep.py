"""A sweep with children that only pretend to train."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from r1_jax.metrics import jsonl
from r1_jax.pipeline import sweep

CHILD = """
import json, os, pathlib, sys, time
path, behaviour = pathlib.Path(sys.argv[1]), sys.argv[2]
with open(path / "starts", "a") as file:
    print(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else "", file=file)
print("step 1\\rstep 2")
tries = len((path / "starts").read_text().splitlines())
if behaviour == "fails" or (behaviour == "fails once" and tries == 1):
    print("Traceback: it hurts", file=sys.stderr)
    sys.exit(3)
if behaviour == "sleeps":
    time.sleep(60)
(path / "eval.jsonl").write_text('{"step": 1}\\n')
"""


def job(workdir: pathlib.Path, cell="a", seed=0, behaviour="works") -> sweep.Job:
    path = workdir / cell / f"seed{seed}"
    command = (sys.executable, "-c", CHILD, str(path), behaviour)
    return sweep.Job(cell, seed, path, command, {"seed": seed, "behaviour": cell})


def run(jobs, workdir, workers=1, cores=0):
    said = []
    with sweep.lock(workdir) as held:
        failures = sweep.run(jobs, workers=workers, cores=cores, held=held, say=said.append)
    return failures, said


def starts(job: sweep.Job) -> list[str]:
    path = job.workdir / "starts"
    return path.read_text().splitlines() if path.exists() else []


# --- the grid -----------------------------------------------------------------------------------


def test_a_grid_is_the_product_in_the_order_given():
    found = sweep.cells(["grpo.kl_coef=0,0.001", "grpo.kl_estimator=k1,k3"], "x")
    assert [cell.name for cell in found] == [
        "kl_coef=0,kl_estimator=k1",
        "kl_coef=0,kl_estimator=k3",
        "kl_coef=0.001,kl_estimator=k1",
        "kl_coef=0.001,kl_estimator=k3",
    ]
    assert found[2].settings == {"grpo.kl_coef": "0.001", "grpo.kl_estimator": "k1"}
    assert sweep.cells([], "r1_zero") == [sweep.Cell("r1_zero", {})]


def test_commas_in_brackets_and_keys_of_one_name_are_understood():
    schedules = sweep.cells(["grpo.response_schedule=(),((0,96),(50,176))"], "x")
    assert [cell.settings["grpo.response_schedule"] for cell in schedules] == [
        "()",
        "((0,96),(50,176))",
    ]
    assert schedules[1].name == "response_schedule=0_96_50_176"
    assert "/" not in sweep.cells(["base=a/b,c/d"], "x")[0].name
    (both,) = sweep.cells(["task.num=1", "eval.num=2"], "x")
    assert both.name == "task.num=1,eval.num=2"


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        (["grpo.kl_coef"], "must read"),
        (["grpo.kl_coef=0,"], "must read"),
        (["a=1", "a=2"], "twice"),
        (["a=1,1"], "twice"),
        (["seed=0,1"], "use --seeds"),
        (["a=x/y,x:y"], "one directory name"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(grids, message):
    with pytest.raises(ValueError, match=message):
        sweep.cells(grids, "x")


# --- sweep.json ---------------------------------------------------------------------------------


def write(workdir, configs, seeds=(0, 1), base=None):
    grid = [sweep.Cell(name, {"kl": name}) for name in configs]
    return sweep.record(
        workdir, config_file="c.py", overrides=(), grid=grid, seeds=seeds, configs=configs,
        base=base or {"seed": 9, "kl": 1},
    )  # fmt: skip


def test_the_record_names_grid_seeds_commit_and_the_cell_that_changes_nothing(tmp_path):
    content = write(tmp_path, {"a": {"seed": 0, "kl": 0}, "b": {"seed": 0, "kl": 1}})
    assert json.loads((tmp_path / "sweep.json").read_text()) == content
    assert content["baseline"] == "b"
    assert content["grid"][0] == {"cell": "a", "settings": {"kl": "a"}}
    (commit,) = content["commits"]
    assert commit.keys() == {"commit", "dirty"}
    assert write(tmp_path / "x", {"a": {"kl": 5}, "b": {"kl": 6}})["baseline"] == "a"


def test_seeds_may_be_added_but_cells_may_not_change(tmp_path):
    configs = {"a": {"seed": 0, "kl": 0}}
    write(tmp_path, configs)
    content = write(tmp_path, configs, seeds=(1, 2))
    assert content["seeds"] == [0, 1, 2] and len(content["commits"]) == 1
    with pytest.raises(ValueError, match="other cells"):
        write(tmp_path, {"a": {"seed": 0, "kl": 7}})


# --- children -----------------------------------------------------------------------------------


def test_a_second_call_runs_only_what_is_not_done(tmp_path):
    jobs = [job(tmp_path, "a", seed) for seed in range(2)]
    assert run(jobs[:1], tmp_path)[0] == []
    failures, said = run(jobs, tmp_path)
    assert failures == [] and said[0] == "2 runs, 1 done already, 1 at a time"
    assert [len(starts(j)) for j in jobs] == [1, 1]
    # Another configuration, or rows that are gone, is not done.
    assert sweep.is_done(jobs[0])
    changed = sweep.Job(*[*vars(jobs[0]).values()][:4], {"seed": 0, "behaviour": "b"})
    assert not sweep.is_done(changed)
    (jobs[0].workdir / "eval.jsonl").unlink()
    assert not sweep.is_done(jobs[0])


def test_a_failure_is_tried_once_more_after_the_others_and_then_told(tmp_path):
    jobs = [job(tmp_path, "bad", 0, "fails"), job(tmp_path, "shaky", 0, "fails once")]
    jobs.append(job(tmp_path, "good"))
    failures, said = run(jobs, tmp_path)
    assert [(f.job.cell, f.status) for f in failures] == [("bad", 3)]
    assert [len(starts(j)) for j in jobs] == [2, 2, 1]
    assert not sweep.is_done(jobs[0]) and sweep.is_done(jobs[1])
    assert said.index("good seed 0: started") < said.index("bad seed 0: started, attempt 2 of 2")
    lines = sweep.told(failures)
    assert lines[0] == f"failed: bad seed 0, status 3; {jobs[0].workdir}"
    assert lines[1:] == ["    step 1", "    step 2", "    Traceback: it hurts"]  # one attempt's


def test_workers_run_side_by_side_and_never_more_than_asked(tmp_path):
    barrier = """
import pathlib, sys, time
path = pathlib.Path(sys.argv[1])
(path.parent.parent / f"up_{path.parent.name}").touch()
deadline = time.monotonic() + 20
while len(list(path.parent.parent.glob("up_*"))) < 2:
    assert time.monotonic() < deadline
    time.sleep(0.01)
"""
    jobs = []
    for cell in "ab":
        path = tmp_path / cell / "seed0"
        jobs.append(
            sweep.Job(cell, 0, path, (sys.executable, "-c", barrier, str(path)), {"seed": 0})
        )
    failures, said = run(jobs, tmp_path, workers=2)
    assert failures == [] and said[1:3] == ["a seed 0: started", "b seed 0: started"]


@pytest.mark.skipif(sys.platform != "linux", reason="affinities")
def test_a_worker_has_its_cores(tmp_path):
    mine = sorted(os.sched_getaffinity(0))
    assert sweep._cores(0, 1) == {mine[0]}
    assert sweep._cores(1, 1) == {mine[1 % len(mine)]}
    assert sweep._cores(0, 0) == set()
    assert sweep._cores(3, 10**3) == set(mine)
    one = sweep.Job("a", 0, tmp_path, (sys.executable, "-c", "import time; time.sleep(30)"), {})
    child = sweep._start(one, 1, {mine[-1]}, sys.stderr.fileno())
    try:
        assert os.sched_getaffinity(child.process.pid) == {mine[-1]}
    finally:
        child.process.kill()
        child.process.wait()


def test_an_interrupted_sweep_ends_its_children(tmp_path):
    one = job(tmp_path, behaviour="sleeps")

    def say(line):
        if "started" in line:
            while not starts(one):
                time.sleep(0.01)
            raise KeyboardInterrupt

    began = time.monotonic()
    with sweep.lock(tmp_path) as held, pytest.raises(KeyboardInterrupt):
        sweep.run([one], workers=1, cores=0, held=held, say=say)
    assert time.monotonic() - began < 30
    assert not sweep.is_done(one)
    with sweep.lock(tmp_path):
        pass  # the child is gone, and its hold with it


def test_two_sweeps_or_an_orphan_cannot_share_a_folder(tmp_path):
    with sweep.lock(tmp_path) as held:
        orphan = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(held,)
        )
        with pytest.raises(ValueError, match="another sweep"), sweep.lock(tmp_path):
            pass
    try:
        with pytest.raises(ValueError, match="left behind"), sweep.lock(tmp_path):
            pass
    finally:
        orphan.kill()
        orphan.wait()
    with sweep.lock(tmp_path):
        pass


def test_a_run_that_outlives_its_sweep_keeps_the_folder(tmp_path):
    one = job(tmp_path, behaviour="sleeps")
    with sweep.lock(tmp_path) as held:
        child = sweep._start(one, 1, set(), held)
    try:
        with pytest.raises(ValueError, match="left behind"), sweep.lock(tmp_path):
            pass
    finally:
        child.process.kill()
        child.process.wait()


def test_a_done_run_needs_rows(tmp_path):
    one = job(tmp_path)
    one.workdir.mkdir(parents=True)
    jsonl.write(one.workdir / "eval.jsonl", [{"step": 1}])
    assert not sweep.is_done(one)  # rows alone are a run that may have been killed
