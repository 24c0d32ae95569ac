"""The comparison of a sweep, shown: tables, figures, provenance on one page, and lines."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

from r1_jax.reports import ablations, emergence, figures, markup, page, paired, plot

_CELLS_A_FIGURE = 7  # colours that can be told apart
_HOW = (
    "Values are those of the last evaluation, for KL and entropy the mean of the last tenth of the "
    "rollouts; sd is over seeds. Differences are paired: seed k of a cell minus seed k of the "
    "baseline. Over seeds: Student's t with n - 1 degrees of freedom (95%), which assumes "
    "differences that are about normal, and says how other seeds might come out on the same "
    "problems. Over problems: bootstrap of whole problems (95%) on the stored samples, averaged "
    "over the same seeds, which says how these very policies might come out on other problems. "
    "Holm's p counts all tests of its table. With three seeds only large differences can be told "
    "from none: not told apart does not mean equal."
)
_VERDICTS = (
    "moved: Holm's p below 0.05, and the interval over problems (if there is one) without 0. "
    "perhaps: p below 0.05 before Holm, or an interval over problems that holds 0; about one in "
    "twenty comparisons without any effect says so. same in every seed: a difference, 0 or "
    "another, without any spread (a share that is 0 or 1 throughout, say), to which no test "
    "applies. n = 1: one seed, nothing to test."
)

_INTERACTION = (
    "A setting's difference is a mean over the other settings: one that depends on them shows in "
    "the table of cells alone."
)


def write(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    baseline: str | None = None,
) -> tuple[pathlib.Path, list[str]]:
    """Writes report.html, its figures and comparison.json; returns the report's path and lines.

    path: a sweep's --workdir, finished or not. out: directory; default: report/ in it. Raises
    ValueError as ablations.read does.
    """
    sweep = ablations.read(path, baseline)
    cells, settings = ablations.compare(sweep), ablations.compare_settings(sweep)
    folder = pathlib.Path(out) if out is not None else sweep.path / "report"
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for number, groups in enumerate(chunks(sweep)):
        for figure in figures.FIGURES:
            name = figure.name if number == 0 else f"{figure.name}_{number + 1}"
            png = plot.png(figure, groups)
            emergence.replace(folder / f"{name}.png", png)
            shown.append(page.figure(figure, png))
    content = {
        "record": sweep.record,
        "baseline": sweep.baseline,
        "notes": sweep.notes,
        "cells": [_plain(c) for c in cells],
        "settings": [_plain(c) for c in settings],
        "power": [power(cells), power(settings)],
    }
    text = json.dumps(content, indent=2) + "\n"
    emergence.replace(folder / "comparison.json", text.encode())
    report = folder / "report.html"
    html = _html(sweep, cells, settings, shown)
    emergence.replace(report, html.encode("utf-8"))
    return report, lines(sweep, cells)


def lines(sweep: ablations.Sweep, cells: Sequence[ablations.Comparison]) -> list[str]:
    """Returns a line per cell for a terminal: pass@1 and its difference; then the notes."""
    found = [f"baseline {sweep.baseline}; pass@1, difference, 95% over seeds, n"]
    width = max(len(group.label) for group in sweep.groups)
    for c in cells:
        if c.metric == ablations.METRICS[0].name:
            mean = "-" if c.mean is None else f"{c.mean:.3f}"
            difference = f"   {_interval(c.seeds)}, {c.verdict}" if c.seeds else ""
            found.append(f"  {c.what:<{width}}  {mean:>6}{difference}")
    weak = power(cells)
    found += [f"note: {weak}"] if weak else []
    return found + [f"note: {note}" for note in sweep.notes]


def power(found: Sequence[ablations.Comparison]) -> str:
    """Returns what the tests over seeds of one table cannot see; "" where nothing was tested."""
    tested = [c.seeds.num for c in found if c.seeds is not None and c.seeds.p is not None]
    if not tested:
        return ""
    num, tests = max(tested), len(tested)  # comparisons that lack a seed see less still
    alone = paired.needed(num, ablations.ALPHA)
    first = paired.needed(num, ablations.ALPHA / tests)
    return (
        f"How weak the test is: with the {num} seeds of a comparison here (t, degrees of freedom: "
        f"{num - 1}) a difference reaches p = {ablations.ALPHA} from {alone:.2g} standard "
        f"deviations of its pairs on, and is the first to pass Holm's correction for the {tests} "
        f"tests of the table from {first:.2g} on. Smaller effects go unseen, however real."
    )


def chunks(sweep: ablations.Sweep):
    """Yields groups for one set of figures: the baseline and six other cells."""
    base, others = sweep.groups[0], sweep.groups[1:]
    size = _CELLS_A_FIGURE - 1
    for start in range(0, max(len(others), 1), size):
        yield [base, *others[start : start + size]]


def _plain(c: ablations.Comparison):
    found = dataclasses.asdict(c) | {"verdict": c.verdict}
    for name in ("seeds", "problems"):
        interval = getattr(c, name)
        found[name] = interval._asdict() if interval else None
    return found


def _interval(found: paired.Paired | None) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.mean:+.3g} (n = {found.num})"
    return f"{found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}] (n = {found.num})"


def _html(sweep, cells, settings, shown) -> str:
    record, members = sweep.record, [run for group in sweep.groups for run in group.runs]
    title = (
        f"{sweep.path.resolve().name}: {len(record['grid'])} cells x {len(record['seeds'])} seeds"
    )
    commits = ", ".join(
        f"{c['commit'][:12]}{' with changes' if c['dirty'] else ''}" for c in record["commits"]
    )
    line = f"{record['config']} · baseline {sweep.baseline} · swept at commit {commits}"
    notes = "".join(f"<li>{markup.escape(note)}</li>" for note in sweep.notes)
    body = [
        f"<h1>{markup.escape(title)}</h1>",
        f'<p class="muted">{markup.escape(line)}</p>',
        f'<div class="notes"><ul>{notes}</ul></div>' if notes else "",
        "<h2>Which settings moved which metric</h2>",
        f'<div class="card">{_matrix(settings or cells)}</div>',
        f'<p class="muted">Difference to the baseline [95% over seeds]. {_VERDICTS} '
        f"{power(settings or cells)} {_INTERACTION if settings else ''}</p>",
        f'<div class="card">{_matrix(cells)}</div>' if settings else "",
        page.settings(sweep.groups),
        "<h2>Final values and differences</h2>",
        f'<p class="muted">{_HOW}</p>',
        *(_table(metric.name, cells) for metric in ablations.METRICS),
        "<h2>Curves</h2>",
        '<p class="muted">Means over the seeds that have begun, at the steps that all of them '
        "reached; bands span their lowest and highest.</p>",
        '<div class="figures">' + "".join(shown) + "</div>",
        "<h2>Provenance</h2>",
        f'<div class="card">{_runs(sweep)}</div><p></p>',
        *(page.provenance(run) for run in members),
    ]
    return page.document(title, body)


def _matrix(found: Sequence[ablations.Comparison]) -> str:
    """Returns a table: what was changed down, metrics across."""
    metrics = list(dict.fromkeys(c.metric for c in found))
    at = {(c.what, c.metric): c for c in found if c.seeds is not None}
    rows = []
    for what in dict.fromkeys(what for what, _ in at):
        cells = [at.get((what, metric)) for metric in metrics]
        rows.append([what, *(f"{_short(c)} {c.verdict}" if c else "-" for c in cells)])
    if not rows:
        return "<p>no finished run of another cell with a seed of the baseline yet</p>"
    return markup.table(["against the baseline", *metrics], rows)


def _short(c: ablations.Comparison) -> str:
    found = c.seeds
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.mean:+.3g}"
    return f"{found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


def _table(metric: str, cells: Sequence[ablations.Comparison]) -> str:
    mine = [c for c in cells if c.metric == metric]
    if not mine:
        return ""
    rows = [
        [
            c.what,
            c.mean,
            c.spread,
            _interval(c.seeds),
            c.seeds.p if c.seeds else None,
            c.adjusted,
            _interval(c.problems),
            c.verdict if c.seeds else "baseline" if c.what == c.against else "no common seed",
        ]
        for c in mine
    ]
    head = [
        "cell", "mean", "sd", "difference, over seeds", "p", "Holm's p",
        "difference, over problems", "",
    ]  # fmt: skip
    return (
        f"<h3>{markup.escape(metric)}</h3>" + f'<div class="card">{markup.table(head, rows)}</div>'
    )


def _runs(sweep: ablations.Sweep) -> str:
    rows = []
    for group in sweep.groups:
        for run in group.runs:
            manifest = run.manifest
            is_finished = ablations.final_row(run) is not None
            rows.append(
                [
                    group.label,
                    str(ablations.seed_of(run)),
                    f"{str(manifest.get('commit', 'unknown'))[:12]}"
                    + (" with changes" if manifest.get("dirty") else ""),
                    str(manifest.get("config_digest", "unknown"))[:12],
                    str(manifest.get("parents", {}).get("base", "none"))[:12],
                    f"{len(run.rows)} rollouts" + ("" if is_finished else ", not finished"),
                ]
            )
    return markup.table(["cell", "seed", "commit", "config digest", "base digest", ""], rows)
