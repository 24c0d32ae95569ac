"""Pieces of the page: text from a run in, escaped HTML out."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from r1_jax.reports import completions
from r1_jax.text import reflection

_LONGEST = 20_000  # characters of a completion; all of it stays in samples/
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_SPECIAL = re.compile(
    r"(?P<tag></?[A-Za-z_]+>)|(?<!\w)(?P<word>" + "|".join(reflection.R1_WORDS) + r")(?!\w)",
    re.IGNORECASE,
)


def escape(value: Any) -> str:
    """Returns `value` as text that HTML shows and never obeys; unprintable characters as U+FFFD."""
    return html.escape(_CONTROL.sub("\ufffd", str(value)))


def marked(text: str) -> str:
    """Returns `text` escaped, tags like <think> coloured and R1's reflective words marked."""
    text, rest = text[:_LONGEST], len(text) - _LONGEST
    pieces, position = [], 0
    for match in _SPECIAL.finditer(text):
        pieces.append(escape(text[position : match.start()]))
        opening = '<span class="tag">' if match["tag"] else "<mark>"
        closing = "</span>" if match["tag"] else "</mark>"
        pieces.append(opening + escape(match[0]) + closing)
        position = match.end()
    pieces.append(escape(text[position:]))
    if rest > 0:
        pieces.append(f'<span class="muted"> … {rest} characters more in samples/</span>')
    return "".join(pieces)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, is_text: bool = False) -> str:
    """Returns a table; is_text: cells are words, to the left, instead of numbers."""
    kind = ' class="text"' if is_text else ""
    top = "".join(f"<th{kind}>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(number(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def number(value: Any) -> str:
    """Returns `value` as a person reads it: four digits of a float, "-" for nothing."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.4g}"
    return str(value)


def story(found: completions.Story) -> str:
    """Returns a card: the prompt, and its completions side by side."""
    question = f'<p class="question">{escape(found.question)}</p>' if found.question else ""
    cells = "".join(_cell(cell, is_lone=not found.question) for cell in found.cells)
    return (
        f'<section class="card story"><h3>Prompt <span class="muted">{escape(found.title)}</span>'
        f'</h3>{question}<div class="columns">{cells}</div></section>'
    )


def _cell(cell: completions.Cell, is_lone: bool) -> str:
    row = cell.row
    outcome = str(row.get("outcome", "not graded"))
    kind = "right" if completions.is_right(row) else "wrong"
    length = f"{row.get('length', '?')} tokens"
    if row.get("stop") == "length":
        length += ", cut off"
    facts = [
        f"{cell.num_right} of {cell.num_samples} samples right",
        length,
        f"reward {number(row.get('reward'))}",
    ]
    if isinstance(parts := row.get("parts"), Mapping):
        facts += [f"{name} {number(value)}" for name, value in parts.items()]
    question = f'<p class="question">{escape(row.get("question", ""))}</p>' if is_lone else ""
    return (
        f'<article class="cell {kind}"><header><b>{escape(cell.title)}</b> · '
        f'<span class="verdict">{escape(outcome)}</span><br>'
        f"{escape(' · '.join(facts))}</header>{question}"
        f"<pre>{marked(str(row.get('completion', '')).strip())}</pre></article>"
    )
