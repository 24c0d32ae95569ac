"""The page of a whole chain: its stages, where every model stands, what was dropped, its curves."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from r1_jax.metrics import jsonl
from r1_jax.reports import completions, emergence, figures, markup, page, plot, runs

_NUM_STORIES = 3
_HOW = (
    "Held-out problems, every model sampled alike. In brackets: 95% over problems. "
    "language: mean share of the thinking's words in the question's language; readable: share of "
    "completions that pass the filters of cold-start data; general: requests that are no "
    "reasoning, held out too."
)
# Rows of the paper's tables, models as columns: (what, key, key of its interval or "").
_ROWS = (
    ("reasoning, pass@1", "pass@1", "pass@1"),
    ("reasoning, cons@16", "cons@16", ""),
    ("mean length, tokens", "length/mean", ""),
    ("language", "language", ""),
    ("readable", "readable", ""),
    ("general, pass@1", "general/pass@1", "general/pass@1"),
    ("updates of its stage", "updates", ""),
)


def write(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes WORKDIR/report.html of a chain, as far as it is done; returns its path.

    Raises ValueError for a folder without any stage that is done.
    """
    workdir = pathlib.Path(workdir)
    markers = {
        path.parent.name: json.loads(path.read_text()) for path in workdir.glob("*/done.json")
    }
    if not markers:
        raise ValueError(f"{workdir} holds no stage that is done; write --workdir of a chain")
    order = _in_order(markers)
    rows = _rows_of(workdir / "standing" / "table.json")
    logged = [workdir / name for name in order if (workdir / name / "metrics.jsonl").exists()]
    trained = [run for run in runs.read(logged) if _is_reinforced(run)] if logged else []
    groups = [runs.Group(run.path.name, (run,)) for run in trained]
    body = [
        f"<h1>{markup.escape(workdir.resolve().name)}: {len(order)} stages</h1>",
        f'<p class="muted">{markup.escape(_commits(markers))}</p>',
        "<h2>Where every model stands</h2>" if rows else "",
        f'<p class="muted">{_HOW}</p>' if rows else "",
        _card(["", *(row["model"] for row in rows)], _standing(rows)) if rows else "",
        "<h2>What became of the samples</h2>",
        *(_fate(workdir / name) for name in order),
        "<h2>The reinforcement learning stages</h2>" if groups else "",
        '<div class="figures">' if groups else "",
        *(page.figure(figure, plot.png(figure, groups)) for figure in figures.FIGURES if groups),
        "</div>" if groups else "",
        "<h2>The same problems, by every model</h2>" if rows else "",
        *(markup.story(story) for story in _stories(workdir / "standing", rows)),
        "<h2>Stages</h2>",
        _card(
            ["stage", "made from", "output", "digest", "commit"],
            [_provenance(name, markers[name]) for name in order],
            is_text=True,
        ),
    ]
    path = workdir / "report.html"
    title = f"{workdir.resolve().name}: DeepSeek-R1's stages"
    emergence.replace(path, page.document(title, body).encode("utf-8"))
    return path


def _in_order(markers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Stage names, each after those it was made from; else by name."""
    order: list[str] = []
    while len(order) < len(markers):
        ready = [
            name
            for name in sorted(markers.keys() - set(order))
            if set(markers[name]["parents"]) & markers.keys() <= set(order)
        ]
        order += ready[:1] or sorted(markers.keys() - set(order))
    return order


def _rows_of(path: pathlib.Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


def _is_reinforced(run: runs.Run) -> bool:
    return bool(run.rows) and "reward/mean" in run.rows[-1]


def _card(head: Sequence[str], rows: Sequence[Sequence[Any]], *, is_text: bool = False) -> str:
    return f'<div class="card">{markup.table(head, rows, is_text=is_text)}</div>'


def _commits(markers: Mapping[str, Mapping[str, Any]]) -> str:
    found = sorted(
        {f"{m['commit'][:12]}{' with changes' if m['dirty'] else ''}" for m in markers.values()}
    )
    return f"made at commit {', '.join(found)}"


def _standing(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """A row a measure that some model has: with fewer samples than 16 there is no vote of 16."""
    table = []
    for what, key, interval in _ROWS:
        if all(row.get(key) is None for row in rows):
            continue
        cells = []
        for row in rows:
            value = f"{row[key]:.3g}" if isinstance(row.get(key), float) else row.get(key)
            if interval and row.get(f"{interval}_low") is not None:
                value = f"{value} [{row[f'{interval}_low']:.3g}, {row[f'{interval}_high']:.3g}]"
            cells.append(value)
        table.append([what, *cells])
    return table


def _fate(folder: pathlib.Path) -> str:
    path = folder / "fate.json"
    if not path.exists():
        return ""
    fate = json.loads(path.read_text())
    return f"<h3>{markup.escape(folder.name)}</h3>{_card(list(fate), [list(fate.values())])}"


def _provenance(name: str, marker: Mapping[str, Any]) -> list[str]:
    made_from = ", ".join(f"{parent} {digest[:8]}" for parent, digest in marker["parents"].items())
    return [
        name,
        made_from or "nothing",
        marker["output"],
        marker["digest"][:12],
        marker["commit"][:12],
    ]


def _stories(folder: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> list[completions.Story]:
    """The first held-out problems, and each model's first sample for them."""
    said = {}
    for row in rows:
        lines, _ = jsonl.read(folder / f"{row['model'].replace(' ', '_')}.jsonl")
        said[row["model"]] = lines[1:]
    if not said:
        return []
    first = list(dict.fromkeys(line["question"] for line in next(iter(said.values()))))
    found = []
    for question in first[:_NUM_STORIES]:
        cells = []
        for model, lines in said.items():
            of_question = [line for line in lines if line["question"] == question]
            if of_question:
                is_right = [completions.is_right(line) for line in of_question]
                cells.append(completions.Cell(model, of_question[0], sum(is_right), len(is_right)))
        found.append(completions.Story("not chosen: in file order", question, tuple(cells)))
    return found
