"""The emergence report: the curves of the paper's Figures 2 and 3 from runs of our own."""

import os
import pathlib
from collections.abc import Sequence

from r1_jax.reports import figures, page, plot, runs, summary


def write(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None
) -> tuple[pathlib.Path, list[str]]:
    """Writes report.html and one PNG per figure; returns the report's path and a summary's lines.

    paths: run directories, of finished or unfinished runs; those whose configurations differ only
    by seed share a curve. out: directory; default: report/ in the first run's. Several runs: each
    run's five lines come under its name. Raises ValueError for a directory that holds no run.
    """
    found = runs.read(paths)
    groups = runs.group(found)
    folder = pathlib.Path(out) if out is not None else found[0].path / "report"
    folder.mkdir(parents=True, exist_ok=True)
    pngs = {figure.name: plot.png(figure, groups) for figure in figures.FIGURES}
    for name, png in pngs.items():
        replace(folder / f"{name}.png", png)
    report = folder / "report.html"
    replace(report, page.page(groups, pngs).encode("utf-8"))
    lines = []
    for run in found:
        lines += [f"{run.name}:"] if len(found) > 1 else []
        lines += summary.lines(run)
    return report, lines


def replace(path: pathlib.Path, content: bytes) -> None:
    """Writes `content` to `path` so that an open browser never reads half of it."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
