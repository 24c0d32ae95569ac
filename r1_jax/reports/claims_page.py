"""CLAIMS.md and claims.html: every claim, the chain's models, and what is asked of the chain."""

import os
import pathlib
import statistics

from r1_jax.reports import claims, emergence, markup, page

# What this project asks of its own chain, beside the paper's claims: (second - first, at least).
_BARS = (
    ("language, R1 - R1-Zero", "R1-Zero", "R1", "language", 0.20),
    ("readable, R1 - R1-Zero", "R1-Zero", "R1", "readable", 0.0),
    ("pass@1, R1 - R1-Zero", "R1-Zero", "R1", "pass@1", -0.05),
    ("pass@1, distilled student - RL on the student", "RL on the student", "distilled student",
     "pass@1", 0.10),
)  # fmt: skip
_STANDING = (
    "pass@1",
    "cons@16",
    "length/mean",
    "language",
    "readable",
    "general/pass@1",
    "updates",
)


def bars(arms: claims.Arms) -> list[list[str]]:
    """Rows (what, at least, ours over seeds, whether its mean is; whether its interval is)."""
    rows = []
    for what, first, second, key, least in _BARS:
        values = claims.between(arms, first, second, key)
        found = claims.effect("", values, at_least=least)
        if found is None:
            rows.append([what, f"{least:+.2f}", "-", claims.NOT_RUN])
            continue
        mean = sum(values) / len(values)
        held = "in its whole interval" if found.is_claimed else "in the mean"
        rows.append([what, f"{least:+.2f}", found.text.strip(), held if mean >= least else "no"])
    return rows


def standing(arms: claims.Arms) -> list[list[str]]:
    """A row a model: in how many chains it was measured, and of each metric mean and spread."""
    tables = arms.tables()
    rows = []
    for model in dict.fromkeys(model for table in tables for model in table):
        measured = [table[model] for table in tables if model in table]
        row = [model, str(len(measured))]
        for key in _STANDING:
            values = [of[key] for of in measured if of.get(key) is not None]
            if len(values) < len(measured):
                row.append("-")
                continue
            mean = statistics.fmean(values)
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            digits = 3 if mean < 2 else 1
            row.append(f"{mean:.{digits}f} ± {spread:.{digits}f}")
        rows.append(row)
    return rows


def write(workdir: str | os.PathLike[str]) -> tuple[pathlib.Path, list[str]]:
    """Writes WORKDIR/CLAIMS.md and claims.html from what is there; (CLAIMS.md, a line a claim)."""
    arms = claims.Arms(pathlib.Path(workdir))
    found = [(claim, claim.judge(arms)) for claim in claims.CLAIMS]
    parts: list[tuple[str, str, list[str], list[list[str]]]] = [
        (
            "The paper's claims, as they came out here",
            _how(),
            ["claim", "paper", "ours, 95% over seeds", "verdict"],
            [[f"{one.number}. {one.text}", one.paper, of.ours, of.verdict] for one, of in found],
        )
    ]
    if rows := standing(arms):
        how = "Mean and standard deviation over chains, one a seed; held-out problems."
        parts += [
            ("Where every model of the chain stands", how, ["model", "chains", *_STANDING], rows),
            (
                "What is asked of the chain",
                "Differences over chains, 95% by Student's t.",
                ["difference", "at least", "ours", "holds"],
                bars(arms),
            ),
        ]
    path = arms.workdir / "CLAIMS.md"
    arms.workdir.mkdir(parents=True, exist_ok=True)
    text, body = [], []
    for title, how, head, rows in parts:
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
        text += [f"# {title}", how, "\n".join(lines)]
        table = markup.table(head, rows, is_text=True)
        level = "h2" if body else "h1"
        body += [f"<{level}>{title}</{level}>", f'<p class="muted">{how}</p>']
        body.append(f'<div class="card">{table}</div>')
    emergence.replace(path, ("\n\n".join(text) + "\n").encode())
    html = page.document("claims", body)
    emergence.replace(arms.workdir / "claims.html", html.encode("utf-8"))
    return path, [f"{claim.number:>2}. {of.verdict}: {claim.text}" for claim, of in found]


def _how() -> str:
    return " ".join((claims.__doc__ or "").split("\n\n")[1].split())
