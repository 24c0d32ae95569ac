"""The child process of rewards.pool: answers each item as soon as it is graded, until it is killed.

    python -P -m r1_jax.rewards.worker FD

Started clean, so it holds no device and no thread of its parent's. Its first message is a `Setup`,
every later one a pickled list of argument tuples. It answers a line of JSON each: [value, ""], or
[null, what was raised].

Limits on itself (Linux): memory, processor seconds, processes, the size of written files and an
alarm, in case the parent that should kill it is gone; and, with libseccomp, a filter of system
calls: no sockets but the one it was given, no other process or program, no signal to another
(rewards.syscalls; `Setup` says what stays open). The limits are soft, and files can be read and
written: they hold hostile *text* whose grading runs away or evaluates it, not hostile code, for
which there is rewards.sandbox.
"""

import json
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from r1_jax.rewards import launch, syscalls

LENGTH = struct.Struct("!Q")  # before every message to a child
MAX_REPLY = 1 << 20  # bytes of one item's answer; a longer one is an error
MAX_PROCESSES = 1024  # that a grader, and what else this user starts meanwhile, may add
MAX_FILE = 64 << 20  # bytes of a file that a grader writes


class Setup(NamedTuple):
    """What a child needs to know before its first item."""

    function: bytes  # pickled: called with each item's arguments, returns what JSON can write
    deadline_seconds: float
    memory_bytes: int  # beyond what the imports of `function` take
    network: bool = False  # whether it may open sockets
    processes: bool = False  # whether it may start processes


def main(words: list[str]) -> None:
    """Serves the socket that `words` names until its other end is closed."""
    # A host that goes down says so to every process: a completion being graded is not at fault.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = socket.socket(fileno=int(words[0]))
    setup = pickle.loads(_receive(channel))
    try:
        function = pickle.loads(setup.function)
    except Exception as error:  # of the user's module; the parent raises it
        _reply(channel, None, describe(error))
        return
    _silence()
    _limit(setup.memory_bytes)
    calls = syscalls.of_grader(network=setup.network, processes=setup.processes)
    if calls is not None and not (setup.network and setup.processes):
        launch.filter_calls(calls)
    _reply(channel, "ready", "")
    while message := _receive(channel):
        for arguments in pickle.loads(message):
            _give(setup.deadline_seconds)
            value, error = call(function, arguments)
            _reply(channel, value, error)
        signal.setitimer(signal.ITIMER_REAL, 0)


def call(function: Callable[..., Any], arguments: tuple) -> tuple[Any, str]:
    """(value, "") of function(*arguments), or (None, what it raised)."""
    try:
        return function(*arguments), ""
    except BaseException as error:  # SystemExit too: whatever a grader raises is told, and counted
        return None, describe(error)


def describe(error: BaseException) -> str:
    """`Type: message (file:line)` on one line, short enough for a log."""
    at, trace = "", error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None:
        file = os.path.basename(trace.tb_frame.f_code.co_filename)
        at = f" ({file}:{trace.tb_lineno})"
    try:
        message = " ".join(str(error).split())[:200]
    except Exception:  # an exception of the user's may not even be printable
        message = "?"
    return f"{type(error).__name__}: {message}{at}"


def encode(value: Any, error: str) -> bytes:
    """The line that answers an item; an error in place of a value too long or not for JSON."""
    try:
        line = json.dumps([value, error]).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        line = json.dumps([None, describe(problem)]).encode()
    if len(line) > MAX_REPLY:
        line = json.dumps([None, f"ValueError: an answer of {len(line)} bytes"]).encode()
    return line + b"\n"


def _reply(channel: socket.socket, value: Any, error: str) -> None:
    channel.sendall(encode(value, error))


def _receive(channel: socket.socket) -> bytes:
    """The next message; b"" when the other end is closed."""
    head = _exactly(channel, LENGTH.size)
    return _exactly(channel, LENGTH.unpack(head)[0]) if head else b""


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = channel.recv(size - len(data))
        if not chunk:
            return b""
        data += chunk
    return bytes(data)


def _silence() -> None:
    """What a grader prints goes nowhere: endless output costs no memory, disk or terminal."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _soft(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _limit(memory_bytes: int) -> None:
    _soft(resource.RLIMIT_CORE, 0)
    _soft(resource.RLIMIT_FSIZE, MAX_FILE)
    if sys.platform == "linux":  # elsewhere only the deadline holds memory and processes
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        with open("/proc/loadavg") as file:
            running = int(file.read().split()[3].split("/")[1])  # of all users: an upper bound
        _soft(resource.RLIMIT_AS, mapped + memory_bytes)
        _soft(resource.RLIMIT_NPROC, running + MAX_PROCESSES)


def _give(deadline_seconds: float) -> None:
    """The next item's time. The parent kills first, at 1 deadline; this is for when it cannot."""
    limit = 2 * deadline_seconds + 5
    signal.setitimer(signal.ITIMER_REAL, limit)  # SIGALRM ends a process that does not handle it
    _soft(resource.RLIMIT_CPU, int(time.process_time() + limit) + 1)


if __name__ == "__main__":
    main(sys.argv[1:])
