"""What a process gives up, each in a process of its own."""

import json
import pathlib
import subprocess
import sys

import pytest

from r1_jax.rewards import launch, syscalls

FILE = launch.__file__
needs_seccomp = pytest.mark.skipif(syscalls.library() is None, reason="needs libseccomp")


def run(code, *words):
    command = [sys.executable, "-c", f"from r1_jax.rewards import launch, syscalls\n{code}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_needs_nothing_that_a_sandbox_lacks(tmp_path):
    told = {"limits": {"RLIMIT_NOFILE": 17}, "user": 0, "filter_fd": -1, "readable": []}
    show = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    told["command"] = [sys.executable, "-I", "-c", show]
    text = pathlib.Path(FILE).read_text()
    words = [sys.executable, "-I", "-S", "-c", text, json.dumps(told)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env={}, timeout=60)
    assert done.stdout == "(17, 17)\n", done.stderr


@needs_seccomp
def test_a_filter_cannot_be_taken_off():
    code = """
import socket, subprocess, sys
launch.filter_calls(syscalls.of_grader(network=False, processes=True))
def fails():
    try:
        socket.socket()
    except PermissionError:
        return True
print(fails(), "NoNewPrivs:\\t1" in open("/proc/self/status").read(), flush=True)
subprocess.run([sys.executable, "-c", "import socket; socket.socket()"], stderr=2)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"from r1_jax.rewards import launch, syscalls\n{code}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "True True\n" and "PermissionError" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")
def test_a_filter_that_the_kernel_does_not_take_is_an_error():
    code = """
try:
    launch.filter_calls(b"")
except OSError as error:
    print(error)
"""
    assert "prctl(22)" in run(code)


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_only_what_is_named_can_be_opened(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("inside")
    (tmp_path / "out").write_text("outside")
    code = """
import os, sys
folder = sys.argv[1]
launch._no_new_privileges()
if not launch.read_only([folder + "/in", folder + "/absent", "/dev/null"]):
    sys.exit(print("no Landlock"))
print(open(folder + "/in/file").read(), open("/dev/null").read())
for way in (
    lambda: open(folder + "/out"), lambda: os.listdir(folder), lambda: open("/dev/null", "w"),
    lambda: open(folder + "/in/file", "a"), lambda: os.mkdir(folder + "/in/made"),
    lambda: os.remove(folder + "/in/file"),
):
    try:
        print("open:", way())
    except PermissionError:
        pass
"""
    found = run(code, str(tmp_path))
    if found == "no Landlock\n":
        pytest.skip("needs Landlock")
    assert found == "inside \n"


def test_root_keeps_no_capabilities():
    code = """
import os
if os.geteuid() == 0:
    launch.drop_capabilities()
print([line for line in open("/proc/self/status") if line.startswith("CapEff")])
"""
    assert "CapEff:\\t0000000000000000" in run(code)
