"""`python -m r1_jax doctor`: names what is wrong with this installation and this machine.

Everything up to the check of the devices uses the standard library only (and `packaging`), so that
a broken jax cannot hide its own diagnosis; the dispatcher runs installation() before any command.
Written so that an older Python can read this file as far as being told that it is too old.
"""

import dataclasses
import glob
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

OLDEST_PYTHON = (3, 11)
MAKE_ENV = "run `make env`"
MAKE_ENV_TPU = "run `make env REQUIREMENTS=requirements/tpu.txt`"
INSTALL_CUDA = "run `.venv/bin/uv pip install --python .venv/bin/python -e '.[cuda]'`"
USE_CPU = "set JAX_PLATFORMS=cpu to leave it idle on purpose"
# CUDA 12.x and 13.x by minor-version compatibility (NVIDIA, "CUDA Compatibility", table 1)
OLDEST_DRIVER = {"jax-cuda12-plugin": (525, 60, 13), "jax-cuda13-plugin": (580,)}
GOOGLE_PCI_VENDOR = "0x1ae0"

DOC = """
Checks python, packages, jax against jaxlib and the accelerator's plug-in, libtpu, the driver, the
devices jax sees, and the free disk. One line each; after -> stands the way out. Exits with status 1
if there is a problem. JAX_PLATFORMS=cpu declares that accelerators of this machine are not wanted.
"""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked at, what was seen, and the way out of a problem."""

    subject: str
    seen: str
    way_out: str = ""
    is_problem: bool = False

    def line(self):
        """Returns the finding as one line of text."""
        way_out = " -> " + self.way_out if self.way_out else ""
        return "{:<8} {:<10} {}{}".format(
            "PROBLEM" if self.is_problem else "ok", self.subject, self.seen, way_out
        )


def main(argv):
    """Prints all findings; returns 1 if one of them is a problem, else 0."""
    found = installation()
    try:
        from r1_jax.cli import flagset
    except ImportError:  # without absl there are no flags to read: say what is missing
        return _show(found)
    parsed = flagset.parse(argv, DOC, _define_flags)
    found += [isolation(), libtpu(), *driver()]
    if not any(finding.is_problem for finding in found):
        found.append(devices(parsed.values.timeout_seconds))
    found.append(disk(parsed.values.workdir, parsed.values.min_free_gib))
    return _show(found)


def _define_flags(values):
    from absl import flags

    flags.DEFINE_string("workdir", ".", "directory that runs are written to", flag_values=values)
    flags.DEFINE_float("min_free_gib", 2.0, "GiB that must be free there", flag_values=values)
    flags.DEFINE_float(
        "timeout_seconds", 120.0, "how long jax may take to find its devices", flag_values=values
    )


def _show(found):
    for finding in found:
        print(finding.line())
    return int(any(finding.is_problem for finding in found))


def installation():
    """Returns the findings about python and the installed packages; imports none of them."""
    found = [python(sys.version_info)]
    if found[0].is_problem:
        return found
    try:
        import packaging.requirements  # noqa: F401
    except ImportError:
        return [*found, Finding("packages", "packaging is not installed", MAKE_ENV, True)]
    return [*found, *packages("r1_jax"), *packages("jax"), *plugins(), *lock_file()]


def python(version):
    """Returns the finding about Python's version. version: tuple like sys.version_info."""
    seen = ".".join(map(str, version[:3]))
    if tuple(version[:2]) >= OLDEST_PYTHON:
        return Finding("python", seen)
    needed = ".".join(map(str, OLDEST_PYTHON))
    way_out = f"install Python {needed} or newer and run `make env PYTHON=python{needed}`"
    return Finding("python", f"{seen} is older than {needed}", way_out, True)


def packages(name):
    """Returns findings about package `name`: its version, or each requirement that is not met."""
    version = installed(name)
    if version is None:
        is_ours = name == "r1_jax"  # runs from a clone, too
        return [Finding(name, "is not installed", MAKE_ENV, is_problem=not is_ours)]
    problems = unmet(importlib.metadata.requires(name) or (), installed)
    if problems:
        seen = [f"{version} needs {needed}; {seen}" for needed, seen in problems]
        return [Finding(name, text, MAKE_ENV, True) for text in seen]
    return [Finding(name, version)]


def installed(name):
    """Returns the version of the installed package `name`, None if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def unmet(requirements, version_of, extra=""):
    """Returns [(requirement, what is there)] of those `requirements` that are not met.

    requirements: strings as in a package's metadata; those of other extras than `extra` are passed
    over. version_of(name): the installed version, None if there is none.
    """
    from packaging import requirements as parse

    problems = []
    for text in requirements:
        requirement = parse.Requirement(text)
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": extra}):
            continue
        version = version_of(requirement.name)
        needed = requirement.name + str(requirement.specifier)
        if version is None:
            problems.append((needed, "it is not installed"))
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append((needed, f"{version} is installed"))
    return problems


def plugins():
    """Returns a problem for each CUDA plug-in of jax whose version is not jaxlib's."""
    jaxlib = installed("jaxlib")
    versions = {name: installed(name) for name in OLDEST_DRIVER}
    return [
        Finding(name, f"{version} does not fit jaxlib {jaxlib}", INSTALL_CUDA, True)
        for name, version in versions.items()
        if version is not None and version != jaxlib
    ]


def lock_file(folder=None):
    """Returns the finding about installed versions against the lock file; [] outside a clone.

    folder: of the lock files. Other versions than the locked ones are told, but are no problem.
    """
    folder = folder or pathlib.Path(__file__).parents[2] / "requirements"
    path = folder / ("tpu.txt" if installed("libtpu") else "cpu.txt")
    if not path.exists():
        return []
    other = [
        f"{name} {installed(name)} (locked: {version})"
        for name, version in locked(path.read_text()).items()
        if installed(name) not in (None, version)
    ]
    seen = f"other versions than {path.name}: {', '.join(other)}" if other else f"as in {path.name}"
    return [Finding("lock file", seen, MAKE_ENV if other else "")]


def locked(text):
    """Returns {name: version} of the lock file `text` for this Python and platform."""
    from packaging import markers

    versions = {}
    for name, version, marker in re.findall(r"(?m)^([\w.-]+)==(\S+)(?: ; (.*?))?(?: \\)?$", text):
        if not marker or markers.Marker(marker).evaluate():
            versions[name] = version
    return versions


def isolation():
    """Returns the finding about what programs of a model can be run in; never a problem by itself.

    Only code rewards run programs, and they refuse by themselves below sandbox.require.
    """
    from r1_jax.rewards import sandbox  # of a newer Python than this file

    reached = sandbox.level()
    if reached == "namespaces":
        return Finding("sandbox", reached)
    way_out = "install bubblewrap to grade programs nobody trusts"
    if reached == "limits":
        way_out += "; libseccomp2, to keep graders from network and processes"
    return Finding("sandbox", reached, way_out)


def wants_cpu():
    """Returns whether JAX_PLATFORMS says that accelerators are not wanted."""
    return os.environ.get("JAX_PLATFORMS", "").lower() == "cpu"


def tpu_chips(root="/"):
    """Returns (number of TPU chips on the PCI bus, number of their device files) under `root`."""
    vendors = glob.glob(os.path.join(root, "sys/bus/pci/devices/*/vendor"))
    chips = sum(pathlib.Path(path).read_text().strip() == GOOGLE_PCI_VENDOR for path in vendors)
    accel = glob.glob(os.path.join(root, "dev/accel*"))
    vfio = glob.glob(os.path.join(root, "dev/vfio/[0-9]*")) if chips else []  # others use vfio, too
    return chips, len(accel) + len(vfio)


def libtpu(root="/"):
    """Returns the finding about TPU chips and libtpu. root: of the file system."""
    version = installed("libtpu")
    chips, files = tpu_chips(root)
    if not chips and not files:
        return Finding("libtpu", "no TPU here" + (f" (libtpu {version})" if version else ""))
    seen = f"{chips or files} TPU chips"
    if wants_cpu():
        return Finding("libtpu", seen + ", idle: JAX_PLATFORMS=cpu")
    if not files:
        way_out = "give the container its devices (docker run --privileged), or " + USE_CPU
        return Finding("libtpu", f"{seen}, but no /dev/accel* or /dev/vfio/*", way_out, True)
    if version is None:
        return Finding("libtpu", f"{seen}, no libtpu", f"{MAKE_ENV_TPU}, or {USE_CPU}", True)
    wanted = [r for r in importlib.metadata.requires("jax") or () if r.startswith("libtpu")]
    for needed, there in unmet(wanted, installed, extra="tpu"):
        text = f"jax {installed('jax')} needs {needed}; {there}"
        return Finding("libtpu", text, MAKE_ENV_TPU, True)
    return Finding("libtpu", f"{version}, {seen}")


def driver(root="/"):
    """Returns the findings about NVIDIA's driver; [] where there is no GPU. root: of the files."""
    has_gpu = os.path.exists(os.path.join(root, "dev/nvidia0"))
    if not has_gpu and shutil.which("nvidia-smi") is None:
        return []
    version = driver_version(root)
    if version is None:
        way_out = "see that `nvidia-smi` works, or " + USE_CPU
        seen = "a GPU or nvidia-smi is here, but no driver answers"
        return [Finding("driver", seen, way_out, not wants_cpu())]
    if wants_cpu():
        return [Finding("driver", f"{version}, GPU idle: JAX_PLATFORMS=cpu")]
    there = [name for name in OLDEST_DRIVER if installed(name) is not None]
    if not there:
        way_out = f"{INSTALL_CUDA}, or {USE_CPU}"
        return [Finding("driver", f"{version}, but jax has no CUDA plug-in", way_out, True)]
    return [fits_driver(name, version) for name in there]


def fits_driver(plugin, version):
    """Returns the finding about a driver's `version` ("580.65.06") under the plug-in `plugin`."""
    oldest = OLDEST_DRIVER[plugin]
    if tuple(map(int, version.split("."))) >= oldest:
        return Finding("driver", f"{version}, {plugin} {installed(plugin)}")
    needed = ".".join(map(str, oldest))
    way_out = "install a newer driver" + (" or jax[cuda12]" if "13" in plugin else "")
    return Finding("driver", f"{version} is older than {plugin}'s {needed}", way_out, True)


def driver_version(root="/"):
    """Returns the version of NVIDIA's driver as a string, None if no driver answers."""
    path = pathlib.Path(root, "proc/driver/nvidia/version")
    text = path.read_text() if path.exists() else ""
    if not text and shutil.which("nvidia-smi"):
        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            text = subprocess.run(ask, capture_output=True, text=True, timeout=30).stdout
        except subprocess.TimeoutExpired:
            return None
    match = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", text)
    return match.group() if match else None


_ASK_JAX = """
import json, jax
print(json.dumps([jax.default_backend(), jax.local_device_count(), jax.devices()[0].device_kind]))
"""


def devices(timeout_seconds):
    """Returns the finding about the devices jax sees, asked in a child: it may hang or die."""
    try:
        ask = [sys.executable, "-c", _ASK_JAX]
        child = subprocess.run(ask, capture_output=True, text=True, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        seen = f"jax found no devices within {timeout_seconds:g} s"
        way_out = (
            "end other users of the chips; on a slice of several hosts run this on all of them"
        )
        return Finding("devices", seen, way_out, True)
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        platforms = os.environ.get("JAX_PLATFORMS", "")
        way_out = f"JAX_PLATFORMS={platforms!r}; unset it or name what is here" if platforms else ""
        return Finding(
            "devices", last, way_out or "see `python -c 'import jax; jax.devices()'`", True
        )
    platform, count, kind = json.loads(child.stdout.strip().splitlines()[-1])
    return Finding("devices", f"{count} {platform}: {kind}")


def disk(workdir, min_free_gib):
    """Returns the finding about the disk that holds `workdir`, which need not exist yet."""
    path = pathlib.Path(workdir).absolute()
    while not path.exists():
        path = path.parent
    free_gib = shutil.disk_usage(path).free / 2**30
    seen = f"{free_gib:.1f} GiB free at {path}"
    if not os.access(path, os.W_OK):
        return Finding("disk", f"{path} is not writable", "choose another --workdir", True)
    if free_gib < min_free_gib:
        way_out = f"free {min_free_gib - free_gib:.1f} GiB or choose another --workdir"
        return Finding("disk", seen, way_out, True)
    return Finding("disk", seen)
