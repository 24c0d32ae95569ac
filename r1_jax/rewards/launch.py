"""Gives up what a process may do, from inside it; then, as a program, becomes another one.

rewards.sandbox sends this file's text into the sandbox, where nothing of ours can be imported, and
there runs it before the program; rewards.worker calls `filter_calls` for itself. So: standard
library alone, imported where it is needed.
"""

import json
import os
import resource
import sys
from collections.abc import Sequence
from typing import Any

_NO_NEW_PRIVS, _SECCOMP, _SECCOMP_FILTER = 38, 22, 2  # prctl(2)
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # landlock; the same on every machine
_READ = 0b1101  # landlock: execute, read a file, read a folder
_OF_A_FILE = 0b0101


def main(words: Sequence[str]) -> None:
    """Reads one word of JSON, gives up what it says, and executes its `command`.

    limits: resource -> value, soft and hard. user: id to become; 0 stays. filter_fd: of a seccomp
    program; -1 for none. readable: with a filter, what may still be read, where the kernel has
    Landlock; root's capabilities go too. [] for all, and then they stay.
    """
    told: dict[str, Any] = json.loads(words[0])
    if told["user"]:
        os.setgroups([])
        os.setgid(told["user"])
        os.setuid(told["user"])
    for name, value in told["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if told["filter_fd"] >= 0:
        program = os.pread(told["filter_fd"], 1 << 20, 0)
        os.close(told["filter_fd"])
        _no_new_privileges()
        if told["readable"]:
            read_only(told["readable"])
            drop_capabilities()
        filter_calls(program)
    os.execv(told["command"][0], told["command"])


def filter_calls(program: bytes) -> None:
    """Lets this thread make only what a seccomp program allows, for good, and what it starts too.

    Call it while there is one thread. Raises OSError where the kernel has no seccomp.
    """
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    _no_new_privileges()
    held = Program(len(program) // 8, program)
    _prctl(_SECCOMP, _SECCOMP_FILTER, ctypes.addressof(held))


def read_only(paths: Sequence[str]) -> bool:
    """Lets this process open, of all files, only what lies under `paths`, and only to read.

    False, and nothing done, where the kernel has no Landlock (Linux 5.13). Pipes, files in memory
    and what is open already stay as they were. `_no_new_privileges` comes first.
    """
    import ctypes
    import struct

    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    if call(_CREATE_RULESET, None, ctypes.c_size_t(0), 1) < 1:
        return False
    handled = struct.pack("Q", (1 << 13) - 1)  # all kinds that its first version knows
    rules = call(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there needs no permission
        rule = struct.pack("=Qi", _READ if os.path.isdir(path) else _OF_A_FILE, descriptor)
        if call(_ADD_RULE, rules, 1, rule, 0):
            raise OSError(ctypes.get_errno(), f"landlock_add_rule of {path}")
        os.close(descriptor)
    if call(_RESTRICT_SELF, rules, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(rules)
    return True


def drop_capabilities() -> None:
    """Makes root a user like others, who owns root's files. No privilege comes back by exec."""
    import ctypes
    import struct

    if os.geteuid():
        return
    number = _CAPSET[os.uname().machine]
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if ctypes.CDLL(None, use_errno=True).syscall(number, header, none):
        raise OSError(ctypes.get_errno(), "capset")


def _no_new_privileges() -> None:
    _prctl(_NO_NEW_PRIVS, 1, 0)


def _prctl(option: int, first: int, second: int) -> None:
    import ctypes

    words = [ctypes.c_ulong(x) for x in (first, second, 0, 0)]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *words):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1:])
