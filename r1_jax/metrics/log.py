"""A run's numbers and completions on disk: one JSON row per step, TensorBoard beside it."""

import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from r1_jax.metrics import jsonl, names

_SAMPLES = re.compile(r"(?:eval_)?step_(\d+)\.jsonl")


class MetricsLog:
    """Writes metrics.jsonl, eval.jsonl, samples/ and tensorboard/ under `workdir`.

    first_step: the step at which this process starts. Rows and samples of it and of later steps,
    left by a process that was killed, are dropped, and so is a line the kill tore: the files of a
    resumed run are those of an uninterrupted one. 0 starts afresh.
    required, eval_required: keys that the first row of metrics.jsonl and of eval.jsonl must hold,
    so that a misspelt name fails at the first step and not in the report.
    In a program of many hosts one writes, the others have Silent. Raises OSError on a full disk,
    naming the file.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        *,
        first_step: int = 0,
        required: Sequence[str] | Mapping[str, str] = names.ROW,
        eval_required: Sequence[str] | Mapping[str, str] = names.EVAL_ROW,
    ):
        self._workdir = pathlib.Path(workdir)
        self._samples = self._workdir / "samples"
        self._samples.mkdir(parents=True, exist_ok=True)
        _drop_from(self._workdir, first_step)
        self._rows = _Rows(self._workdir / "metrics.jsonl", required)
        self._evals = _Rows(self._workdir / "eval.jsonl", eval_required)
        self._last_step = first_step - 1
        self._tensorboard = _tensorboardx().SummaryWriter(
            str(self._workdir / "tensorboard"),
            purge_step=first_step,  # tells TensorBoard to forget what a killed process wrote
            filename_suffix=f".from_step_{first_step}",
            flush_secs=30,
        )

    def row(self, step: int, mapping: Mapping[str, Any]) -> None:
        """Appends the row of `step` to metrics.jsonl, flushed; scalars go to TensorBoard too.

        Raises ValueError for a step that is not after the last one, a missing required key, or a
        value that is no scalar and no text. NaN becomes null with a flag (jsonl.line).
        """
        if step <= self._last_step:
            raise ValueError(f"step={step} was already logged; the next is {self._last_step + 1}")
        self._rows.append(_with_step(step, mapping))
        self._last_step = step
        self._scalars("", step, mapping)

    def eval_row(self, step: int, mapping: Mapping[str, Any]) -> None:
        """Appends one task's evaluation at `step` to eval.jsonl; two tasks give two rows."""
        self._evals.append(_with_step(step, mapping))
        self._scalars(f"eval/{mapping['task']}/" if "task" in mapping else "eval/", step, mapping)

    def samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes samples/step_000123.jsonl, one row per completion (names.SAMPLE), atomically."""
        self._write_samples(f"step_{step:06d}.jsonl", step, rows)

    def eval_samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes samples/eval_step_000123.jsonl: completions of held-out problems, same rows."""
        self._write_samples(f"eval_step_{step:06d}.jsonl", step, rows)

    def close(self) -> None:
        """Closes the files. Every row is on disk already; TensorBoard's last ones follow now."""
        self._rows.close()
        self._evals.close()
        self._tensorboard.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _write_samples(self, name, step, rows):
        rows = [_with_step(step, row) for row in rows]
        for row in rows:
            if absent := jsonl.missing(row, names.SAMPLE):
                raise ValueError(f"a row of samples/{name} lacks {', '.join(absent)}")
        jsonl.write(self._samples / name, rows)

    def _scalars(self, prefix, step, mapping):
        for name, value in mapping.items():
            if name != "step" and not isinstance(value, str | Mapping | list | tuple | None):
                tag = (prefix + name).replace("@", "_at_")  # TensorBoard allows no @
                self._tensorboard.add_scalar(tag, float(value), step)


class Silent:
    """In MetricsLog's place on the hosts of a program that do not write."""

    def row(self, step: int, mapping: Mapping[str, Any]) -> None: ...
    def eval_row(self, step: int, mapping: Mapping[str, Any]) -> None: ...
    def samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None: ...
    def eval_samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None: ...
    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_) -> None: ...


class _Rows:
    """One growing file of rows; the first must hold the keys `required`."""

    def __init__(self, path: pathlib.Path, required):
        self._path = path
        self._required = required
        self._file = open(path, "ab", buffering=0)

    def append(self, row):
        if absent := jsonl.missing(row, self._required):
            have = ", ".join(row)
            raise ValueError(
                f"{self._path.name}: the first row lacks {', '.join(absent)}; it has {have}"
            )
        jsonl.append(self._file, self._path, row)
        self._required = ()  # later rows may be sparse

    def close(self):
        self._file.close()


def _tensorboardx():
    """tensorboardX without torch, which it imports wherever it finds one, for two seconds."""
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it is an ImportError
        try:
            import tensorboardX
        finally:
            sys.modules.pop("torch", None)
    import tensorboardX

    return tensorboardX


def _with_step(step, mapping):
    if mapping.get("step", step) != step:
        raise ValueError(f"the row says step={mapping['step']}, but is logged at step={step}")
    return {"step": step, **mapping}


def _drop_from(workdir: pathlib.Path, first_step: int) -> None:
    """Removes what a killed process wrote of `first_step` and later."""
    for name in ("metrics.jsonl", "eval.jsonl"):
        jsonl.keep(workdir / name, lambda row: row["step"] < first_step)
    for path in (workdir / "samples").iterdir():
        match = _SAMPLES.fullmatch(path.name)
        if path.suffix == ".tmp" or (match and int(match[1]) >= first_step):
            path.unlink()
