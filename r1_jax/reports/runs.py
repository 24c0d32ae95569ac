"""Run directories, read as far as they go, and grouped by what was configured."""

import dataclasses
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1_jax.metrics import hacking, jsonl


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run directory holds so far; a part that is missing is empty."""

    path: pathlib.Path
    name: str  # short, unique among the runs of a report
    config: dict[str, Any]  # config.json, nested
    manifest: dict[str, Any]  # manifest.json
    rows: list[dict[str, Any]]  # metrics.jsonl
    evals: list[dict[str, Any]]  # eval.jsonl, all tasks
    notes: tuple[str, ...]  # what a reader should know of the files

    @property
    def task(self) -> str:
        """Name of the task evaluated first, which the curves show; "" before any evaluation."""
        return str(self.evals[0].get("task", "")) if self.evals else ""

    @property
    def task_evals(self) -> list[dict[str, Any]]:
        """The evaluations of `task`, by step."""
        rows = [row for row in self.evals if str(row.get("task", "")) == self.task]
        return sorted(rows, key=lambda row: row["step"])


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one configuration up to its seeds: one curve, a mean with a band."""

    label: str
    runs: tuple[Run, ...]


def read(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Returns the runs at `paths`, in order, each once.

    Raises ValueError naming a path that is no directory, or holds no row of any kind.
    """
    unique = list(dict.fromkeys(pathlib.Path(path).resolve() for path in paths))
    if not unique:
        raise ValueError("no run directory given; write: python -m r1_jax report runs/NAME")
    return [_read(path, name) for path, name in zip(unique, _names(unique), strict=True)]


def _read(path: pathlib.Path, name: str) -> Run:
    if not path.is_dir():
        raise ValueError(f"{path} is no directory; give the --workdir of a run")
    notes = []
    tables = {}
    for file in ("metrics.jsonl", "eval.jsonl"):
        rows, is_torn = jsonl.read(path / file)
        tables[file] = [row for row in rows if isinstance(row.get("step"), int)]
        if is_torn:
            notes.append(f"{file} ends in half a line (the run was stopped or goes on); left out")
        if len(tables[file]) < len(rows):
            notes.append(f"{file}: {len(rows) - len(tables[file])} rows without a step; left out")
    rows, evals = tables["metrics.jsonl"], tables["eval.jsonl"]
    if not rows and not evals:
        raise ValueError(
            f"{path} holds no row of metrics.jsonl or eval.jsonl; is it a run directory, and did "
            "the run reach its first step?"
        )
    if not evals:
        notes.append("no evaluation yet: accuracy is missing, lengths are those of training")
    mappings = {}
    for file in ("config.json", "manifest.json"):
        mappings[file], note = _read_mapping(path / file)
        notes += [note] if note else []
    names = sorted({key for row in rows for key in row.get(jsonl.NONFINITE, {})})
    if names:
        count = sum(jsonl.NONFINITE in row for row in rows)
        notes.append(f"{count} of {len(rows)} rows hold NaN or infinity, in {', '.join(names)}")
    if all({"pass@1_low", "pass@1_high"} <= row.keys() for row in evals) and all(
        "reward/mean" in row for row in rows
    ):
        doubt = hacking.warning(rows, [row for row in evals if row["task"] == evals[0]["task"]])
        notes += [doubt] if doubt else []
    return Run(
        path, name, mappings["config.json"], mappings["manifest.json"], rows, evals, tuple(notes)
    )


def _read_mapping(path: pathlib.Path) -> tuple[dict[str, Any], str]:
    """Returns the JSON object at `path` and a note if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, f"no {path.name}"
    except ValueError as error:
        return {}, f"{path.name} is not JSON ({error}); left out"
    return (value, "") if isinstance(value, dict) else ({}, f"{path.name} is no object; left out")


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """Returns for each path its last parts, as few as tell it from the others."""
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("the paths are unique")


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, leaf) of nested mappings, in order."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def group(runs: Sequence[Run]) -> list[Group]:
    """Returns `runs` in groups whose configurations differ in nothing but keys called `seed`.

    A run without config.json stands alone: nothing says what it is a repetition of.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        leaves = [(k, v) for k, v in flatten(run.config) if k.rpartition(".")[2] not in _OWN]
        key = json.dumps(leaves, sort_keys=True) if run.config else str(run.path)
        found.setdefault(key, []).append(run)
    return [Group(_label(members), tuple(members)) for members in found.values()]


_OWN = ("seed", "workdir")  # leaves of a configuration that are a run's own


def _label(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return runs[0].name
    names = [run.name for run in runs]
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    prefix = re.sub(r"[-_./ ]*(seed|s)?[-_./ =]*$", "", "".join(letters[0] for letters in same))
    return f"{prefix or runs[0].name} ({len(runs)} runs)"


def differences(groups: Sequence[Group]) -> list[tuple[str, list[Any]]]:
    """Returns (dotted key, one value per group) of every setting in which groups differ."""
    leaves = [dict(flatten(group.runs[0].config)) for group in groups]
    keys = dict.fromkeys(key for mapping in leaves for key in mapping)
    table = [(key, [mapping.get(key) for mapping in leaves]) for key in keys]
    return [
        (key, values)
        for key, values in table
        if key.rpartition(".")[2] not in _OWN and any(value != values[0] for value in values)
    ]
