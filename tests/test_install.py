"""The lock files are whole, for both Pythons, and say nothing of where they were made."""

import ast
import os
import pathlib
import re
import subprocess

import pytest
from packaging import markers, requirements

ROOT = pathlib.Path(__file__).parents[1]


def _setup():
    """Returns the keyword arguments of setup.py's call, as {name: literal}."""
    calls = ast.walk(ast.parse((ROOT / "setup.py").read_text()))
    keywords = [c for c in calls if isinstance(c, ast.keyword)]
    wanted = ("install_requires", "extras_require", "python_requires")
    return {c.arg: ast.literal_eval(c.value) for c in keywords if c.arg in wanted}


def _locked(name, python):
    """Returns {package: version} of a lock file under `python` ("3.11") on Linux."""
    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    text = (ROOT / "requirements" / name).read_text()
    found = re.findall(r"(?m)^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", text)
    return {
        package: version
        for package, version, marker in found
        if not marker or markers.Marker(marker).evaluate(here)
    }


@pytest.mark.parametrize("name", ["uv.txt", "cpu.txt", "tpu.txt", "interop.txt"])
def test_every_package_is_hashed_and_no_address_is_inside(name):
    text = (ROOT / "requirements" / name).read_text()
    entries = [entry for entry in re.split(r"(?m)^(?=[\w])", text) if not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert "==" in entry and "--hash=sha256:" in entry, entry
    assert not re.search("/|index|find-links", text)  # no address, no path


@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize(
    ("name", "extras"),
    [("cpu.txt", ["dev"]), ("tpu.txt", ["dev", "tpu"]), ("interop.txt", ["dev", "interop"])],
)
def test_the_lock_files_meet_what_setup_declares(name, extras, python):
    locked, setup = _locked(name, python), _setup()
    declared = list(setup["install_requires"])
    for extra in extras:
        declared += setup["extras_require"][extra]
    for text in declared:
        requirement = requirements.Requirement(text)
        if requirement.name == "torch":  # which build, CPU's or CUDA's, is its index' to say
            assert str(requirement.specifier).startswith("==")
            continue
        version = locked[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version), (text, version)
    assert ("libtpu" in locked) == ("tpu" in extras)
    assert locked["jax"] == locked["jaxlib"]
    assert not {"tensorflow", "torch", "triton"} & locked.keys()
    assert not any(name.startswith("nvidia") for name in locked)


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_parity_is_tested_with_the_packages_of_everybody_else(python):
    everybody, parity = _locked("cpu.txt", python), _locked("interop.txt", python)
    assert everybody.items() < parity.items() and "transformers" in parity


def test_ci_installs_what_parity_tests_need_and_runs_them():
    words = (ROOT / ".ci" / "run").read_text()
    assert "REQUIREMENTS=requirements/interop.txt" in words
    assert re.search(r"make test PYTEST_FLAGS=.-m \"not \(((?!hf|kill|browser).)*\)\"", words)
    made = subprocess.run(
        ["make", "-n", "-B", "env", "REQUIREMENTS=requirements/interop.txt"],
        cwd=ROOT, check=True, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))},
    ).stdout  # fmt: skip
    assert "--require-hashes -r requirements/interop.txt" in made
    assert made.splitlines()[-2].endswith("-e '.[interop]'")


def test_python_3_11_stays_at_its_last_jax_and_3_12_goes_on():
    assert _locked("cpu.txt", "3.11")["jax"] == "0.10.2"
    assert tuple(map(int, _locked("cpu.txt", "3.12")["jax"].split("."))) > (0, 10, 2)


@pytest.mark.parametrize(
    ("words", "workdir"),
    [
        ([], "runs/quickstart"),
        (["SEED=2"], "runs/quickstart_seed2"),
        (["SEED=2", "WORKDIR=/x"], "/x"),
    ],
)
def test_quickstart_is_doctor_train_report(words, workdir):
    """`make -n` prints the commands; the environment's own stand before them if it is not made."""
    command = ["make", "-n", "quickstart", *words]
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    out = subprocess.run(
        command, cwd=ROOT, env=outside, check=True, capture_output=True, text=True
    ).stdout
    seed = next((word.removeprefix("SEED=") for word in words if "SEED" in word), "0")
    assert out.splitlines()[-3:] == [
        ".venv/bin/python -m r1_jax doctor",
        ".venv/bin/python -m r1_jax train --config=configs/r1_zero_countdown.py"
        f" --config.seed={seed} --workdir={workdir}",
        f".venv/bin/python -m r1_jax report {workdir}",
    ]
