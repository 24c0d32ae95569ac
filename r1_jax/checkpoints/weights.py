"""One small file of weights to ship or to hand on: safetensors with its manifest inside."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from r1_jax.checkpoints import atomic
from r1_jax.core import trees

REQUIRED = ("commit", "config", "seed", "tokenizer_digest")
"""What every manifest of a weights file says; save_weights adds "digest" and "storage"."""

STORAGES = ("float32", "float16", "bfloat16")


def save_weights(
    path: str | os.PathLike[str],
    params: Mapping[str, Any],
    manifest: Mapping[str, Any],
    *,
    storage: str = "float32",
) -> dict[str, Any]:
    """Writes `params` and `manifest` to `path`, atomically; returns the manifest as written.

    params: nested dicts of arrays, fully visible to this process. Floating-point arrays are
    stored as `storage` (one of STORAGES), others as they are. "digest" in the manifest is
    `trees.digest` of the stored arrays. Raises ValueError for a manifest that lacks one of
    REQUIRED, for a name with a "/" in it, and for values that `storage` cannot hold.
    """
    missing = [name for name in REQUIRED if name not in manifest]
    if missing:
        raise ValueError(f"the manifest of {path} lacks {', '.join(missing)}")
    if storage not in STORAGES:
        raise ValueError(f"storage={storage!r}; use one of {', '.join(STORAGES)}")
    flat = _flatten(params)
    stored = {}
    for name, array in flat.items():
        array = np.asarray(array)
        if jnp.issubdtype(array.dtype, jnp.floating):
            with np.errstate(over="ignore"):  # the check below names the array
                cast = array.astype(storage)
            if not np.isfinite(cast.astype(np.float32)).all():
                raise ValueError(
                    f"{name} is not finite in {storage}; store it as float32 or mend it"
                )
            array = cast
        stored[name] = np.array(array, order="C")
    written = {**manifest, "storage": storage, "digest": trees.digest(stored)}
    metadata = {"manifest": json.dumps(written, sort_keys=True)}
    atomic.write(path, safetensors.numpy.save(stored, metadata))
    return written


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(params, manifest): nested dicts of NumPy arrays, floating-point ones as float32.

    Raises ValueError, naming the file and the way out, when it is absent, cut short, not a weights
    file, or when its arrays are not those of the digest in its manifest.
    """
    way_out = "restore it from the repository or rebuild it (`make base` for the shipped base)"
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no weights there; {way_out}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a weights file ({error}); {way_out}") from None
    try:
        manifest = json.loads(metadata["manifest"])
    except (KeyError, ValueError):
        raise ValueError(f"{path} has no manifest inside, as save_weights writes it") from None
    digest = trees.digest(stored)
    if digest != manifest.get("digest"):
        raise ValueError(
            f"{path}: the arrays have digest {digest}, its manifest says {manifest.get('digest')}; "
            f"{way_out}"
        )
    params = {}
    for name, array in stored.items():
        if jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(np.float32)
        *parents, last = name.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return params, manifest


def _flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a/b/c": array} of nested dicts."""
    flat = {}
    for name, value in params.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"{prefix}{name!r} cannot be a weight's name: use text without '/'")
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat
