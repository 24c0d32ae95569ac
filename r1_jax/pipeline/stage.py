"""A stage of a chain: a folder, what it is made from, and a marker that it is done."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence

from r1_jax.checkpoints import atomic, manifest
from r1_jax.core import interrupt

DONE = "done.json"


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of a chain. run() is resumable and returns the file that later stages start from."""

    name: str  # of its folder
    parents: tuple[str, ...]
    run: Callable[[], pathlib.Path]


def run(
    stages: Sequence[Stage],
    workdir: pathlib.Path,
    *,
    first: str | None,
    only: str | None,
    say: Callable[[str], None],
) -> None:
    """Runs the stages that are not done, in order; each ends with WORKDIR/NAME/done.json.

    The marker names the stage's output and, by digest, those of its parents. first: stages before
    it must be done. only: this stage alone. Raises ValueError for an unknown name, for a parent
    that is not done, and for a stage that was made from other parents than there are now.
    """
    names = [stage.name for stage in stages]
    for name in (first, only):
        if name is not None and name not in names:
            raise ValueError(f"{name!r} is no stage; the stages are {', '.join(names)}")
    skipped = names[: names.index(first)] if first else []
    for stage in stages:
        if stage.name in skipped or (only and stage.name != only):
            continue
        made_from = {parent: _digest_of(workdir, parent, stage.name) for parent in stage.parents}
        marker = workdir / stage.name / DONE
        if marker.exists():
            _check(marker, made_from)
            say(f"{stage.name}: done already")
            continue
        interrupt.leave_if_asked(f"{stage.name} is next in {workdir}")
        say(f"{stage.name}: begins")
        output = stage.run()
        commit, is_dirty = manifest.git_commit()
        content = {
            "stage": stage.name,
            "parents": made_from,
            "output": output.name,
            "digest": _digest(output),
            "commit": commit,
            "dirty": is_dirty,
        }
        atomic.write(marker, (json.dumps(content, indent=2) + "\n").encode())
        say(f"{stage.name}: done")


def _digest(path: pathlib.Path) -> str:
    """Of a file's bytes; of a folder of weights its manifest's, which names every part's digest."""
    path = path / "manifest.json" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_of(workdir: pathlib.Path, parent: str, name: str) -> str:
    marker = workdir / parent / DONE
    if not marker.exists():
        raise ValueError(f"{name} is made from {parent}, which is not done; run {parent} first")
    return json.loads(marker.read_text())["digest"]


def _check(marker: pathlib.Path, made_from: dict[str, str]) -> None:
    found = json.loads(marker.read_text())["parents"]
    other = sorted(name for name in found | made_from if found.get(name) != made_from.get(name))
    if other:
        raise ValueError(
            f"{marker.parent} was made from another {', '.join(other)} than there is now; remove "
            "that folder to make it anew, or go back to the one it was made from"
        )
