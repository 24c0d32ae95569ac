"""The filters by what they are made of; what they hold is tested in test_sandbox and test_pool."""

import platform

import pytest

from r1_jax.rewards import syscalls

pytestmark = pytest.mark.skipif(syscalls.library() is None, reason="needs libseccomp")
GROUPS = [name for name in vars(syscalls) if name.isupper() and not name.startswith("_")]
ABSENT = {"umount", "lookup_dcookie"}  # of some machines and some kernels


def test_every_name_is_a_system_call():
    """A name that was mistyped would be passed over."""
    lib = syscalls.library()
    names = {
        name
        for group in GROUPS
        if isinstance(text := getattr(syscalls, group), str)
        for name in text.split()
    }
    assert len(names) > 80
    unknown = {name for name in names if lib.resolve_syscall(lib.Arch.NATIVE, name) == -1}
    assert unknown <= ABSENT


def test_young_calls_that_stay_are_those_that_are_meant():
    lib = syscalls.library()
    for number, name in syscalls.YOUNG.items():
        assert lib.resolve_syscall(lib.Arch.NATIVE, name) in (number, -1)  # -1: younger than it


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls have other numbers elsewhere")
def test_filters_differ_by_what_they_leave_open():
    held, alone = (syscalls.of_program(is_alone=is_alone) for is_alone in (False, True))
    assert held and alone and len(held) % 8 == len(alone) % 8 == 0
    assert len(alone) > len(held)
    found = {
        syscalls.of_grader(network=network, processes=processes)
        for network in (False, True)
        for processes in (False, True)
    }
    assert len(found) == 4


def test_without_the_library_there_is_no_filter(monkeypatch):
    monkeypatch.setattr(syscalls, "library", lambda: None)
    assert syscalls.of_program.__wrapped__(is_alone=True) is None
    assert syscalls.of_grader(network=False, processes=False) is None
