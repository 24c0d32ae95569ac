"""Runs a Python program that nobody trusts, without Docker, and without root where it is not there.

What is promised, by `level()`:

namespaces (Linux with bubblewrap, and a kernel that lets it): mount, pid, ipc and network
namespaces of the program's own; a user namespace too or, started by root, a user who owns nothing.
  It sees the system's libraries and Python's, read-only, and nothing else of the host: no home, no
  data, no environment, no process, no network. It writes to /tmp alone, which is memory of limited
  size and ends with it. Its processes, daemons too, end with it.
limits (any other Unix): nothing but the limits below and one process group. It may read what this
  user may read, write what this user may write, use the network, signal this user's processes, and
  leave a daemon behind. Only for programs that are trusted not to mean harm.

At both levels: wall clock, and for each process memory, processor seconds, file size and core
files; the number of processes (at `limits`, of all of this user's; not where that user is root);
output above a size ends the program. Memory is limited per process and not in sum.
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

Level = Literal["limits", "namespaces"]
FIRST_USER = 1 << 20  # plus our process id: a user who owns nothing, and has no other processes
# Runs inside, before the program: that user where we are root, then limits that nothing can raise.
_LAUNCH = """
import json, os, resource, sys
limits, user, path = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
for name, value in limits.items():
    resource.setrlimit(getattr(resource, name), (value, value))
os.execv(sys.executable, [sys.executable, "-I", "-X", "utf8", path])
"""


@dataclasses.dataclass(frozen=True)
class SandboxConfig:
    """What a program may use, and how well it must be shut in."""

    require: Literal["limits", "namespaces"] = "namespaces"  # the least level; below it, no run
    seconds: float = 6.0  # wall clock
    memory_mb: int = 512  # MiB a process
    max_processes: int = 16  # threads included
    output_kb: int = 256  # KiB of standard output
    files_mb: int = 32  # MiB that it may write

    def __post_init__(self):
        for name in ("memory_mb", "max_processes", "output_kb", "files_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds={self.seconds} must be positive and finite")


class Ended(NamedTuple):
    """How a program ended."""

    why: Literal["exit", "time", "output"]  # by itself, or stopped for taking too much of it
    code: int  # exit code, negative for a signal's number; meaningless unless why is "exit"
    output: bytes  # standard output, never more than output_kb


@functools.cache
def level() -> Level:
    """What this machine can hold a program with; measured by running one, once a process."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        return "limits"
    ended = _run("print('in')", b"", SandboxConfig(seconds=10.0), "namespaces")
    return "namespaces" if ended == Ended("exit", 0, b"in\n") else "limits"


def require(config: SandboxConfig) -> None:
    """Raises ValueError where level() is below config.require."""
    if config.require == "namespaces" and level() != "namespaces":
        raise ValueError(
            "sandbox.require=namespaces, but this machine reaches only limits: install bubblewrap "
            "(apt-get install bubblewrap) and let users have namespaces (sysctl "
            "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), "
            "or set sandbox.require=limits for programs that you trust"
        )


def run(program: str, stdin: str, config: SandboxConfig) -> Ended:
    """Runs Python source with that standard input at level(), for at most config.seconds.

    Raises ValueError where level() is below config.require.
    """
    require(config)
    return _run(program, stdin.encode("utf-8", "replace"), config, level())


def _run(program: str, stdin: bytes, config: SandboxConfig, at: Level) -> Ended:
    source = program.encode("utf-8", "replace")
    with _sealed(source) as source_fd, _sealed(stdin) as stdin_fd:
        command = _inside(source_fd, config) if at == "namespaces" else []
        path = "/program.py" if at == "namespaces" else f"/dev/fd/{source_fd}"
        user = FIRST_USER + os.getpid() if at == "namespaces" and os.geteuid() == 0 else 0
        limits = json.dumps(_limits(config))
        command = [*command, sys.executable, "-I", "-S", "-c", _LAUNCH, limits, str(user), path]
        process = subprocess.Popen(
            command,
            stdin=stdin_fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[source_fd],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            cwd="/",
            process_group=0,
        )
        with process:
            try:
                return _watch(process, config)
            finally:  # bubblewrap's death ends its pid namespace, and so every process in it
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)


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


def _limits(config: SandboxConfig) -> dict[str, int]:
    return {
        "RLIMIT_AS": config.memory_mb << 20,
        "RLIMIT_CPU": math.ceil(config.seconds) + 1,
        "RLIMIT_FSIZE": config.files_mb << 20,
        "RLIMIT_NPROC": config.max_processes,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }


def _inside(source_fd: int, config: SandboxConfig) -> Sequence[str]:
    """bubblewrap's words: a root of its own, read-only but for /tmp."""
    words = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    if os.geteuid():
        words += ["--unshare-user"]
    else:  # root becomes another inside: limits on processes do not hold root
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    words += ["--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin"]
    words += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    for prefix in sorted({sys.base_prefix, sys.prefix}):
        if not pathlib.Path(prefix).is_relative_to("/usr"):
            for parent in reversed(pathlib.Path(prefix).parents[:-1]):  # 0700 unless made before
                words += ["--perms", "0755", "--dir", str(parent)]
            words += ["--ro-bind", prefix, prefix]
    words += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    words += ["--perms", "1777", "--size", str(config.files_mb << 20), "--tmpfs", "/tmp"]
    words += ["--perms", "0444", "--ro-bind-data", str(source_fd), "/program.py"]
    return [*words, "--remount-ro", "/", "--chdir", "/tmp", "--"]
