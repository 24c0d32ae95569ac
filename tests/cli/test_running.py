"""How a command ends that was told to."""

import os
import signal

import pytest

from r1_jax.cli import running
from r1_jax.core import interrupt


def test_an_interrupted_run_has_a_status_of_its_own_and_says_what_it_kept(capfd):
    with pytest.raises(SystemExit) as end, running.guarded():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.is_asked()
        raise interrupt.Interrupted("step 3 of 9 is kept in runs/x")
    assert end.value.code == 75
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == "interrupted: step 3 of 9 is kept in runs/x; the same command goes on"
