"""Imports in r1_jax/ agree with the drawing: down only, no neighbours, modules and not names."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "r1_jax"
PLAN = """
5  cli
4  pipeline
3  training      evaluation
2  data   sampling   interop   reports
1  models   text   rl   rewards   checkpoints   metrics
0  core   sharding
"""
FLOOR = {
    room: int(line.split()[0]) for line in PLAN.strip().splitlines() for room in line.split()[1:]
}
ONLY_IN = {  # third-party module or package -> the rooms or files that may import it
    "orbax": {"checkpoints/store.py"},
    "flax": {"models", "sharding"},
    "absl.flags": {"cli"},
    "absl.app": {"cli"},
    "ml_collections": {"cli"},
    "torch": set(),
    "transformers": set(),
    "tensorflow": set(),
}

ROOM_TESTS = {  # what a whole room does, in no one module
    "bench/test_bench.py",  # the scripts in bench/
    "checkpoints/test_bucket.py",  # the store where nothing can be renamed
    "launch/test_launch.py",  # the scripts in launch/
    "launch/test_manifests.py",  # its files for other engines
    "interop/test_mtp.py",  # the layer of multi-token prediction in files, config and conversion
    "pipeline/test_bases.py",  # the files in bases/
    "pipeline/test_configs.py",  # the files in configs/
    "pipeline/test_handed_back.py",  # a model comes in, is trained and goes back
    "reports/test_browser.py",
    "rewards/test_hostile.py",  # every reward against the same completions
    "rewards/test_hostile_programs.py",
    "rewards/test_hostile_reasoning_gym.py",
    "training/test_filtered.py",
}


def violations(path, text):
    """Returns what is wrong with the imports of file `path` (relative to r1_jax/), as strings."""
    room = path.parts[0]
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.append(
                    f"line {node.lineno}: relative import; write `from r1_jax.room import x`"
                )
                continue
            modules = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in modules:
            found += [f"line {node.lineno}: {what}" for what in _judge(path, room, module, name)]
    return found


def _judge(path, room, module, name):
    parts = module.split(".")
    if parts[0] != "r1_jax":
        imported = f"{module}.{name}."
        for guarded, allowed in ONLY_IN.items():
            if imported.startswith(f"{guarded}.") and not {room, path.as_posix()} & allowed:
                yield f"{guarded} is imported only by {sorted(allowed)}"
        return
    if name is None:
        yield f"import {module}; write `from {'.'.join(parts[:-1])} import {parts[-1]}`"
        return
    target = [*parts[1:], name]
    base = PACKAGE.joinpath(*target)
    if not (base.with_suffix(".py").exists() or base.is_dir()):
        yield f"{module}.{name} is a name and not a module"
        return
    if len(path.parts) == 1:
        return  # r1_jax/__main__.py belongs to no room
    if len(target) == 1:
        yield f"{name} is a room; import one of its modules"
        return
    if target[0] != room and FLOOR[target[0]] >= FLOOR[room]:
        where = "beside" if FLOOR[target[0]] == FLOOR[room] else "above"
        yield f"{target[0]} is {where} {room}; imports go down only"


def _third_party(text):
    """Returns the top-level names of the modules imported by `text` from outside, as a set."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"r1_jax"}


def _declared():
    """Returns the names of the packages that setup.py says are needed to run."""
    calls = ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    (listed,) = (
        c.value for c in calls if isinstance(c, ast.keyword) and c.arg == "install_requires"
    )
    return {_plain(re.split(r"[<>=\[]", text)[0]) for text in ast.literal_eval(listed)}


def _plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _sources():
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", _sources(), ids=str)
def test_imports_agree_with_the_plan(path):
    assert violations(path, (PACKAGE / path).read_text()) == []


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    packages = importlib.metadata.packages_distributions()
    imported = set()
    for path in _sources():
        for name in _third_party((PACKAGE / path).read_text()):
            imported |= {_plain(package) for package in packages.get(name, [name])}
    # tfds reads and writes array_record files without our naming the package
    assert imported | {"array-record"} == _declared()


def test_the_plan_names_the_rooms_that_exist():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(FLOOR)
    assert PLAN.strip() in (PACKAGE / "__init__.py").read_text()


@pytest.mark.parametrize("path", [p for p in _sources() if p.name == "__init__.py"], ids=str)
def test_a_card_says_what_lives_here_and_holds_no_code(path):
    tree = ast.parse((PACKAGE / path).read_text())
    card = ast.get_docstring(tree)
    assert card and len(tree.body) == 1
    if len(path.parts) > 1:
        for line in ("Lives here:", "May import:", "Never touches:"):
            assert line in card
        if len(path.parts) == 2:
            assert card.startswith(f"Floor {FLOOR[path.parts[0]]}: ")


@pytest.mark.parametrize("path", [p for p in _sources() if p.name != "__init__.py"], ids=str)
def test_a_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse((PACKAGE / path).read_text()))


def test_every_test_file_mirrors_a_module():
    tests = ROOT / "tests"
    stray = []
    for path in sorted(tests.glob("*/**/test_*.py")):
        inside = path.relative_to(tests)
        mirrored = inside.with_name(path.name.removeprefix("test_"))
        is_mirror = (PACKAGE / mirrored).exists() or (
            tests / mirrored
        ).exists()  # golden/ has its own
        if not is_mirror and inside.as_posix() not in ROOM_TESTS:
            stray.append(inside.as_posix())
    assert not stray


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        ("core/keys.py", "from r1_jax.models import config", "models is above core"),
        ("core/keys.py", "from r1_jax.sharding import axes", "sharding is beside core"),
        ("rl/kl.py", "def f():\n  from r1_jax.cli import main", "cli is above rl"),
        ("rl/kl.py", "from r1_jax.core.masked import mean", "is a name and not a module"),
        ("rl/kl.py", "import r1_jax.core.masked", "write `from r1_jax.core import masked`"),
        ("rl/kl.py", "from . import advantages", "relative import"),
        ("rl/kl.py", "from r1_jax import core", "core is a room"),
        ("rl/kl.py", "import flax.linen as nn", "flax is imported only by"),
        ("checkpoints/manifest.py", "from orbax import checkpoint", "orbax is imported only by"),
        ("pipeline/r1.py", "from absl import app", "absl.app is imported only by"),
        ("core/keys.py", "import absl.flags", "absl.flags is imported only by"),
        ("models/hf.py", "import torch", "torch is imported only by []"),
    ],
)
def test_each_rule_catches_its_breach(path, text, what):
    (found,) = violations(pathlib.Path(path), text)
    assert what in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("rl/kl.py", "from r1_jax.core import masked, types"),
        ("core/keys.py", "from r1_jax.core import trees"),
        ("cli/main.py", "from r1_jax.core import build\nfrom absl import flags"),
        ("checkpoints/store.py", "import orbax.checkpoint"),
        ("models/layers.py", "from flax import linen as nn"),
        ("pipeline/r1.py", "from absl import logging"),
    ],
)
def test_what_the_plan_allows_passes(path, text):
    assert violations(pathlib.Path(path), text) == []


WITHOUT = """
import importlib, pkgutil, sys
for name in ("tensorflow_datasets", "grain", "ml_collections"):
    sys.modules[name] = None  # importing it raises
for room in ("sampling", "training"):
    package = importlib.import_module(f"r1_jax.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"r1_jax.{room}."):
        importlib.import_module(module.name)
"""


def test_sampling_and_training_import_where_input_and_configuration_are_not_installed():
    def run(text):
        command = [sys.executable, "-c", text]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = run(WITHOUT)
    assert done.returncode == 0, done.stderr
    refused = run(WITHOUT + "import r1_jax.cli.flagset")
    assert "import of ml_collections halted" in refused.stderr  # so they would be missed
