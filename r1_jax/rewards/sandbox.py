"""Runs a Python program that nobody trusts, without Docker, and without root where it is not there.

What is promised, by `level()`, the best first:

namespaces (Linux with bubblewrap, and a kernel that lets it): mount, pid, ipc and network
namespaces of the program's own; a user namespace too or, started by root, a user who owns nothing.
  It sees the system's libraries and Python's, read-only, and nothing else of the host: no home, no
  data, no environment, no process, no network. It writes to /tmp alone, which is memory of limited
  size and ends with it. Its processes, daemons too, end with it. With libseccomp, also a filter of
  system calls: no sockets at all, no tracing, nothing of the kernel's own affairs.
seccomp (Linux with libseccomp): a filter of system calls. The program is one process, which can
  start no other (threads it can), opens no socket, writes, makes and removes no file (scratch files
  neither: it has its output), sends no signal, traces nobody; root's capabilities are gone. Reading
  is held by Landlock, where the kernel has it (`reads_are_held`): the system's libraries, Python's,
  and no more. Where it has not, the program may read what this user may read: data with answers in
  it, and under /proc the environments of this user's processes. Which processes there are it sees.
limits (any other Unix): nothing but the limits below and one process group. It may read what this
  user may read, write what this user may write, use the network, signal this user's processes, and
  leave a daemon behind. Only for programs that are trusted not to mean harm.

At all levels: wall clock, and for each process memory, processor seconds, file size and core
files; the number of processes (below namespaces, of what this machine runs beside it; not where the
user is root); output above a size ends the program. Memory is limited per process and not in sum.
What other user's processes can be seen to do (their load, the clock) is hidden at no level.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import math
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from r1_jax.rewards import launch, syscalls

Level = Literal["limits", "seccomp", "namespaces"]
LEVELS: tuple[Level, ...] = ("limits", "seccomp", "namespaces")  # each promises more
FIRST_USER = 1 << 20  # plus our process id: a user who owns nothing, and has no other processes
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
WAYS_OUT = (
    "install bubblewrap (apt-get install bubblewrap) and let users have namespaces (sysctl "
    "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0); seccomp "
    "needs libseccomp (apt-get install libseccomp2)"
)
# What `level` runs to see that a level holds; at seccomp also that its filter does.
_TRIAL = """
import socket
try:
    socket.socket()
except PermissionError:
    print("filtered")
print("in")
"""


@dataclasses.dataclass(frozen=True)
class SandboxConfig:
    """What a program may use, and how well it must be shut in."""

    require: Level = "namespaces"  # the least level; below it, no run
    seconds: float = 6.0  # wall clock of one run
    total_seconds: float = 8.0  # and of all runs of one answer, each a test
    memory_mb: int = 512  # MiB a process
    max_processes: int = 16  # threads included
    output_kb: int = 256  # KiB of standard output
    files_mb: int = 32  # MiB that it may write

    def __post_init__(self):
        for name in ("memory_mb", "max_processes", "output_kb", "files_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("seconds", "total_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be positive and finite")


class Ended(NamedTuple):
    """How a program ended."""

    why: Literal["exit", "time", "output"]  # by itself, or stopped for taking too much of it
    code: int  # exit code, negative for a signal's number; meaningless unless why is "exit"
    output: bytes  # standard output, never more than output_kb


@functools.cache
def level() -> Level:
    """What this machine can hold a program with; measured by running one, once a process."""
    found: list[Level] = [at for at in LEVELS if _holds(at)]
    return found[-1] if found else "limits"


def _holds(at: Level) -> bool:
    is_possible = {
        "limits": True,
        "seccomp": syscalls.library() is not None,
        "namespaces": sys.platform == "linux" and shutil.which("bwrap") is not None,
    }
    if at == "limits" or not is_possible[at]:
        return is_possible[at]
    ended = _run(_TRIAL, b"", SandboxConfig(seconds=10.0), at)
    expected = b"filtered\nin\n" if syscalls.library() else b"in\n"
    return ended == Ended("exit", 0, expected)


@functools.cache
def reads_are_held() -> bool:
    """Whether the level seccomp also keeps a program from reading outside: the kernel's Landlock.

    Meaningful where `level` is seccomp or more; measured by trying, once a process.
    """
    program = f"print(len(open({os.path.abspath(__file__)!r}).read()) > 0)"
    return _run(program, b"", SandboxConfig(seconds=10.0), "seccomp").output == b""


def require(config: SandboxConfig) -> Level:
    """level(). Raises ValueError where it is below config.require."""
    reached = level()
    if LEVELS.index(reached) < LEVELS.index(config.require):
        raise ValueError(
            f"sandbox.require={config.require}, but this machine reaches only {reached}: "
            f"{WAYS_OUT}; or set sandbox.require={reached}, having read in rewards/sandbox.py what "
            "that promises"
        )
    return reached


def run(program: str, stdin: str, config: SandboxConfig) -> Ended:
    """Runs Python source with that standard input at level(), for at most config.seconds.

    Raises ValueError where level() is below config.require.
    """
    return _run(program, stdin.encode("utf-8", "replace"), config, require(config))


def _run(program: str, stdin: bytes, config: SandboxConfig, at: Level) -> Ended:
    source = program.encode("utf-8", "replace")
    calls = b"" if at == "limits" else syscalls.of_program(is_alone=at == "seccomp") or b""
    with _sealed(source) as source_fd, _sealed(stdin) as stdin_fd, _sealed(calls) as calls_fd:
        command = _inside(source_fd, config) if at == "namespaces" else []
        path = "/program.py" if at == "namespaces" else f"/dev/fd/{source_fd}"
        told = {
            "limits": _limits(config, at),
            "user": FIRST_USER + os.getpid() if at == "namespaces" and not os.geteuid() else 0,
            "filter_fd": calls_fd if calls else -1,
            "readable": _readable() if at == "seccomp" else [],
            "command": [sys.executable, "-I", "-X", "utf8", path],
        }
        words = ["-I", "-S", "-c", _launcher(), json.dumps(told)]
        process = subprocess.Popen(
            [*command, sys.executable, *words],
            stdin=stdin_fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[source_fd, *([calls_fd] if calls else [])],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            cwd="/",
            start_new_session=True,  # one group to kill, and no terminal
        )
        with process:
            try:
                return _watch(process, config)
            finally:  # bubblewrap's death ends its pid namespace, and so every process in it
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)


@functools.cache
def _launcher() -> str:
    """The text of rewards.launch: no file of ours can be read where it runs."""
    return pathlib.Path(launch.__file__).read_text()


def _watch(process: subprocess.Popen, config: SandboxConfig) -> Ended:
    assert process.stdout is not None
    until, size = time.monotonic() + config.seconds, config.output_kb << 10
    descriptor, output = process.stdout.fileno(), bytearray()
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return Ended("time", 0, bytes(output))
        data = os.read(descriptor, 1 << 16)
        output += data
        if len(output) > size:
            return Ended("output", 0, bytes(output[:size]))
        if not data:
            break
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT  # not reaped: its group is still to be killed
    while os.waitid(os.P_PID, process.pid, flags) is None:  # it may close its output and go on
        if time.monotonic() > until:
            return Ended("time", 0, bytes(output))
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it left behind
    code = process.wait()
    return Ended("exit", 128 - code if code > 128 else code, bytes(output))


@contextlib.contextmanager
def _sealed(data: bytes):
    """A descriptor of a file in memory that holds `data` and can no longer be changed."""
    descriptor = os.memfd_create("program", os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


def _limits(config: SandboxConfig, at: Level) -> dict[str, int]:
    num_processes = config.max_processes
    if at != "namespaces" and sys.platform == "linux":  # the limit is of all that a user runs
        with open("/proc/loadavg") as file:
            num_processes += int(file.read().split()[3].split("/")[1])  # of all: an upper bound
    return {
        "RLIMIT_AS": config.memory_mb << 20,
        "RLIMIT_CPU": math.ceil(config.seconds) + 1,
        "RLIMIT_FSIZE": config.files_mb << 20,
        "RLIMIT_NPROC": num_processes,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }


def _prefixes() -> list[str]:
    """Where Python and its packages lie, if not under /usr."""
    found = sorted({sys.base_prefix, sys.prefix})
    return [prefix for prefix in found if not pathlib.Path(prefix).is_relative_to("/usr")]


def _readable() -> list[str]:
    return [*SYSTEM, *DEVICES, *_prefixes()]


def _inside(source_fd: int, config: SandboxConfig) -> Sequence[str]:
    """bubblewrap's words: a root of its own, read-only but for /tmp."""
    words = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    if os.geteuid():
        words += ["--unshare-user"]
    else:  # root becomes another inside: limits on processes do not hold root
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    words += ["--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin"]
    words += ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM[1:-1]:
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    for prefix in _prefixes():
        for parent in reversed(pathlib.Path(prefix).parents[:-1]):  # 0700 unless made before
            words += ["--perms", "0755", "--dir", str(parent)]
        words += ["--ro-bind", prefix, prefix]
    words += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    words += ["--perms", "1777", "--size", str(config.files_mb << 20), "--tmpfs", "/tmp"]
    words += ["--perms", "0444", "--ro-bind-data", str(source_fd), "/program.py"]
    return [*words, "--remount-ro", "/", "--chdir", "/tmp", "--"]
