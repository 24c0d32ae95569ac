"""Which system calls a process may still make: programs of seccomp, made by libseccomp.

What is not named here stays allowed, but for calls younger than Linux 5.1: of those only the few
that the C library cannot do without. A refused call fails with EPERM (a young one with ENOSYS, as
on an older kernel); nothing is killed by it, except that calls of another architecture end the
process (libseccomp's rule).
"""

import errno
import functools
import io
import os
import sys
from collections.abc import Iterator
from types import ModuleType

# Names that this libseccomp or machine does not know are passed over.
NETWORK = "socket connect bind listen"
TRACING = "ptrace process_vm_readv process_vm_writev kcmp perf_event_open"
SIGNALS = "rt_sigqueueinfo rt_tgsigqueueinfo setpgid setsid setpriority sched_setscheduler sched_setparam sched_setattr sched_setaffinity ioprio_set move_pages migrate_pages"  # noqa: E501
START = "fork vfork"
EXECUTE = "execve execveat"
KERNEL = """
mount umount umount2 pivot_root chroot setns unshare swapon swapoff quotactl acct reboot syslog
kexec_load kexec_file_load init_module finit_module delete_module bpf userfaultfd keyctl add_key
request_key settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname ioperm iopl
modify_ldt personality vhangup fanotify_init open_by_handle_at name_to_handle_at lookup_dcookie
shmget msgget semget mq_open io_setup
"""
WRITING = """
creat mkdir mkdirat mknod mknodat rename renameat renameat2 link linkat symlink symlinkat unlink
unlinkat rmdir truncate chmod fchmod fchmodat chown fchown lchown fchownat utime utimes utimensat
futimesat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr memfd_create
"""
FIRST_YOUNG, LAST_YOUNG = 424, 1023  # Linux 5.1; numbers are one on every machine from here on
YOUNG = {436: "close_range", 439: "faccessat2", 441: "epoll_pwait2", 449: "futex_waitv"}
_THREAD, _NEW = 0x10000, 0x7E020000 | 0x80  # flags of clone(2): a thread; namespaces of its own
_SETOWN, _SETSIG, _SETOWN_EX = 8, 10, 15  # of fcntl(2): who gets a signal, and which
_PUSH_INPUT, _SET_OWNER, _SET_GROUP = 0x5412, 0x8901, 0x8902  # of ioctl(2)
_LOCAL, _NETLINK = 1, 16  # families of sockets


@functools.cache
def library() -> ModuleType | None:
    """pyseccomp, or None where it, libseccomp or Linux is not there."""
    if sys.platform != "linux":
        return None
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError):  # RuntimeError: without libseccomp
        return None
    return pyseccomp


@functools.cache
def of_program(*, is_alone: bool) -> bytes | None:
    """The filter of a program that nobody trusts, None without `library`.

    Refused: sockets, tracing, the kernel's own affairs. is_alone: there are no namespaces, so
    also other processes (none can be started, and none gets a signal, itself included) and files
    (none is opened for writing, made, removed or changed).
    """
    lib = library()
    if lib is None:
        return None
    made = _Filter(lib)
    made.refuse(NETWORK, TRACING, KERNEL)
    made.refuse_datagram_pairs()
    made.refuse_namespaces()
    made.refuse_young()
    if is_alone:
        made.refuse(SIGNALS, START, WRITING, "kill tkill tgkill")
        made.refuse_others_limits()
        made.refuse_asking_for_signals()
        made.refuse_new_processes()
        made.refuse_writing()
    return made.program()


def of_grader(*, network: bool, processes: bool) -> bytes | None:
    """The filter of the calling process, a grader whose function is trusted and whose text is not.

    None without `library`. Refused, unless network: sockets; unless processes: to start another
    process or program, signals to any but itself, and the kernel's own affairs. With processes,
    local and netlink sockets stay, which bubblewrap needs; none of them leaves this machine.
    """
    lib = library()
    if lib is None:
        return None
    made = _Filter(lib)
    made.refuse(TRACING)
    if not network:
        made.refuse("connect listen")
        if processes:
            for family in range(_LOCAL + 1, _NETLINK):
                made.refuse_where("socket", (0, lib.EQ, family))
            made.refuse_where("socket", (0, lib.GT, _NETLINK))
        else:
            made.refuse("socket bind")
            made.refuse_datagram_pairs()
    if not processes:
        made.refuse(KERNEL, SIGNALS, START, EXECUTE)
        made.refuse("tkill")
        for name in ("kill", "tgkill"):
            made.refuse_where(name, (0, lib.NE, os.getpid()))
        made.refuse_others_limits()
        made.refuse_asking_for_signals()
        made.refuse_new_processes()
        made.refuse_young()
    return made.program()


class _Filter:
    """A filter being made; everything is allowed at first."""

    def __init__(self, lib: ModuleType):
        self._lib = lib
        self._filter = lib.SyscallFilter(lib.ALLOW)

    def refuse(self, *groups: str) -> None:
        for name in " ".join(groups).split():
            self.refuse_where(name)

    def refuse_where(self, name: str, *conditions: tuple[int, ...]) -> None:
        """Refuses the call whose arguments meet all (index, operator, value[, value])."""
        number = self._lib.resolve_syscall(self._lib.Arch.NATIVE, name)
        if number != -1:
            arguments = [self._lib.Arg(*condition) for condition in conditions]
            self._filter.add_rule(self._lib.ERRNO(errno.EPERM), number, *arguments)

    def refuse_young(self) -> None:
        for number in range(FIRST_YOUNG, LAST_YOUNG + 1):
            if number not in YOUNG:
                self._filter.add_rule(self._lib.ERRNO(errno.ENOSYS), number)

    def refuse_datagram_pairs(self) -> None:
        """A pair of stream sockets reaches itself alone; datagrams can be sent to other names."""
        for kind in (0, *range(2, 16)):
            self.refuse_where("socketpair", self._masked(1, 0xF, kind))

    def refuse_namespaces(self) -> None:
        for flag in _bits(_NEW):
            self.refuse_where("clone", self._masked(0, flag, flag))

    def refuse_new_processes(self) -> None:
        self.refuse_where("clone", self._masked(0, _THREAD, 0))

    def refuse_others_limits(self) -> None:
        self.refuse_where("prlimit64", (0, self._lib.NE, 0))

    def refuse_asking_for_signals(self) -> None:
        """Signals that the kernel sends to others for it, and keys typed into a terminal."""
        for command in (_SETOWN, _SETSIG, _SETOWN_EX):
            self.refuse_where("fcntl", (1, self._lib.EQ, command))
        for command in (_PUSH_INPUT, _SET_OWNER, _SET_GROUP):
            self.refuse_where("ioctl", self._masked(1, 0xFFFFFFFF, command))

    def refuse_writing(self) -> None:
        for name, index in (("open", 1), ("openat", 2)):
            for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC):
                self.refuse_where(name, self._masked(index, flag, flag))

    def program(self) -> bytes:
        """The filter as the kernel reads it."""
        descriptor = os.memfd_create("filter")
        with io.FileIO(descriptor, "r+") as file:
            self._filter.export_bpf(file)
            file.seek(0)
            return file.read()

    def _masked(self, index: int, mask: int, value: int) -> tuple[int, ...]:
        return (index, self._lib.MASKED_EQ, mask, value)


def _bits(flags: int) -> Iterator[int]:
    return (1 << i for i in range(32) if flags >> i & 1)
