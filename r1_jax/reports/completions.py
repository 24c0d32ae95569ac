"""What a policy said to the same prompt at several steps, from a run's samples/."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from r1_jax.metrics import jsonl
from r1_jax.reports import runs

_NUM_STEPS = 4  # columns that still can be read side by side
_NUM_UNCHOSEN = 2


@dataclasses.dataclass(frozen=True)
class Cell:
    """One policy's answers to a prompt: sample 0 in full, all of them in two numbers."""

    title: str  # whose they are: "step 20", a model
    row: dict[str, Any]  # the sample with the lowest index
    num_right: int
    num_samples: int


@dataclasses.dataclass(frozen=True)
class Story:
    """One prompt, or one per step if no prompt came twice, through the steps."""

    title: str
    question: str  # "" where the steps' prompts differ
    cells: tuple[Cell, ...]


def stories(run: runs.Run) -> tuple[list[Story], list[str]]:
    """Returns prompts with their completions at up to four steps, and notes on the files.

    Held-out prompts if there are any (samples/eval_step_*.jsonl), else training prompts. First the
    prompt that shows the change best, and is said to be chosen; then the first ones of the file,
    which nobody chose. Where no prompt comes twice each step shows its first.
    """
    folder = run.path / "samples"
    files = _files(folder, "eval_step_*.jsonl") or _files(folder, "step_*.jsonl")
    steps, notes = [], []
    for path in _spread(files, _NUM_STEPS):
        try:
            rows, _ = jsonl.read(path)
        except ValueError as error:
            notes.append(f"{error}; left out")
            continue
        prompts: dict[Any, list[dict[str, Any]]] = {}
        for row in rows:
            prompts.setdefault(row.get("uid"), []).append(row)
        if prompts:
            steps.append((_step(path), prompts))
    if not steps:
        return [], [*notes, "no completions in samples/ yet"]
    common = [uid for uid in steps[0][1] if all(uid in prompts for _, prompts in steps)]
    if not common:
        cells = [_cell(step, next(iter(prompts.values()))) for step, prompts in steps]
        return [Story("first prompt of each step (no prompt came twice)", "", tuple(cells))], notes
    table = {uid: tuple(_cell(step, prompts[uid]) for step, prompts in steps) for uid in common}
    chosen = max(common, key=lambda uid: _change(table[uid]))
    unchosen = [uid for uid in common if uid != chosen][:_NUM_UNCHOSEN]
    titles = {chosen: "chosen: the prompt with the largest change"} if len(steps) > 1 else {}
    return [
        Story(titles.get(uid, "not chosen: in file order"), _question(table[uid]), table[uid])
        for uid in (chosen, *unchosen)
    ], notes


def _files(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    files = [path for path in folder.glob(pattern) if re.fullmatch(r"\w+_\d+\.jsonl", path.name)]
    return sorted(files, key=_step)


def _step(path: pathlib.Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """Returns up to `count` of `items`, first and last among them, evenly apart."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _cell(step: int, rows: list[dict[str, Any]]) -> Cell:
    first = min(rows, key=lambda row: row.get("sample", 0))
    return Cell(f"step {step}", first, sum(map(is_right, rows)), len(rows))


def is_right(row: dict[str, Any]) -> bool:
    """True where the sample's answer was graded as right."""
    return row.get("outcome") == "right"


def _change(cells: Sequence[Cell]) -> tuple:
    """Returns how well a prompt shows the change: wrong then right, then share, then length."""
    first, last = cells[0], cells[-1]
    return (
        is_right(last.row) - is_right(first.row),
        last.num_right / last.num_samples - first.num_right / first.num_samples,
        len(last.row.get("completion", "")) - len(first.row.get("completion", "")),
    )


def _question(cells: Sequence[Cell]) -> str:
    return str(cells[0].row.get("question", ""))
