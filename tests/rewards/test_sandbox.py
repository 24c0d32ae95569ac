"""The sandbox, attacked: each program ends in time, gets at nothing, and the host goes on."""

import os
import pathlib
import signal
import socket
import sys
import time

import pytest

from r1_jax.rewards import sandbox
from tests.rewards.conftest import programs_running

QUICK = sandbox.SandboxConfig(seconds=2.0, memory_mb=256, max_processes=8, files_mb=4)
LIMITS = sandbox.SandboxConfig(require="limits", seconds=2.0)
needs_namespaces = pytest.mark.skipif(
    sandbox.level() != "namespaces", reason="needs bubblewrap and a kernel that lets it"
)
# Says BREACH once for each way that is open, then "end".
TRY = """
import os, sys
def attempt(way):
    try:
        found = way()
    except BaseException as error:
        return
    if found is not False:
        print("BREACH", found, flush=True)
"""


def attack(body, config=QUICK):
    start = time.monotonic()
    ended = sandbox.run(TRY + body + "\nprint('end')\n", "", config)
    assert time.monotonic() - start < 10
    assert b"BREACH" not in ended.output, ended
    return ended


@pytest.mark.parametrize("at", ["limits", pytest.param("namespaces", marks=needs_namespaces)])
def test_a_program_reads_its_input_and_writes_its_output(at):
    config = sandbox.SandboxConfig(seconds=10.0)
    program = "import math, json\nfor line in open(0):\n    print(math.comb(int(line), 2))\n"
    found = sandbox._run(program, b"5\n6\n", config, at)
    assert found == ("exit", 0, b"10\n15\n")
    assert sandbox._run("import sys; sys.exit(3)", b"", config, at).code == 3
    assert sandbox._run("1/0", b"", config, at) == ("exit", 1, b"")
    died = sandbox._run(f"import os; os.kill(os.getpid(), {signal.SIGSEGV:d})", b"", config, at)
    assert died == ("exit", -signal.SIGSEGV, b"")


@needs_namespaces
def test_nothing_outside_can_be_read(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("here")
    monkeypatch.setenv("R1_SECRET", "here")
    paths = [str(tmp_path / "secret"), "/etc/passwd", "/etc/shadow", __file__]
    paths.append(str(pathlib.Path.home() / ".profile"))
    ended = attack(f"""
for path in {paths!r}:
    attempt(lambda: open(path).read())
    attempt(lambda: (os.symlink(path, "/tmp/link"), open("/tmp/link").read()))
    attempt(lambda: open("/proc/1/root" + path).read())
    attempt(lambda: open("/proc/self/cwd/../.." + path).read())
attempt(lambda: os.environ["R1_SECRET"])
attempt(lambda: open("/proc/1/environ").read())
for pid in filter(str.isdigit, os.listdir("/proc")):
    attempt(lambda: {os.getpid()} == int(pid) and pid)
    attempt(lambda: "pytest" in open(f"/proc/{{pid}}/cmdline").read() and pid)
for fd in range(3, 64):
    attempt(lambda: (os.fstat(fd), fd))
""")
    assert ended == ("exit", 0, b"end\n")


@needs_namespaces
def test_nothing_outside_can_be_written(tmp_path):
    folders = [str(tmp_path), "/", "/usr/lib", "/dev", "/dev/shm", "/proc/sys/kernel", "/run"]
    folders += [sys.prefix, "/var/tmp"]
    ended = attack(f"""
for folder in {folders!r}:
    attempt(lambda: open(folder + "/made", "w").write("x") and folder)
    attempt(lambda: os.mkdir(folder + "/folder") or folder)
attempt(lambda: open("/program.py", "a").write("x"))
attempt(lambda: open("/proc/sys/kernel/core_pattern", "w").write("|/bin/sh"))
attempt(lambda: open("/proc/sysrq-trigger", "w").write("b"))
attempt(lambda: open("/proc/1/oom_score_adj", "w").write("1000"))
attempt(lambda: os.ftruncate(0, 10**9))
attempt(lambda: os.write(0, b"x"))
attempt(lambda: os.setuid(0))
attempt(lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0)) or open("/tmp/disk").read(1))
for name in ("mem", "kmem", "port", "kmsg", "vda", "sda", "fuse", "kvm"):
    attempt(lambda: open("/dev/" + name, "rb").read(1))
""")
    assert ended == ("exit", 0, b"end\n")
    assert not list(tmp_path.iterdir())


@needs_namespaces
def test_its_own_files_are_few_and_gone_afterwards():
    body = """
try:
    for i in range(100):
        open(f"/tmp/{i}", "wb").write(bytes(1 << 20))
except OSError as error:
    print("full", i)
"""
    assert attack(body).output == b"full 4\nend\n" or attack(body).output == b"full 3\nend\n"
    assert attack("print(os.listdir('/tmp'))").output == b"[]\nend\n"


@needs_namespaces
def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        ended = attack(f"""
import socket
socket.setdefaulttimeout(0.5)
attempt(lambda: socket.create_connection(("127.0.0.1", {port})))
attempt(lambda: socket.create_connection(("1.1.1.1", 53)))
attempt(lambda: socket.getaddrinfo("example.org", 80))
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt(lambda: [n for _, n in socket.if_nameindex() if n != "lo"] or False)
""")
        assert ended == ("exit", 0, b"end\n")
        with pytest.raises(TimeoutError):
            server.accept()


@needs_namespaces
def test_a_fork_bomb_stays_small_and_ends():
    mark = f"bomb{os.getpid()}"
    ended = attack(f"""
import time
sys.argv = [{mark!r}]
num = 0
while True:
    try:
        if not os.fork():
            num = 0
        num += 1
    except OSError:
        time.sleep(0.01)
""")
    assert ended.why == "time"
    assert not leftovers()
    ended = attack("""
import time
num = 0
try:
    while num < 100:
        if not os.fork():
            time.sleep(60)
        num += 1
except OSError:
    print(num)
""")
    assert ended.output == b"7\nend\n"  # and the program itself is the eighth


def leftovers(seconds=3):
    """Host processes of a user that the sandbox made up, once those that are dying are gone."""
    until = time.monotonic() + seconds
    while True:
        found = programs_running()
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


@needs_namespaces
def test_daemons_end_with_the_program():
    ended = attack("""
import time
if not os.fork():
    os.setsid()
    if not os.fork():
        os.close(1)
        while True:
            time.sleep(1)
    os._exit(0)
os.wait()
""")
    assert ended == ("exit", 0, b"end\n")
    assert not leftovers()


@needs_namespaces
def test_a_daemon_that_holds_the_output_costs_no_more_than_the_time():
    ended = attack("import time\nif not os.fork():\n    os.setsid()\n    time.sleep(60)\n")
    assert ended.why in ("exit", "time") and ended.output == b"end\n"
    assert not leftovers()


@needs_namespaces
def test_nobody_outside_can_be_killed():
    ended = attack(f"""
import signal
for pid in (os.getppid(), 1, {os.getpid()}, {os.getppid()}):
    attempt(lambda: pid > 1 and (os.kill(pid, signal.SIGKILL), pid))
attempt(lambda: os.killpg({os.getpgid(0)}, signal.SIGKILL) or "group")
""")
    assert ended.why == "exit"
    attack("import signal\nos.kill(-1, signal.SIGKILL)\n")


@pytest.mark.parametrize("at", ["limits", pytest.param("namespaces", marks=needs_namespaces)])
@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("bytearray(10**11)", "exit"),
        ("x = [bytearray(1 << 20) for _ in range(10**5)]", "exit"),
        ("while True: print('x' * 10000)", "output"),
        ("import os\nwhile True: os.write(1, bytes(10**6))", "output"),
        ("while True: pass", "time"),
        ("import time; time.sleep(60)", "time"),
        ("import os, time; os.close(1); time.sleep(60)", "time"),
        ("10 ** 10**9", "time"),
        (
            "import signal, time\nfor n in range(1, 32):\n  try: signal.signal(n, signal.SIG_IGN)\n"
            "  except OSError: pass\nwhile True: time.sleep(1)",
            "time",
        ),
    ],
)
def test_what_takes_too_much_is_stopped(at, program, why):
    seconds = 0.7 if why == "time" else 8.0
    config = sandbox.SandboxConfig(seconds=seconds, memory_mb=256, output_kb=64)
    start = time.monotonic()
    ended = sandbox._run(program, b"", config, at)
    assert ended.why == why and time.monotonic() - start < 10
    assert len(ended.output) <= 64 << 10
    assert why != "exit" or ended.code == 1  # MemoryError


def test_the_level_limits_does_not_keep_what_it_does_not_promise():
    """So that the tests above are known to be able to fail."""
    body = TRY + "attempt(lambda: open('/etc/passwd').read())\nattempt(lambda: os.listdir('/sys'))"
    assert sandbox._run(body, b"", LIMITS, "limits").output.count(b"BREACH") == 2


def test_a_level_that_is_not_reached_is_refused(monkeypatch):
    monkeypatch.setattr(sandbox, "level", lambda: "limits")
    with pytest.raises(ValueError, match=r"require=namespaces.*install bubblewrap"):
        sandbox.run("print(1)", "", QUICK)
    assert sandbox.run("print(1)", "", LIMITS).output == b"1\n"


def test_without_bubblewrap_the_level_is_limits(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    assert sandbox.level.__wrapped__() == "limits"


@pytest.mark.parametrize(
    "config", [{"seconds": 0.0}, {"seconds": float("nan")}, {"memory_mb": 0}, {"output_kb": 0}]
)
def test_a_config_that_cannot_be_meant_is_an_error(config):
    ((name, value),) = config.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        sandbox.SandboxConfig(**config)
