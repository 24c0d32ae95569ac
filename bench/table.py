"""Readings as one table: what `bench.compare` prints in the end, and README.md keeps.

python -m bench.table FILE...      # lines of JSON as `bench.compare` prints them
"""

import json
import pathlib
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

OURS = "r1_jax"  # how the names of our entrants begin; the first one of a work is compared with
HEADS = (
    "work", "entrant", "median s", "least s", "CPU s", "steps", "x ours", "tokens/s",
    "useful share", "peak MiB", "start s, cold", "start s, warm",
)  # fmt: skip

SHARES = (
    "work", "entrant", "decoded tokens/s", "ms a step", "of the copy", "update TFLOP/s",
    "of the product", "device peak GiB",
)  # fmt: skip


def readings(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The lines that are readings of an entrant: JSON objects with a name and a work."""
    found = []
    for line in lines:
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        if "name" in row and "work" in row:
            found.append(row)
    return found


def cells(row: Mapping[str, Any], ours: Mapping[str, Any] | None) -> tuple[str, ...]:
    """A line of the table. ours: the reading it is compared with, None where there is none.

    Raises ValueError for a reading without a timed step.
    """
    seconds = row["step_seconds"]
    if not seconds:
        raise ValueError(f"{row['name']} has no timed step of {row['work']}; run it with --steps=1")
    median = statistics.median(seconds)
    per_token = statistics.median(ours["step_seconds"]) / ours["tokens"] if ours else None
    ratio = "" if per_token is None else f"{median / row['tokens'] / per_token:.2f}"
    share, warm = row.get("useful_share"), row.get("warm_start_seconds")
    return (
        row["work"],
        row["name"],
        f"{median:.2f}",
        f"{min(seconds):.2f}",
        f"{statistics.median(row['cpu_seconds']):.2f}",
        str(len(seconds)),
        ratio,
        f"{row['tokens'] / median:,.0f}",
        "" if share is None else f"{share:.3f}",
        f"{row['peak_bytes'] / 2**20:,.0f}",
        f"{row['start_seconds']:.1f}",
        "" if warm is None else f"{warm:.1f}",
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown table; "x ours" is the median time a token against our first entrant's."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["name"].startswith(OURS):
            first.setdefault(row["work"], row)
    lines = [HEADS, ("---",) * len(HEADS)]
    lines += [cells(row, first.get(row["work"])) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shares(rows: Sequence[Mapping[str, Any]], machines: Sequence[Mapping[str, Any]]) -> str:
    """The table of what was reached of a device's ceilings, the best of `machines`' readings.

    "of the copy": the time in which a decoding step's weights and cache could be read at the pace
    of a copy, in its own time. "of the product": the update's FLOP/s in those of the product.
    """
    found = [row["machine"] for row in machines]
    copy, product = (max(m[name] for m in found) for name in ("copy_gb_s", "matmul_gflops"))
    lines = [SHARES, ("---",) * len(SHARES)]
    for row in rows:
        decoded, updated = ("", "", ""), ("", "")
        if seconds := row.get("decode_seconds"):
            floor = (row["weight_bytes"] + row["cache_bytes"]) / (copy * 1e9)
            speed = row["decode_tokens_per_second"]
            decoded = f"{speed:,.0f}", f"{1e3 * seconds:.2f}", f"{floor / seconds:.3f}"
        if flops := row.get("update_flops"):
            updated = f"{flops / 1e12:.3g}", f"{flops / (product * 1e9):.3f}"
        peak = row.get("device_peak_bytes")
        room = "" if peak is None else f"{peak / 2**30:.1f}"
        lines.append((row["work"], row["name"], *decoded, *updated, room))
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    device = found[0]["device"]
    return f"{text}\n{device}: product {product:,.0f} GFLOP/s, copy {copy:,.0f} GB/s\n"


if __name__ == "__main__":
    text = "\n".join(pathlib.Path(name).read_text() for name in sys.argv[1:])
    sys.stdout.write(table(readings(text.splitlines())))
