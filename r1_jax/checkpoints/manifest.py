"""manifest.json of a run: from which code, versions, devices, seed and config it came."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import jax

from r1_jax.checkpoints import atomic

PACKAGES = (
    "jax jaxlib flax optax orbax-checkpoint numpy grain tensorflow-datasets sentencepiece "
    "reasoning-gym ml_collections safetensors libtpu"
).split()
"""Distributions that can change a run's numbers; the absent ones are left out of a manifest."""


def git_commit(source: str | os.PathLike[str] = __file__) -> tuple[str, bool]:
    """(commit hash, whether tracked files differ from it) of the checkout that holds `source`.

    ("unknown", False) when `source` is in no checkout, is not tracked there (an installed copy
    below somebody's repository is not that repository's commit), or git does not run.
    """
    source = pathlib.Path(source).resolve()
    try:
        _git(source.parent, "ls-files", "--error-unmatch", source.name)
        commit = _git(source.parent, "rev-parse", "HEAD").strip()
        changes = _git(source.parent, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown", False
    return commit, bool(changes.strip())


def _git(directory: pathlib.Path, *args: str) -> str:
    return subprocess.run(
        ["git", "-C", str(directory), *args],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256, hex, of a JSON-able config; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def collect(
    *,
    seed: int,
    config: Mapping[str, Any],
    parents: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The manifest of a run as a JSON-able dict; asks jax for its devices.

    config: the resolved config as plain nested dicts; only its digest is kept.
    parents: what the run started from, name -> digest or commit (base weights, tokenizer, data).
    seconds: wall seconds per phase, over all starts of the run.
    """
    commit, dirty = git_commit()
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    devices = jax.devices()
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": versions,
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
            "cpus": os.cpu_count(),
        },
        "seed": seed,
        "config_digest": config_digest(config),
        "parents": dict(parents),
        "seconds": {name: round(float(value), 3) for name, value in seconds.items()},
    }


def write(path: str | os.PathLike[str], manifest: Mapping[str, Any]) -> None:
    """Writes `manifest` to `path` as indented JSON, atomically. One process of a program calls."""
    atomic.write(path, (json.dumps(manifest, indent=2) + "\n").encode())


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest at `path`. Raises ValueError, naming the file, if it is absent or damaged."""
    try:
        manifest = json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no manifest there; give a run's directory/manifest.json"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}); the run writes it anew when resumed"
        ) from None
    if not isinstance(manifest, dict):
        raise ValueError(f"{path} holds a {type(manifest).__name__}, not a manifest")
    return manifest
