"""Checkpoints of a run: arrays and host state, written in the background, complete or not there.

On disk: <directory>/step_00000100/, with `arrays` (orbax, zarr in OCDBT) and `record` (JSON: host
state, names, shapes and dtypes of the leaves, digest). On a POSIX file system a save is written to
a directory with another name that is renamed when everything is in it, so a directory named step_*
is a save that finished. In a bucket, where nothing is renamed at once, it is one that holds
commit_success.txt, which is written last and removed first.
"""

import importlib.util
import itertools
import logging as python_logging
import os
import re
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from r1_jax.checkpoints import contents
from r1_jax.core import trees

_STEP = re.compile(r"step_(\d{8,})")
_COMMIT = "commit_success.txt"  # orbax's, in every complete checkpoint
_HALF_WRITTEN = re.compile(r"step_\d{8,}(\.orbax-checkpoint-tmp.*|\.deleting)")


class DamagedError(ValueError):
    """A checkpoint is not what was saved."""


class SaveError(OSError):
    """A checkpoint could not be written; earlier ones are intact, the run must not go on."""


class Store:
    """The checkpoints in one directory; at most one save is under way at a time.

    Every host of a program calls the same methods with the same arguments. Use it as a context
    manager, or end with close(): an error of the last save is raised there.

    directory: created by the first save, relative paths count from the working directory; or
    gs://BUCKET/NAME, for which gcsfs has to be installed.
    keep: how many complete checkpoints stay; an older one goes once a newer one is complete. One
    more stays when `keep_also` names it.
    read_only: for a reader beside a running trainer; removes nothing, cannot save.

    Raises ValueError for a keep below 1, another URL, and a bucket that cannot be listed.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, keep: int = 3, read_only: bool = False
    ):
        if keep < 1:
            raise ValueError(f"keep={keep} would delete every checkpoint; use 1 or more")
        self._directory = _directory(directory)
        self._is_bucket = "://" in str(self._directory)
        self._keep = keep
        self._also: int | None = None
        self._read_only = read_only
        self._saving: int | None = None
        self._bytes = 0
        self._failure: SaveError | None = None
        python_logging.getLogger("absl").addFilter(_not_a_trace_of_orbax)
        self._orbax = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                arrays=_array_handler(), record=ocp.JsonCheckpointHandler()
            ),
            atomicity_options=ocp.options.AtomicityOptions(
                mode=ocp.options.AtomicityMode.COMMIT_FILE
                if self._is_bucket
                else ocp.options.AtomicityMode.ATOMIC_RENAME
            ),
        )
        if not read_only and jax.process_index() == 0:
            self._remove_half_written()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except SaveError as failure:
            if error is None:
                raise
            if failure is not error:
                logging.error("%s", failure)  # the body's own error is on its way up

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending, after waiting for a save under way."""
        self.wait()
        found = (_STEP.fullmatch(entry.name) for entry in self._entries())
        steps = sorted(int(match[1]) for match in found if match)
        return [step for step in steps if not self._is_unfinished(self.path(step))]

    def latest_step(self) -> int | None:
        """The newest complete step, None when there is none; waits for a save under way."""
        return max(self.steps(), default=None)

    def save(self, step: int, arrays: Any, host_state: dict[str, Any]) -> None:
        """Starts to write a checkpoint and returns; first waits for the one before.

        arrays: pytree of jax.Arrays. Their values are taken before this returns: they may be
        donated at once. host_state: what JSON gives back unchanged (text keys, lists, no NaN).
        Raises ValueError for other leaves or states and for a step that is not newer than every
        step on disk; SaveError when this save cannot start or the one before has failed.
        """
        if self._read_only:
            raise ValueError(f"{self._directory} was opened read-only; nothing can be saved there")
        latest = self.latest_step()
        if latest is not None and step <= latest:
            raise ValueError(
                f"cannot save step {step}: {self.path(latest)} is as new or newer; restore it, "
                "move it away, or use another directory"
            )
        record = {
            "step": step,
            "leaves": contents.leaves(arrays),
            "digest": contents.digest(arrays),
            "host_state": contents.json_able(host_state),
        }
        self._saving = step
        self._bytes = trees.num_bytes(arrays)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._orbax.save(
                self.path(step),
                args=ocp.args.Composite(
                    arrays=ocp.args.PyTreeSave([arrays]),  # a list: orbax takes no lone leaf
                    record=ocp.args.JsonSave(record),
                ),
            )
        except Exception as error:
            raise self._failed(error) from error

    def keep_also(self, step: int | None) -> None:
        """From here on the checkpoint of `step` stays, however old; it takes the last one's place.

        None: no other than the newest. Nothing is removed before the next save.
        """
        self._also = step

    def wait(self) -> None:
        """Returns when no save is under way and older checkpoints than `keep` are gone.

        Raises SaveError if a save has failed, at this and at every later call.
        """
        if self._failure is not None:
            raise self._failure
        if self._saving is None:
            return
        try:
            self._orbax.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error
        self._saving = None
        if jax.process_index() == 0:
            for step in self.steps()[: -self._keep]:
                if step == self._also:
                    continue
                self._remove(self.path(step))

    def close(self) -> None:
        """Waits for a save under way and lets go of orbax's threads. Raises as wait() does."""
        try:
            self.wait()
        finally:
            try:
                self._orbax.close()
            except Exception:  # orbax's own files of a save that failed fail again here
                if self._failure is None:
                    raise

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """(arrays, host_state) of the checkpoint of `step`.

        like: pytree of jax.Arrays or of jax.ShapeDtypeStructs with a sharding: the structure,
        shapes and dtypes that the checkpoint must have, and where its arrays shall live (on any
        mesh). Raises ValueError, naming the path and the way out, when the checkpoint is absent or
        of another shape, DamagedError when it cannot be read or is not what its digest says.
        """
        complete = self.steps()
        path = self.path(step)
        if step not in complete:
            have = ", ".join(str(s) for s in complete) or "none"
            raise ValueError(f"{path}: no complete checkpoint there; complete steps: {have}")
        older = [s for s in complete if s < step]
        way_out = (
            f"move {path} away to continue from step {older[-1]}"
            if older
            else "no older checkpoint is left: start again in another directory"
        )
        if not (path / _COMMIT).exists():  # orbax itself does not look
            raise DamagedError(f"{path} is damaged: its {_COMMIT} is missing; {way_out}")
        record = self._read(path, way_out, record=ocp.args.JsonRestore())["record"]
        if not isinstance(record, dict) or not {"leaves", "digest", "host_state"} <= record.keys():
            raise DamagedError(f"{path} is damaged: its record is incomplete; {way_out}")
        contents.check_leaves(path, record["leaves"], contents.leaves(like))
        target = [jax.tree.map(contents.abstract, like)]
        how = ocp.args.PyTreeRestore(target, ocp.checkpoint_utils.construct_restore_args(target))
        [arrays] = self._read(path, way_out, arrays=how)["arrays"]
        digest = contents.digest(arrays)
        if digest != record["digest"]:
            raise DamagedError(
                f"{path} is damaged: its arrays have digest {digest}, saved was "
                f"{record['digest']}; {way_out}"
            )
        return arrays, record["host_state"]

    def restore_newest(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """(step, arrays, host_state) of the newest checkpoint that is sound, None without any.

        A damaged one is said to be so and set aside as step_*.damaged (.damaged_2 when that is
        taken: a disk may have failed for a moment only), once an older one has been
        read in its place. Raises as `restore` does; DamagedError when none is sound.
        """
        damaged: list[DamagedError] = []
        steps = self.steps()
        for step in reversed(steps):
            try:
                arrays, host_state = self.restore(step, like)
            except DamagedError as error:
                logging.error("%s", error)
                damaged.append(error)
                continue
            if damaged:
                logging.error("%s is sound and taken in its place", self.path(step))
            if not self._read_only and jax.process_index() == 0:
                for newer in steps[steps.index(step) + 1 :]:
                    self.path(newer).rename(self._aside(newer))
            return step, arrays, host_state
        if damaged:
            raise damaged[0]
        return None

    def path(self, step: int) -> epath.Path:
        """Where the checkpoint of `step` lies, or would lie."""
        return self._directory / f"step_{step:08d}"

    def _entries(self) -> list[epath.Path]:
        try:
            return sorted(self._directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ValueError(
                f"{self._directory} cannot be listed: {_first_line(error)}; see that it may be "
                "read and written"
            ) from error

    def _is_unfinished(self, path: epath.Path) -> bool:
        """Whether the step at `path` is a save, or a removal, that did not come to its end."""
        return self._is_bucket and not (path / _COMMIT).exists()

    def _remove(self, path: epath.Path) -> None:
        """Removes a checkpoint so that at no moment a part of it looks like one."""
        if self._is_bucket:
            (path / _COMMIT).unlink()
        else:
            path = path.rename(path.with_suffix(".deleting"))
        path.rmtree()

    def _aside(self, step: int) -> epath.Path:
        """A free name for a damaged checkpoint of `step`."""
        names = itertools.chain([".damaged"], (f".damaged_{i}" for i in itertools.count(2)))
        found = (self.path(step).with_suffix(name) for name in names)
        return next(path for path in found if not path.exists())

    def _read(self, path: epath.Path, way_out: str, **args: Any) -> Any:
        """The items of `args` from `path`; whatever goes wrong is a DamagedError."""
        try:
            return self._orbax.restore(path, args=ocp.args.Composite(**args))
        except Exception as error:  # orbax, tensorstore and json each have their own kinds
            raise DamagedError(f"{path} cannot be read: {_first_line(error)}; {way_out}") from error

    def _failed(self, error: Exception) -> SaveError:
        """Frees what the failed save has written; the error for this and every later call."""
        assert self._saving is not None
        path = self.path(self._saving)
        free = 0 if self._is_bucket else shutil.disk_usage(_existing(self._directory)).free
        self._saving = None
        try:
            if jax.process_index() == 0:
                self._remove_half_written(path.name)
            complete = self.steps()
            kept = f"step {complete[-1]} is intact" if complete else "no checkpoint is complete yet"
        except (OSError, ValueError) as second:  # the place is lost, and with it the answer
            kept = _first_line(second)
        if "No space left" in str(error) or "quota exceeded" in str(error):
            why = (
                f"the disk is full ({free / 1e6:.1f} MB were free, up to {self._bytes / 1e6:.1f} "
                "MB are needed); free some space"
            )
        else:
            why = f"{_first_line(error)}; see that the directory can be written to"
        self._failure = SaveError(
            f"{path} could not be saved: {why} and start again: {kept}, the run goes on from there"
        )
        return self._failure

    def _remove_half_written(self, prefix: str = "") -> None:
        """Removes what is left of a save or of a deletion that was interrupted, saying so."""
        for entry in self._entries():
            if not entry.name.startswith(prefix):
                continue
            is_step = _STEP.fullmatch(entry.name)
            if _HALF_WRITTEN.fullmatch(entry.name) or (is_step and self._is_unfinished(entry)):
                logging.warning(
                    "removing %s: a save or deletion that was interrupted; complete steps: %s",
                    entry,
                    self.steps() or "none",
                )
                entry.rmtree()


def _directory(directory: str | os.PathLike[str]) -> epath.Path:
    text = os.fspath(directory)
    scheme, has_scheme, _ = text.partition("://")
    if not has_scheme:
        return epath.Path(os.path.abspath(text))
    if scheme != "gs":
        raise ValueError(
            f"checkpoints go to a directory or to gs://BUCKET/NAME, not to {directory}; mount it "
            "and give the path of the mount"
        )
    if importlib.util.find_spec("gcsfs") is None:  # what etils.epath reaches buckets by
        raise ValueError(
            f"{directory} needs gcsfs, which is not installed: pip install gcsfs, or mount the "
            "bucket (gcsfuse) and give the path of the mount"
        )
    from fsspec.config import conf

    # What tensorstore or another host writes and removes, gcsfs would not see in its old listings.
    conf.setdefault("gs", {})["use_listings_cache"] = False
    return epath.Path(text)


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax for jax.Arrays, one replica writing each.

    By default all replicas share the writing, for which orbax slices every replicated array on the
    device: one more program a shape, compiled in the middle of a run.
    """
    whole = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, whole))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _not_a_trace_of_orbax(record: python_logging.LogRecord) -> bool:
    """False for the stack traces that orbax logs for an error which it also raises (to us)."""
    return not (
        record.levelno >= python_logging.ERROR and "orbax/checkpoint/_src" in record.pathname
    )


def _existing(directory: epath.Path) -> epath.Path:
    """The nearest directory above or at `directory` that exists."""
    return next(path for path in (directory, *directory.parents) if path.is_dir())


def _first_line(error: Exception) -> str:
    """Kind and beginning of an error's text; tensorstore's texts run to pages."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text[:300]}"
