"""The sandbox, attacked: each program ends in time, gets at nothing, and the host goes on."""

import os
import pathlib
import signal
import socket
import sys
import time

import pytest

from r1_jax.rewards import sandbox, syscalls
from tests.rewards.conftest import programs_running

QUICK = sandbox.SandboxConfig(seconds=2.0, memory_mb=256, max_processes=8, files_mb=4)
LIMITS = sandbox.SandboxConfig(require="limits", seconds=2.0)
HERE = [at for at in sandbox.LEVELS if sandbox._holds(at)]
needs_namespaces = pytest.mark.skipif(
    "namespaces" not in HERE, reason="needs bubblewrap and a kernel that lets it"
)
needs_seccomp = pytest.mark.skipif("seccomp" not in HERE, reason="needs libseccomp")
each_level = pytest.mark.parametrize("at", HERE)
each_that_holds = pytest.mark.parametrize(
    "at",
    [
        pytest.param("seccomp", marks=needs_seccomp),
        pytest.param("namespaces", marks=needs_namespaces),
    ],
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


def attack(body, at="namespaces", config=QUICK):
    start = time.monotonic()
    ended = sandbox._run(TRY + body + "\nprint('end')\n", b"", config, at)
    assert time.monotonic() - start < 10
    assert b"BREACH" not in ended.output, ended
    return ended


@each_level
def test_a_program_reads_its_input_and_writes_its_output(at):
    config = sandbox.SandboxConfig(seconds=10.0)
    program = "import math, json\nfor line in open(0):\n    print(math.comb(int(line), 2))\n"
    found = sandbox._run(program, b"5\n6\n", config, at)
    assert found == ("exit", 0, b"10\n15\n")
    assert sandbox._run("import sys; sys.exit(3)", b"", config, at).code == 3
    assert sandbox._run("1/0", b"", config, at) == ("exit", 1, b"")
    died = sandbox._run("import ctypes; ctypes.string_at(1)", b"", config, at)
    assert died == ("exit", -signal.SIGSEGV, b"")


@each_level
def test_threads_and_what_the_library_does_with_sockets_and_memory_go_on(at):
    program = """
import asyncio, concurrent.futures, json, numpy, random, threading, time
threading.stack_size(1 << 20)
with concurrent.futures.ThreadPoolExecutor(4) as threads:
    print(sum(threads.map(abs, range(-9, 1))))
print(asyncio.run(asyncio.sleep(0.01, "slept")), numpy.arange(4).sum(), random.random() < 1)
"""
    config = sandbox.SandboxConfig(seconds=10.0)
    assert sandbox._run(program, b"", config, at) == ("exit", 0, b"45\nslept 6 True\n")


@each_that_holds
def test_nothing_outside_can_be_read(tmp_path, monkeypatch, at):
    if at == "seccomp" and not sandbox.reads_are_held():
        pytest.skip("needs Landlock")
    (tmp_path / "secret").write_text("here")
    monkeypatch.setenv("R1_SECRET", "here")
    paths = [str(tmp_path / "secret"), "/etc/passwd", "/etc/shadow", __file__]
    paths.append(str(pathlib.Path.home() / ".profile"))
    ended = attack(
        f"""
for path in {paths!r}:
    attempt(lambda: open(path).read())
    attempt(lambda: (os.symlink(path, "/tmp/link"), open("/tmp/link").read()))
    attempt(lambda: open("/proc/1/root" + path).read())
    attempt(lambda: open("/proc/self/cwd/../.." + path).read())
attempt(lambda: os.environ["R1_SECRET"])
attempt(lambda: open("/proc/1/environ").read())
attempt(lambda: open("/proc/{os.getpid()}/mem", "rb").seek(1 << 22))
attempt(lambda: "{os.getpid()}" in os.listdir("/proc"))
for pid in range(1, {os.getpid()} + 9):
    attempt(lambda: "pytest" in open(f"/proc/{{pid}}/cmdline").read() and pid)
for fd in range(3, 64):  # at seccomp its own text is one of them
    attempt(lambda: b"def attempt" not in os.pread(fd, 100, 0) and fd)
""",
        at,
    )
    assert ended == ("exit", 0, b"end\n")


@each_that_holds
def test_nothing_outside_can_be_written(tmp_path, at):
    (tmp_path / "there").write_text("whole")
    folders = [str(tmp_path), "/", "/usr/lib", "/dev", "/dev/shm", "/proc/sys/kernel", "/run"]
    folders += [sys.prefix, "/var/tmp"]
    ended = attack(
        f"""
for folder in {folders!r}:
    attempt(lambda: open(folder + "/made", "w").write("x") and folder)
    attempt(lambda: os.mkdir(folder + "/folder") or folder)
for way in (os.remove, os.listdir, lambda path: os.truncate(path, 0), lambda path: open(path, "r+"),
            lambda path: os.chmod(path, 0), lambda path: os.rename(path, path + "2"),
            lambda path: os.open(path, os.O_RDONLY | os.O_TRUNC)):
    attempt(lambda: way("{tmp_path / "there"}"))
attempt(lambda: open("/program.py", "a").write("x"))
attempt(lambda: open("/proc/sys/kernel/core_pattern", "w").write("|/bin/sh"))
attempt(lambda: open("/proc/sysrq-trigger", "w").write("b"))
attempt(lambda: open("/proc/1/oom_score_adj", "w").write("1000"))
attempt(lambda: os.ftruncate(0, 10**9))
attempt(lambda: os.write(0, b"x"))
attempt(lambda: os.getuid() != 0 and os.setuid(0))
attempt(lambda: os.setuid(12345))
attempt(lambda: os.setgroups([0]))
attempt(lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0)) or open("/tmp/disk").read(1))
for name in ("mem", "kmem", "port", "kmsg", "vda", "sda", "fuse", "kvm"):
    attempt(lambda: open("/dev/" + name, "rb").read(1))
""",
        at,
    )
    assert ended == ("exit", 0, b"end\n")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there", "whole")]


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


@each_that_holds
def test_there_is_no_network(at):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        ended = attack(
            f"""
import socket
socket.setdefaulttimeout(0.5)
attempt(lambda: socket.create_connection(("127.0.0.1", {port})))
attempt(lambda: socket.create_connection(("1.1.1.1", 53)))
attempt(lambda: socket.getaddrinfo("example.org", 80))
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt(lambda: [n for _, n in socket.if_nameindex() if n != "lo"] or False)
pair = socket.socketpair()
attempt(lambda: socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b"x", "/dev/log"))
attempt(lambda: pair[0].sendto(b"x", "/dev/log"))
attempt(lambda: pair[0].connect("/dev/log"))
""",
            at,
        )
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


@each_that_holds
def test_nobody_outside_can_be_killed(at):
    ended = attack(
        f"""
import signal
for pid in (os.getppid(), 1, {os.getpid()}, {os.getppid()}):
    attempt(lambda: pid > 1 and (os.kill(pid, signal.SIGKILL), pid))
attempt(lambda: os.killpg({os.getpgid(0)}, signal.SIGKILL) or "group")
import fcntl, resource
ends = os.pipe()
F_SETSIG = 10
attempt(lambda: fcntl.fcntl(ends[0], fcntl.F_SETOWN, {os.getpid()}) and "owner")
attempt(lambda: resource.prlimit({os.getpid()}, resource.RLIMIT_CPU) and "limits")
attempt(lambda: os.setpriority(os.PRIO_PROCESS, {os.getpid()}, 19) or "slower")
attempt(lambda: os.sched_setaffinity({os.getpid()}, [0]) or "elsewhere")
""",
        at,
    )
    assert ended.why == "exit"
    attack("import signal\nos.kill(-1, signal.SIGKILL)\n", at)


@each_that_holds
def test_the_kernel_s_own_affairs_are_refused(at):
    numbers = {"x86_64": (101, 165, 272, 321, 310), "aarch64": (117, 40, 97, 280, 270)}
    if os.uname().machine not in numbers or syscalls.library() is None:
        pytest.skip("needs libseccomp and the numbers of this machine's system calls")
    # ptrace, mount, unshare, bpf, process_vm_readv; io_uring_setup, clone3, fsopen, openat2
    young = [425, 435, 430, 437, 999]
    ended = attack(f"""
import ctypes, errno
call = ctypes.CDLL(None, use_errno=True).syscall
def fails(number, with_error):
    return call(number, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == with_error
for number in {numbers[os.uname().machine]}:
    attempt(lambda: not fails(number, errno.EPERM) and number)
for number in {young}:
    attempt(lambda: not fails(number, errno.ENOSYS) and number)
""", at)  # fmt: skip
    assert ended == ("exit", 0, b"end\n")


@needs_seccomp
def test_at_seccomp_a_program_is_one_process_without_files():
    ended = attack("""
import resource, subprocess, tempfile
attempt(os.fork)
attempt(lambda: subprocess.run(["true"]))
attempt(lambda: os.posix_spawn("/bin/true", ["true"], {}))
attempt(os.setsid)
attempt(tempfile.TemporaryFile)
attempt(lambda: os.memfd_create("x"))
attempt(lambda: os.kill(os.getpid(), 0))
attempt(lambda: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2))
""", "seccomp")  # fmt: skip
    assert ended == ("exit", 0, b"end\n")


@each_level
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
    with pytest.raises(ValueError, match=r"require=namespaces.*only limits: install bubblewrap"):
        sandbox.run("print(1)", "", QUICK)
    assert sandbox.run("print(1)", "", LIMITS).output == b"1\n"
    monkeypatch.setattr(sandbox, "level", lambda: "seccomp")
    with pytest.raises(ValueError, match=r"reaches only seccomp.*or set sandbox.require=seccomp"):
        sandbox.require(QUICK)
    assert sandbox.require(LIMITS) == "seccomp"


def test_the_level_is_the_best_whose_parts_are_there(monkeypatch):
    level = sandbox.level.__wrapped__
    assert level() == HERE[-1]
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    assert level() == ("seccomp" if "seccomp" in HERE else "limits")
    monkeypatch.setattr(syscalls, "library", lambda: None)
    assert level() == "limits"


@needs_seccomp
def test_a_filter_that_does_not_filter_is_no_level(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    monkeypatch.setattr(syscalls, "of_program", lambda is_alone: None)
    assert sandbox.level.__wrapped__() == "limits"


@pytest.mark.parametrize(
    "config", [{"seconds": 0.0}, {"seconds": float("nan")}, {"memory_mb": 0}, {"output_kb": 0}]
)
def test_a_config_that_cannot_be_meant_is_an_error(config):
    ((name, value),) = config.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        sandbox.SandboxConfig(**config)
