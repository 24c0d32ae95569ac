"""SIGTERM is remembered inside the block, and only there."""

import os
import signal
import subprocess
import sys

from r1_jax.core import interrupt


def test_a_signal_is_remembered_until_the_block_ends_and_announced_once(capfd):
    before = signal.getsignal(signal.SIGTERM)
    assert not interrupt.is_asked()
    with interrupt.heeded():
        assert not interrupt.is_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.is_asked()
    assert not interrupt.is_asked()
    assert signal.getsignal(signal.SIGTERM) is before
    assert capfd.readouterr().err.count("saves and ends") == 1
    with interrupt.heeded():
        assert not interrupt.is_asked()


def test_a_second_signal_kills():
    code = (
        "import os, signal\n"
        "from r1_jax.core import interrupt\n"
        "with interrupt.heeded():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGTERM
