"""The dispatcher: finds the command, imports nothing else, names the nearest one."""

import os
import pathlib
import subprocess
import sys
import types

import pytest

from r1_jax.cli import main


def test_help_lists_every_command_with_its_purpose(capsys):
    main.main(["--help"])
    out = capsys.readouterr().out
    for name, purpose in main.COMMANDS.items():
        assert f"{name} " in out and purpose in out


def test_commands_are_the_modules_of_the_room():
    files = pathlib.Path(main.__file__).parent.glob("*.py")
    modules = {path.stem for path in files if "def main(argv)" in path.read_text()}
    assert modules == set(main.COMMANDS)


def test_the_command_gets_its_name_and_its_own_words(monkeypatch):
    seen = []
    module = types.SimpleNamespace(main=lambda argv: seen.append(argv))
    monkeypatch.setitem(sys.modules, "r1_jax.cli.report", module)
    with pytest.raises(SystemExit) as stop:
        main.main(["report", "runs/a", "--flag=1"])
    assert not stop.value.code
    assert seen == [["python -m r1_jax report", "runs/a", "--flag=1"]]


def test_the_exit_status_is_the_command_s(monkeypatch):
    module = types.SimpleNamespace(main=lambda argv: 3)
    monkeypatch.setitem(sys.modules, "r1_jax.cli.doctor", module)
    with pytest.raises(SystemExit) as stop:
        main.main(["doctor"])
    assert stop.value.code == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["xyzzy"], "unknown command 'xyzzy'; the commands are train, sft, pretrain"),
        ([], "usage: python -m r1_jax <command>"),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_dispatcher_imports_no_jax():
    code = (
        "import sys; from r1_jax.cli import main; main.main(['--help']);"
        "heavy = {'jax', 'numpy', 'flax', 'absl'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_compiled_programs_are_kept_where_the_user_says_or_in_the_user_s_cache(monkeypatch):
    names = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
    seen = []
    module = types.SimpleNamespace(main=lambda argv: seen.append([os.environ[n] for n in names]))
    monkeypatch.setitem(sys.modules, "r1_jax.cli.report", module)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    for name, given in zip(names, ("/mine", "5"), strict=True):
        monkeypatch.setenv(name, given)
    with pytest.raises(SystemExit):
        main.main(["report"])
    for name in names:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main.main(["report"])
    assert seen == [["/mine", "5"], ["/somewhere/r1_jax/jit", "0"]]  # "0": small ones too


def test_a_command_s_memory_is_in_large_pages_unless_told_otherwise():
    """As the process itself sees it: what its environment was when it began."""
    code = (
        "import os, pathlib, sys; sys.argv[1:] = ['help']\n"
        "import r1_jax.cli.main as m; began = pathlib.Path('/proc/self/environ').read_bytes()\n"
        "m.main = lambda: print(os.getpid(), began.count(b'glibc.malloc.hugetlb=1'))\n"
        "import runpy; runpy.run_module('r1_jax', run_name='__main__')"
    )
    clean = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    for given, expected in (({}, "1"), ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "0")):
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=clean | given, stdout=subprocess.PIPE, text=True
        )
        assert child.communicate()[0].split() == [str(child.pid), expected]
        assert child.returncode == 0
