"""doctor: each mismatch of an installation or a machine is named, with its way out."""

import importlib.metadata
import json
import pathlib
import subprocess
import sys
import types

import pytest

from r1_jax.cli import doctor, main
from r1_jax.rewards import sandbox


@pytest.fixture
def versions(monkeypatch):
    """Returns a dict of installed versions that stands in for this environment's."""
    table = {"jax": "0.10.2", "jaxlib": "0.10.2", "r1_jax": "0.1.0", "numpy": "2.4.6"}
    needs = {
        "jax": ["jaxlib<=0.10.2,>=0.10.1", "numpy>=2.0", 'libtpu==0.0.42.*; extra == "tpu"'],
        "r1_jax": ["jax>=0.10.2", 'pytest; extra == "dev"', 'x; python_version < "3"'],
    }
    monkeypatch.setattr(doctor, "installed", lambda name: table.get(name))
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs[name])
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    return table


def _machine(root, chips=0, accel=0, vfio=0, nvidia="", has_nvidia_device=False):
    """Writes the files by which a machine with such devices is known, under `root`."""
    for i in range(chips):
        vendor = root / f"sys/bus/pci/devices/{i}/vendor"
        vendor.parent.mkdir(parents=True)
        vendor.write_text("0x1ae0\n")
    (root / "dev/vfio").mkdir(parents=True)
    (root / "dev/vfio/vfio").touch()
    for i in range(accel):
        (root / f"dev/accel{i}").touch()
    for i in range(vfio):
        (root / f"dev/vfio/{i}").touch()
    if has_nvidia_device:
        (root / "dev/nvidia0").touch()
    if nvidia:
        path = root / "proc/driver/nvidia/version"
        path.parent.mkdir(parents=True)
        path.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {nvidia}  Tue\n")
    return root


def test_this_environment_is_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert doctor.main(["doctor", f"--workdir={tmp_path}/new/run", "--min_free_gib=0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if "lock" not in line][:3] == [
        "python", "r1_jax", "jax",
    ]  # fmt: skip
    assert "devices    1 cpu: cpu" in lines[-2]
    assert f"GiB free at {tmp_path}" in lines[-1]


def test_an_old_python_is_named():
    finding = doctor.python((3, 10, 4, "final", 0))
    assert finding.is_problem
    assert finding.line() == (
        "PROBLEM  python     3.10.4 is older than 3.11"
        " -> install Python 3.11 or newer and run `make env PYTHON=python3.11`"
    )
    assert not doctor.python((3, 12, 0)).is_problem


def test_an_installation_in_order_has_no_problem(versions):
    assert not any(finding.is_problem for finding in doctor.installation())


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"jaxlib": "0.10.0"}, "jax        0.10.2 needs jaxlib<=0.10.2,>=0.10.1; 0.10.0 is"),
        ({"jaxlib": None}, "jax        0.10.2 needs jaxlib<=0.10.2,>=0.10.1; it is not"),
        ({"jax": "0.4.30"}, "r1_jax     0.1.0 needs jax>=0.10.2; 0.4.30 is installed"),
        ({"jax": None}, "jax        is not installed"),
        ({"jax-cuda12-plugin": "0.10.1"}, "jax-cuda12-plugin 0.10.1 does not fit jaxlib 0.10.2"),
    ],
)
def test_a_mismatch_of_packages_is_named(changed, line, versions):
    versions.update(changed)
    problems = [finding for finding in doctor.installation() if finding.is_problem]
    assert any(line in problem.line() and problem.way_out for problem in problems)


def test_a_clone_that_is_not_installed_is_told_but_runs(versions):
    versions["r1_jax"] = None
    (finding,) = doctor.packages("r1_jax")
    assert not finding.is_problem and "make env" in finding.line()


def test_versions_other_than_the_locked_ones_are_told(versions, tmp_path):
    (tmp_path / "cpu.txt").write_text(
        "# comment\n"
        "jax==0.10.2 ; python_full_version >= '3.11' \\\n    --hash=sha256:00\n    # via r1-jax\n"
        "jax==9.9.9 ; python_full_version < '3.11' \\\n    --hash=sha256:00\n"
        "numpy==2.4.5 \\\n    --hash=sha256:00\n"
        "absent==1.0 \\\n    --hash=sha256:00\n"
    )
    (tmp_path / "tpu.txt").write_text("numpy==2.4.6 \\\n    --hash=sha256:00\n")
    (finding,) = doctor.lock_file(tmp_path)
    assert finding.seen == "other versions than cpu.txt: numpy 2.4.6 (locked: 2.4.5)"
    assert not finding.is_problem
    versions["libtpu"] = "0.0.42.1"
    (finding,) = doctor.lock_file(tmp_path)
    assert finding.seen == "as in tpu.txt"


def test_the_lock_files_are_read_whole():
    folder = pathlib.Path(doctor.__file__).parents[2] / "requirements"
    for name in ("cpu.txt", "tpu.txt"):
        text = (folder / name).read_text()
        always = {n for n in text.splitlines() if n[:1].isalpha() and ";" not in n}
        assert {line.split("==")[0] for line in always} <= set(doctor.locked(text))
        assert {"jax", "jaxlib", "flax", "pytest"} <= set(doctor.locked(text))


@pytest.mark.parametrize(
    ("machine", "libtpu", "cpu", "is_problem", "seen"),
    [
        ({}, None, False, False, "no TPU here"),
        ({"vfio": 2}, None, False, False, "no TPU here"),  # somebody else's vfio groups
        ({"chips": 4, "vfio": 4}, "0.0.42.1", False, False, "0.0.42.1, 4 TPU chips"),
        ({"accel": 4}, "0.0.42.1", False, False, "0.0.42.1, 4 TPU chips"),
        ({"chips": 4, "vfio": 4}, None, False, True, "4 TPU chips, no libtpu"),
        ({"chips": 4, "vfio": 4}, None, True, False, "4 TPU chips, idle: JAX_PLATFORMS=cpu"),
        ({"chips": 4}, "0.0.42.1", False, True, "but no /dev/accel* or /dev/vfio/*"),
        ({"accel": 1}, "0.0.41", False, True, "jax 0.10.2 needs libtpu==0.0.42.*; 0.0.41 is"),
    ],
)
def test_libtpu(machine, libtpu, cpu, is_problem, seen, versions, tmp_path, monkeypatch):
    versions["libtpu"] = libtpu
    if cpu:
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    finding = doctor.libtpu(_machine(tmp_path, **machine))
    assert finding.is_problem == is_problem
    assert seen in finding.seen
    assert bool(finding.way_out) == is_problem


@pytest.mark.parametrize(
    ("driver", "plugin", "cpu", "is_problem", "seen"),
    [
        ("580.65.06", "jax-cuda12-plugin", False, False, "580.65.06, jax-cuda12-plugin 0.10.2"),
        ("525.60.13", "jax-cuda12-plugin", False, False, "525.60.13, jax-cuda12-plugin 0.10.2"),
        ("525.60.11", "jax-cuda12-plugin", False, True, "older than jax-cuda12-plugin's 525.60.13"),
        ("570.1", "jax-cuda13-plugin", False, True, "570.1 is older than jax-cuda13-plugin's 580"),
        ("580.65.06", None, False, True, "580.65.06, but jax has no CUDA plug-in"),
        ("580.65.06", None, True, False, "580.65.06, GPU idle: JAX_PLATFORMS=cpu"),
        ("", "jax-cuda12-plugin", False, True, "no driver answers"),
    ],
)
def test_driver(driver, plugin, cpu, is_problem, seen, versions, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    if cpu:
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    if plugin:
        versions[plugin] = "0.10.2"
    root = _machine(tmp_path, nvidia=driver, has_nvidia_device=True)
    (finding,) = doctor.driver(root)
    assert finding.is_problem == is_problem
    assert seen in finding.seen
    assert bool(finding.way_out) == is_problem


def test_a_driver_is_asked_through_nvidia_smi_where_proc_is_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    answer = types.SimpleNamespace(stdout="570.124.06\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: answer)
    assert doctor.driver_version(tmp_path) == "570.124.06"


def test_a_machine_without_a_gpu_has_no_driver_line(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.driver(_machine(tmp_path)) == []


@pytest.mark.parametrize(
    ("program", "is_problem", "seen"),
    [
        ("print('noise'); print('[\"tpu\", 4, \"TPU v5e\"]')", False, "4 tpu: TPU v5e"),
        ("raise RuntimeError('Unable to initialize backend')", True, "Unable to initialize"),
        ("import time; time.sleep(60)", True, "found no devices within 1 s"),
        ("import os; os._exit(3)", True, "exit status 3"),
    ],
)
def test_devices(program, is_problem, seen, monkeypatch):
    monkeypatch.setattr(doctor, "_ASK_JAX", program)
    finding = doctor.devices(timeout_seconds=1 if "sleep" in program else 60)
    assert finding.is_problem == is_problem
    assert seen in finding.seen
    assert bool(finding.way_out) == is_problem


def test_disk(tmp_path, monkeypatch):
    assert not doctor.disk(tmp_path / "a/b", 0.001).is_problem
    full = doctor.disk(tmp_path, 1e9)
    assert full.is_problem and "GiB free" in full.seen and full.way_out.startswith("free ")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)  # root may write anywhere
    sealed = doctor.disk(tmp_path, 0)
    assert sealed.is_problem and f"{tmp_path} is not writable" in sealed.seen


def test_the_devices_are_not_asked_of_a_broken_installation(versions, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "devices", lambda timeout: pytest.fail("jax was started"))
    versions["jaxlib"] = "0.10.0"
    assert doctor.main(["doctor"]) == 1
    assert "PROBLEM  jax " in capsys.readouterr().out


def test_other_commands_refuse_a_broken_installation_and_import_nothing(versions, capsys):
    versions["jaxlib"] = "0.10.0"
    with pytest.raises(SystemExit) as stop:
        main.main(["train"])
    assert stop.value.code == 1
    assert "needs jaxlib<=0.10.2,>=0.10.1; 0.10.0 is installed" in capsys.readouterr().err


def test_the_installation_is_judged_without_importing_it():
    code = (
        "import json, sys; from r1_jax.cli import doctor; doctor.installation();"
        "print(json.dumps(sorted({'jax', 'numpy', 'flax', 'absl'} & set(sys.modules))))"
    )
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(child.stdout) == []


def test_the_sandbox_s_level_is_told_and_no_problem(monkeypatch):
    for level, way_out in (("namespaces", False), ("seccomp", True), ("limits", True)):
        monkeypatch.setattr(sandbox, "level", lambda level=level: level)
        found = doctor.isolation()
        assert (found.seen, bool(found.way_out), found.is_problem) == (level, way_out, False)
