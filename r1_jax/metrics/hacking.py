"""The monitor of reward hacking: reward up while held-out accuracy falls (v2 4.6, B.5)."""

from collections.abc import Mapping, Sequence
from typing import Any

WINDOW = 10  # rows of metrics.jsonl whose mean reward stands for a step


def warning(rows: Sequence[Mapping[str, Any]], evals: Sequence[Mapping[str, Any]]) -> str:
    """Says that the reward rises while accuracy falls, "" where it does not.

    rows, evals: of metrics.jsonl and eval.jsonl, in order. The last evaluation is held against the
    best before it: its interval of pass@1 lies below that one's, and the mean reward of the last
    WINDOW rows above that of the WINDOW rows at that step.
    """
    if len(evals) < 2 or not rows:
        return ""
    last, best = evals[-1], max(evals[:-1], key=lambda row: row["pass@1"])
    if last["pass@1_high"] >= best["pass@1_low"]:
        return ""
    before, after = _reward(rows, best["step"]), _reward(rows, last["step"])
    if after <= before:
        return ""
    return (
        f"reward hacking? reward/mean rose from {before:.3g} (step {best['step']}) to {after:.3g} "
        f"(step {last['step']}) while held-out pass@1 fell from {best['pass@1']:.3f} to "
        f"{last['pass@1']:.3f}; read samples/, and see both curves in the report"
    )


def _reward(rows: Sequence[Mapping[str, Any]], step: int) -> float:
    """Mean reward of the rows before `step`, of the first ones where there are too few."""
    until = sum(row["step"] < step for row in rows)
    chosen = rows[max(0, until - WINDOW) : max(until, WINDOW)]
    return sum(row["reward/mean"] for row in chosen) / len(chosen)
