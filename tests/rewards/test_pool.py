"""The pool: every item ends, whatever it does, and its neighbours do not notice."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from r1_jax.rewards import pool, syscalls, verdict
from tests import toy_rewards

Outcome = verdict.Outcome
ADD = ("add", 1, 2)


@pytest.fixture
def graders():
    """Makes pools, whose children end with the test."""
    made = []

    def make(function=toy_rewards.act, **config):
        made.append(pool.GraderPool(function, pool.GraderConfig(**config)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def is_alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def dies(pid, seconds=10):
    until = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


@pytest.mark.parametrize("workers", [1, 3])
def test_values_come_back_in_order(graders, workers):
    many = graders(workers=workers)
    first = many.submit([("add", i, 0.1) for i in range(500)])
    second = many.submit([("add", -i) for i in range(70)])
    assert [r.value for r in second()] == [-i for i in range(70)]
    assert first() == [pool.Result(i + 0.1, None, "") for i in range(500)]
    assert many.submit([])() == []


@pytest.mark.parametrize(
    ("item", "outcome", "error"),
    [
        (("sleep", 60), Outcome.TIMEOUT, "no verdict within 0.5 s"),
        (("hang",), Outcome.TIMEOUT, "no verdict within 0.5 s"),
        (("raise", "oh\nno"), Outcome.CRASH, r"RuntimeError: oh no \(toy_rewards.py:\d+\)"),
        (("exit",), Outcome.CRASH, "SystemExit: 3"),
        (("die", signal.SIGSEGV), Outcome.CRASH, "grader ended by SIGSEGV"),
        (("leave", 7), Outcome.CRASH, "grader exited with 7"),
        (("leave", 0), Outcome.CRASH, "grader exited with 0"),
        (("eat", 10**11), Outcome.CRASH, "MemoryError"),
        (("eat", 600 << 20), Outcome.CRASH, "MemoryError"),
        (("recurse",), Outcome.CRASH, "RecursionError"),
        (("long", 3 << 20), Outcome.CRASH, "an answer of 3145"),
        (("object",), Outcome.CRASH, "TypeError: Object of type object"),
        (("speak",), Outcome.CRASH, "wrote to its channel"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else None,
)
def test_a_hostile_item_ends_alone(graders, item, outcome, error):
    found = graders(deadline_seconds=0.5, memory_mb=256).submit([ADD, item, ADD, ADD])()
    assert [r.value for r in found] == [3, None, 3, 3]
    assert found[1].failure == outcome
    assert re.search(error, found[1].error), found[1].error
    assert all(r.failure is None for r in (found[0], *found[2:]))


def test_the_deadline_is_of_an_item_and_not_of_its_batch(graders):
    slow = graders(deadline_seconds=1.0)
    # 2.1 s in one message to one child
    assert [r.value for r in slow.submit([("sleep", 0.7)] * 3)()] == ["slept"] * 3


def test_items_behind_a_hung_one_go_to_other_children(graders):
    two = graders(workers=2, deadline_seconds=1.5)
    two.submit([ADD] * 2)()  # both are awake
    start = time.monotonic()
    found = two.submit([("sleep", 60)] * 4)()
    assert [r.failure for r in found] == [Outcome.TIMEOUT] * 4
    assert time.monotonic() - start < 4 * 1.5  # one after another


def test_all_processes_of_a_grader_end_with_it(graders, tmp_path):
    many = graders(deadline_seconds=1.0, processes=True)
    (found,) = many.submit([("child", str(tmp_path / "pid"))])()
    assert found.failure == Outcome.TIMEOUT
    assert dies(int((tmp_path / "pid").read_text()))


needs_seccomp = pytest.mark.skipif(syscalls.library() is None, reason="needs libseccomp")
SOCKET = ("socket", socket.AF_INET, socket.SOCK_STREAM)
REFUSED = {  # without a key of GraderConfig; the others
    SOCKET: "network",
    ("socket", socket.AF_UNIX, socket.SOCK_STREAM): "network",
    ("child", os.devnull): "processes",
    ("run",): "processes",
    ("become",): "processes",
    ("signal", os.getpid(), 0): "processes",
    ("signal", 1, 0): "processes",
    ("signal", 0, 0): "processes",
}


@needs_seccomp
def test_a_grader_has_no_network_and_no_processes(graders):
    each = graders()
    found = each.submit(list(REFUSED))()
    assert [r.failure for r in found] == [Outcome.CRASH] * len(REFUSED)
    assert all("PermissionError" in r.error for r in found), found
    fine = [("pair",), ("thread",), ADD]
    assert [r.value for r in each.submit(fine)()] == [[True, True], ["ran"], 3]


@needs_seccomp
@pytest.mark.parametrize("key", ["network", "processes"])
def test_a_key_opens_what_it_names_and_no_more(graders, key):
    local = ("socket", socket.AF_UNIX, socket.SOCK_STREAM)  # bubblewrap needs such
    items = [item for item in REFUSED if item[0] not in ("child", "become") and item != local]
    found = graders(**{key: True}).submit(items)()
    for item, result in zip(items, found, strict=True):
        assert (result.failure is None) == (REFUSED[item] == key), (item, result)


def test_what_a_grader_prints_goes_nowhere(graders, capfd):
    assert [r.value for r in graders().submit([("print",)] * 20)()] == ["printed"] * 20
    assert capfd.readouterr() == ("", "")


def test_a_grader_writes_no_endless_file(graders, tmp_path):
    path, size = str(tmp_path / "file"), 65 << 20
    fits, too_long = graders().submit([("write", path, 1000), ("write", path, size)])()
    assert fits.value == 1000
    assert too_long.failure == Outcome.CRASH and "OSError" in too_long.error


def test_children_are_renewed(graders):
    five = graders(recycle_after=5)
    pids = [five.submit([("pid",)])()[0].value for _ in range(11)]
    assert [len(set(pids[i : i + 5])) for i in (0, 5)] == [1, 1]
    assert len(set(pids)) == 3 and dies(pids[0]) and dies(pids[5])


def test_a_child_holds_no_device_and_no_jax(graders):
    items = [("modules",), ("environment", "JAX_PLATFORMS", "OMP_NUM_THREADS")]
    modules, environment = (result.value for result in graders().submit(items)())
    assert not {"jax", "flax", "numpy"} & set(modules)
    assert environment == ["cpu", "1"]


def test_memory_stays_flat_over_hostile_items(graders):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    each = graders(deadline_seconds=0.2)
    each.submit([("die", signal.SIGKILL)])()
    each.submit([ADD])()
    before = descriptors(), threading.active_count()
    each.submit([("die", signal.SIGKILL), ("sleep", 9), ("raise", "x")] * 4)()
    each.submit([ADD])()
    assert (descriptors(), threading.active_count()) == before


def test_a_function_that_a_child_cannot_import_is_one_error(tmp_path, monkeypatch, graders):
    (tmp_path / "only_here.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    assert graders(only_here.f).submit([()])()[0].value == 1  # the import path is handed on
    (tmp_path / "only_here.py").write_text("raise RuntimeError('not in a child')\n")
    with pytest.raises(pool.StartError, match="RuntimeError: not in a child"):
        graders(only_here.f).submit([()])()


def test_functions_without_a_name_are_refused(graders, monkeypatch):
    with pytest.raises(ValueError, match="top level of a module"):
        graders(lambda: 1)
    monkeypatch.setattr(toy_rewards.same, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "same", toy_rewards.same, raising=False)
    with pytest.raises(ValueError, match="the file that was started"):
        graders(toy_rewards.same)


def test_close_ends_children_and_those_who_wait(graders):
    each = graders()
    pid = each.submit([("pid",)])()[0].value
    wait = each.submit([("sleep", 60)] * 3)
    time.sleep(0.1)
    each.close()
    with pytest.raises(pool.StartError, match="closed"):
        wait()
    assert dies(pid)
    with pytest.raises(ValueError, match="closed"):
        each.submit([ADD])


@pytest.mark.slow
def test_children_of_a_killed_parent_end(tmp_path):
    code = (
        "from r1_jax.rewards import pool; from tests import toy_rewards; import sys, time\n"
        "p = pool.GraderPool(toy_rewards.act, pool.GraderConfig(deadline_seconds=0.5))\n"
        "print(p.submit([('pid',)])()[0].value, flush=True)\n"
        "p.submit([('hang',)])\n"
        "time.sleep(0.2)\n"
    )
    root = pathlib.Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        time.sleep(0.1)
        parent.kill()
    # Deaf to every signal that can be ignored: its processor seconds end it, 2 * 0.5 + 5 of them.
    assert dies(pid, 60)


def test_the_share_of_failures_is_bounded_and_the_cause_named():
    outcomes = [Outcome.RIGHT] * 6 + [Outcome.CRASH] * 2 + [Outcome.TIMEOUT, Outcome.BAD_REFERENCE]
    errors = [""] * 6 + ["KeyError: 'a'", "KeyError: 'a'", "no verdict", ""]
    pool.check_failures(outcomes, errors, pool.GraderConfig(max_failure_share=0.4), "step 3")
    with pytest.raises(
        pool.FailureShareError,
        match=r"^step 3: graders failed on 40% of 10 .*2 crash, 1 timeout, 1 bad_reference.*0\.39.*"
        r"most frequent: KeyError: 'a' \(2 times\)",
    ):
        pool.check_failures(outcomes, errors, pool.GraderConfig(max_failure_share=0.39), "step 3")
    pool.check_failures([Outcome.WRONG], [""], pool.GraderConfig(max_failure_share=0), "step 0")


@pytest.mark.parametrize(
    "config",
    [
        {"workers": 0}, {"memory_mb": 0}, {"recycle_after": 0}, {"deadline_seconds": 0.0},
        {"deadline_seconds": float("nan")}, {"max_failure_share": 1.1},
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_meant_is_an_error(config):
    ((name, value),) = config.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        pool.GraderConfig(**config)
