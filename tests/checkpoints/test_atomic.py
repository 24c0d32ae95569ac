"""A file is the old one or the new one."""

import errno
import os

import pytest

from r1_jax.checkpoints import atomic


def test_writes_creates_directories_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "x.json"
    atomic.write(path, b"one")
    atomic.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, name):
    path = tmp_path / "x.json"
    atomic.write(path, b"one")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, full)
    with pytest.raises(OSError, match=r"No space left on device; .* as it was before: .*x\.json"):
        atomic.write(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]
