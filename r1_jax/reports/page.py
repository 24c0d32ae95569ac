"""The whole page: one HTML document that needs nothing beside it."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from r1_jax.metrics import clock
from r1_jax.reports import completions, figures, markup, runs, style, summary

# The browser itself refuses every request and every script: nothing a model wrote can run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_HOW_TO_READ = (
    "Faint lines are single steps, full ones their moving mean; dots are evaluations on held-out "
    "problems; the numbers at the right are the last values. Bands over several runs span the "
    "lowest and the highest of them."
)
# What a reader asks first of a run's configuration, in this order.
_HIGHLIGHTS = (
    "base task.name task.dataset task.num_numbers task.max_target model.num_layers model.embed_dim "
    "optim.learning_rate grpo.num_steps grpo.prompts_per_rollout grpo.group_size "
    "grpo.num_minibatches grpo.kl_coef grpo.clip_low grpo.clip_high grpo.max_response "
    "sampling.temperature reward.accuracy_weight reward.format_weight reward.random_weight"
).split()


def page(groups: Sequence[runs.Group], pngs: Mapping[str, bytes]) -> str:
    """Returns the HTML of the report on `groups`; pngs: figure name -> its picture."""
    members = [run for group in groups for run in group.runs]
    title = ", ".join(group.label for group in groups)
    found, notes = completions.stories(members[0])
    body = [
        f"<h1>{markup.escape(title)}</h1>",
        _subtitle(members),
        _chips(members[0]) if len(groups) == 1 else "",
        _notes([(run, note) for run in members for note in run.notes], notes, members),
        _tiles(members[0]) if len(members) == 1 else _comparison(members),
        settings(groups) if len(groups) > 1 else "",
        "<h2>Emergence</h2>",
        f'<p class="muted">{_HOW_TO_READ}</p>',
        '<div class="figures">' + "".join(figure(f, pngs[f.name]) for f in figures.FIGURES),
        "</div>",
        _stories(members[0], found, len(members) > 1),
        "<h2>Evaluations</h2>",
        *(_evaluations(run) for run in members),
        "<h2>Provenance</h2>",
        *(provenance(run) for run in members),
    ]
    return document(title, body)


def document(title: str, body: Sequence[str]) -> str:
    """Returns a whole HTML document of the pieces `body`, which are HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{markup.escape(title)}</title><style>{style.CSS}</style></head>\n"
        f"<body><main>{chr(10).join(filter(None, body))}</main></body></html>\n"
    )


def _subtitle(members: Sequence[runs.Run]) -> str:
    run = members[0]
    if len(members) > 1:
        tasks = dict.fromkeys(member.task for member in members if member.task)
        line = f"{len(members)} runs{' · task ' if tasks else ''}{', '.join(tasks)}"
        return f'<p class="muted">{markup.escape(line)}</p>'
    facts = [f"task {run.task}" if run.task else ""]
    if commit := run.manifest.get("commit"):
        facts.append(
            f"commit {str(commit)[:12]}{' with changes' if run.manifest.get('dirty') else ''}"
        )
    if "seed" in run.manifest:
        facts.append(f"seed {run.manifest['seed']}")
    if run.rows:
        facts.append(f"{len(run.rows)} steps logged")
    return f'<p class="muted">{markup.escape(" · ".join(filter(None, facts)))}</p>'


def _chips(run: runs.Run) -> str:
    leaves = dict(runs.flatten(run.config))
    items = "".join(
        f"<li>{markup.escape(key)} <b>{markup.escape(markup.number(leaves[key]))}</b></li>"
        for key in _HIGHLIGHTS
        if leaves.get(key) not in ("", None)
    )
    return f'<ul class="chips">{items}</ul>' if items else ""


def _notes(of_runs, of_samples, members) -> str:
    lines = [f"{run.name}: {note}" if len(members) > 1 else note for run, note in of_runs]
    items = "".join(f"<li>{markup.escape(line)}</li>" for line in [*lines, *of_samples])
    return f'<div class="notes"><ul>{items}</ul></div>' if items else ""


def _tiles(run: runs.Run) -> str:
    tiles = []
    for fact in summary.facts(run):
        base = (
            "" if fact.base == "-" else f'<span class="base">{markup.escape(fact.base)} → </span>'
        )
        tiles.append(
            f'<div class="tile"><div class="name">{markup.escape(fact.name)}</div>'
            f'<div class="value">{base}{markup.escape(fact.trained)}</div>'
            f'<div class="remark">{markup.escape(fact.remark)}</div></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _comparison(members: Sequence[runs.Run]) -> str:
    columns = [summary.facts(run) for run in members]
    rows = [
        [run.name, *(f"{f.base} → {f.trained}" if f.base != "-" else f.trained for f in column)]
        for run, column in zip(members, columns, strict=True)
    ]
    head = ["run", *(fact.name for fact in columns[0])]
    return f'<h2>Base → trained</h2><div class="card">{markup.table(head, rows)}</div>'


def settings(groups: Sequence[runs.Group]) -> str:
    """Returns the table of the keys in which groups differ; "" if in none."""
    rows = [[key, *map(str, values)] for key, values in runs.differences(groups)]
    if not rows:
        return ""
    table = markup.table(["setting", *(group.label for group in groups)], rows)
    return f'<h2>Settings that differ</h2><div class="card">{table}</div>'


def figure(shown: figures.Figure, png: bytes) -> str:
    """Returns a figure's picture and what is written under it."""
    kind = "card wide" if len(shown.panels) > 1 else "card"
    data = base64.b64encode(png).decode()
    return (
        f'<figure class="{kind}">'
        f'<img alt="{markup.escape(shown.title)} against step" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{markup.escape(shown.title)}.</b> {markup.escape(shown.caption)}"
        "</figcaption></figure>"
    )


def _stories(run: runs.Run, found: Sequence[completions.Story], is_one_of_many: bool) -> str:
    if not found:
        return ""
    of = f" of {markup.escape(run.name)}" if is_one_of_many else ""
    return (
        f"<h2>The same prompt through training{of}</h2>"
        '<p class="muted">Sample 0 of each step, in full; R1\'s reflective words are marked.</p>'
        + "".join(map(markup.story, found))
    )


def _evaluations(run: runs.Run) -> str:
    if not run.evals:
        return f"<p>{markup.escape(run.name)}: none yet.</p>"
    names = dict.fromkeys(key for row in run.evals for key in row)
    rows = [[row.get(name) for name in names] for row in run.evals]
    return (
        f"<details><summary>{markup.escape(run.name)}: {len(rows)} evaluations</summary>"
        f"{markup.table(list(names), rows)}</details>"
    )


def provenance(run: runs.Run) -> str:
    """Returns a run's seconds, manifest and configuration, folded."""
    seconds = summary.seconds(run)
    times = [[name, f"{value:.1f}", clock.duration(value)] for name, value in seconds.items()]
    manifest: list[list[Any]] = [[key, value] for key, value in runs.flatten(run.manifest)]
    config = json.dumps(run.config, indent=2, ensure_ascii=False)
    name = markup.escape(run.name)
    return (
        f"<details><summary>{name}: wall seconds by phase</summary>"
        f"{markup.table(['phase', 'seconds', ''], times)}</details>"
        f"<details><summary>{name}: manifest</summary>"
        f"{markup.table(['key', 'value'], manifest, is_text=True)}</details>"
        f"<details><summary>{name}: configuration</summary>"
        f"<pre>{markup.escape(config)}</pre></details>"
    )
