"""The code reward against programs that were written to be paid for nothing, to hang or to harm.

hostile_programs.jsonl: what each tries, and the least level that holds it. What is expected of them
is a secret that only a breach can tell: it lies in a file, in the environment and in the memory of
this process, and a server of this machine says it to whoever asks. So a program that gets out is
RIGHT, and none may be.
"""

import dataclasses
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from concurrent import futures

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_jax.rewards import code, sandbox, verdict
from tests.rewards.conftest import programs_left

LINES = (pathlib.Path(__file__).parent / "hostile_programs.jsonl").read_text().splitlines()
PROGRAMS = [json.loads(line) for line in LINES]
TOKEN = f"token-{secrets.token_hex(16)}"
CONFIG = sandbox.SandboxConfig(
    require="limits", seconds=1.0, memory_mb=256, max_processes=16, output_kb=16, files_mb=4
)
REFERENCES = {
    "stdin": json.dumps({"stdin": [{"input": "1 2\n", "output": TOKEN}]}),
    "function": json.dumps(
        {"function": "answer", "cases": [{"arguments": ["1 2"], "result": TOKEN}]}
    ),
}
MOST_SECONDS = 30.0  # of one program that has at most five, on a machine that is busy
LEVELS = sandbox.LEVELS
HERE = [at for at in LEVELS if sandbox._holds(at)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Where the secret is: what stands for it in the programs."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text(TOKEN)
    os.utime(folder / "secret", (10**9, 10**9))
    server, asked = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            asked.append(1)
            with connection:
                connection.sendall(f"HTTP/1.0 200 OK\n\n{TOKEN}".encode())

    threading.Thread(target=serve, daemon=True).start()
    os.environ["R1_TOKEN"] = TOKEN
    yield {
        "SECRET": str(folder / "secret"),
        "FOLDER": str(folder),
        "PORT": str(server.getsockname()[1]),
        "PARENT": str(os.getpid()),
        "asked": asked,
    }
    del os.environ["R1_TOKEN"]
    server.close()


def filled(row, world):
    text = row["program"]
    for name in ("SECRET", "FOLDER", "PORT", "PARENT"):
        text = text.replace(name, world[name])
    return text


def judged(row, world):
    start = time.monotonic()
    # What does not end by itself gets a second; the rest enough to do its harm on a busy machine.
    seconds = 1.0 if row["tries"] in ("time", "output", "memory", "more processes") else 5.0
    config = dataclasses.replace(CONFIG, seconds=seconds)
    found = code.judge(filled(row, world), REFERENCES[row["form"]], config)
    assert time.monotonic() - start < MOST_SECONDS, row["name"]
    return found


def is_whole(world):
    """Whether all that is outside is as it was."""
    folder = pathlib.Path(world["FOLDER"])
    secret = folder / "secret"
    return (
        [path.name for path in folder.iterdir()] == ["secret"]
        and secret.read_text() == TOKEN
        and secret.stat().st_mtime == 10**9
        and not world["asked"]
    )


def test_there_are_enough_and_each_is_another():
    assert len(PROGRAMS) >= 100
    for key in ("name", "program"):
        assert len({row[key] for row in PROGRAMS}) == len(PROGRAMS)
    kinds = {row["tries"] for row in PROGRAMS}
    assert len(kinds) == 10 and all(row["least"] in LEVELS for row in PROGRAMS)


def check(at, world, monkeypatch):
    """Every program that the level promises to hold is wrong, and nothing outside has changed."""
    rows = [row for row in PROGRAMS if LEVELS.index(row["least"]) <= LEVELS.index(at)]
    if at == "seccomp" and not sandbox.reads_are_held():
        rows = [row for row in rows if row["tries"] not in ("reading outside", "/dev and /proc")]
    monkeypatch.setattr(sandbox, "level", lambda: at)
    alone = [row for row in rows if row["tries"] == "more processes"]  # they share their number
    rest = [row for row in rows if row not in alone]
    with futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(judged, rest, [world] * len(rest)))
    found += [judged(row, world) for row in alone]
    for row, what in zip(rest + alone, found, strict=True):
        assert what in (verdict.WRONG, verdict.UNPARSED), row["name"]
    assert is_whole(world)
    assert not programs_left()


def test_none_is_paid_none_hangs_and_none_harms(world, monkeypatch):
    check(HERE[-1], world, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("at", HERE[:-1])
def test_nor_at_a_lower_level_what_it_promises_to_hold(at, world, monkeypatch):
    check(at, world, monkeypatch)


def test_a_program_that_gets_out_would_be_seen(world, monkeypatch):
    """At limits, which promises nothing of the kind: so that the tests above can fail."""
    rows = {row["name"]: row for row in PROGRAMS}
    monkeypatch.setattr(sandbox, "level", lambda: "limits")
    for name in ("read_secret", "read_secret_by_mmap", "read_by_cat"):
        assert judged(rows[name], world) == verdict.RIGHT, name
    judged(rows["fetch_from_localhost"], world)
    assert len(world["asked"]) == 1 and not is_whole(world)
    world["asked"].clear()
    right = dataclasses.replace(CONFIG, seconds=10.0)
    monkeypatch.setattr(sandbox, "level", lambda: HERE[-1])
    said = f"print('{TOKEN[:9]}' + '{TOKEN[9:]}')"
    assert code.judge(said, REFERENCES["stdin"], right) == verdict.RIGHT


PIECES = [
    "import os, sys, json, ctypes, gc, resource, signal, socket, subprocess, threading, time",
    "print(open('SECRET').read())", "print(os.environ)", "print(open(0).read())",
    "os._exit(0)", "raise SystemExit(0)", "sys.stdout.close()", "os.close(1)", "os.dup2(0, 1)",
    "os.fork()", "os.setsid()", "os.kill(os.getppid(), 9)", "os.closerange(0, 64)",
    "open('FOLDER/x', 'w').write('x')", "os.remove('SECRET')", "os.chdir('FOLDER')",
    "socket.create_connection(('127.0.0.1', PORT))", "subprocess.run(['cat', 'SECRET'])",
    "def answer(text): return text", "answer = print", "json.dump = print", "del json",
    "sys.setrecursionlimit(10**9)", "x = [0] * 10**9", "x = 9**9**7", "print('x' * 10**6)",
    "threading.Thread(target=print, args=('x',)).start()", "signal.alarm(1)", "gc.disable()",
    "ctypes.string_at(0)", "resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))", "1 / 0",
    "while True: pass", "time.sleep(9)", "try:\n    os.listdir('/proc')\nexcept OSError: pass",
    "for fd in range(64):\n    try: os.write(fd, b'3')\n    except OSError: pass", "\x00", "(",
]  # fmt: skip


@pytest.mark.fuzz
def test_a_search_finds_no_program_that_is_paid_or_harms(world, monkeypatch):
    """Prints what it did; a failure shows the program, which then belongs into the file."""
    end = time.monotonic() + float(os.environ.get("R1_JAX_FUZZ_SECONDS", "600"))
    monkeypatch.setattr(sandbox, "level", lambda: HERE[-1])
    num_judged = [0]

    @settings(max_examples=50, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=8), st.sampled_from([*REFERENCES])
    )
    def search(lines, form):
        row = {"name": lines, "tries": "time", "form": form, "program": "\n".join(lines)}
        assert judged(row, world) in (verdict.WRONG, verdict.UNPARSED)
        assert is_whole(world)
        num_judged[0] += 1

    while time.monotonic() < end:
        search()
    print(f"{num_judged[0]} programs at level {HERE[-1]}")  # noqa: T201
