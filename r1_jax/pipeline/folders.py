"""The folder of a run: whose it is, and that a second start goes on with the same run."""

import base64
import json
import os
import pathlib
from collections.abc import Collection
from typing import Any

from r1_jax.checkpoints import atomic, store
from r1_jax.core import build
from r1_jax.metrics import jsonl
from r1_jax.pipeline import experiment
from r1_jax.sharding import hosts
from r1_jax.text import load as text_load


def checkpoints(
    workdir: pathlib.Path, config: experiment.ExperimentConfig, *, read_only: bool = False
) -> store.Store:
    """The store of the run in `workdir`: there, or where config.checkpoint.directory says."""
    directory = config.checkpoint.directory or workdir / "checkpoints"
    return store.Store(directory, keep=config.checkpoint.keep, read_only=read_only)


def same_run(workdir: pathlib.Path, config: experiment.ExperimentConfig) -> None:
    """Raises ValueError when `workdir` holds a run of another config: going on would mix two."""
    path = workdir / "config.json"
    if not path.exists():
        return
    _differ(workdir, json.loads(path.read_text()), config)


def _differ(path: os.PathLike[str], found: dict[str, Any], config: experiment.ExperimentConfig):
    wanted = json.loads(json.dumps(build.to_dict(config)))
    if found != wanted:
        old, new = _flat(found), _flat(wanted)
        younger_and_off = {k for k in new.keys() - old.keys() if new[k] is None or new[k] is False}
        both = (old.keys() | new.keys()) - younger_and_off
        names = sorted(k for k in both if old.get(k) != new.get(k))
        if not names:
            return
        shown = ", ".join(f"{k}={old.get(k)} there, {new.get(k)} now" for k in names[:3])
        raise ValueError(
            f"{path} holds a run of another config ({shown}); use another --workdir, or the "
            "same config to go on"
        )


def claim(
    workdir: pathlib.Path,
    config: experiment.ExperimentConfig,
    tokens: text_load.Loaded,
) -> None:
    """Makes `workdir` this run's: its config.json and tokenizer.model, once it can start.

    Raises ValueError when the run there was begun with another tokenizer.
    """
    path = workdir / "tokenizer.model"
    if path.exists() and path.read_bytes() != tokens.model:
        raise ValueError(
            f"{path} is not the tokenizer of this config (digest {tokens.digest[:12]}), but the "
            "one this run was begun with; go on with that one, or use another --workdir"
        )
    if not hosts.is_first():
        return
    atomic.write(path, tokens.model)
    content = json.dumps(build.to_dict(config), indent=2) + "\n"
    atomic.write(workdir / "config.json", content.encode())


def same_source(
    path: os.PathLike[str],
    host: dict[str, Any],
    config: experiment.ExperimentConfig,
    tokens: text_load.Loaded,
) -> None:
    """Raises ValueError when the checkpoint at `path` is of another config or tokenizer."""
    _differ(path, host["config"], config)
    if base64.b64decode(host["tokenizer"]) != tokens.model:
        raise ValueError(
            f"{path} was made with another tokenizer than this config's (digest "
            f"{tokens.digest[:12]}); go on with that one, or use another --workdir"
        )


def _flat(mapping, prefix=""):
    flat = {}
    for key, value in mapping.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def refuse_lost_checkpoints(workdir: pathlib.Path, config: experiment.ExperimentConfig) -> None:
    """Raises ValueError for a run whose rows a checkpoint must have followed, but none is left.

    Starting afresh would erase those rows.
    """
    rows, _ = jsonl.read(workdir / "metrics.jsonl")
    last = rows[-1]["step"] if rows else 0
    every = config.checkpoint.every
    # One save may still have been under way when the run was killed.
    if every and last >= 2 * every + config.grpo.updates_per_rollout:
        raise ValueError(
            f"{workdir} has rows up to step {last}, but no checkpoint; bring checkpoints/ back, or "
            "begin again in another --workdir"
        )


def best_step(workdir: pathlib.Path, saved: Collection[int]) -> int | None:
    """Of the `saved` steps the one with the highest held-out pass@1 so far, the first of equals.

    None before any of them was evaluated. The evaluations of a run's middle are on fewer problems
    than its last (eval.num_problems_between): the best of many is in part the luckiest.
    """
    rows, _ = jsonl.read(workdir / "eval.jsonl")
    found = [(row["pass@1"], -row["step"]) for row in rows if row["step"] in saved]
    return -max(found)[1] if found else None
