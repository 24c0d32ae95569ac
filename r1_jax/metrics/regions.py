"""A profiler's trace, read: seconds by the named scope that an operation was written in."""

import collections
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

# Of an operation's name, what says how it is run and not what it is part of.
_WRAPPER = re.compile(
    r"jit\(.*\)|jvp\(.*\)|transpose\(.*\)|vmap\(.*\)|remat|checkpoint|rematted_computation|while|"
    r"body|cond|closed_call|core_call|custom_[jv]+p_call|shard_map|branch_\d+_fun"
)
_NAMED = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]*)"', re.MULTILINE)


class Region(NamedTuple):
    """Operations of one program, one direction and one named scope."""

    program: str
    scope: str
    seconds: float  # of its operations alone, on all threads or devices
    num_calls: int


def traced(function: Callable[[], None], folder: pathlib.Path) -> list[Region]:
    """Calls `function` under the profiler and returns its regions, the costliest first.

    The trace stays in `folder`, for TensorBoard and Perfetto. Raises ValueError where the device
    wrote no operations into it.
    """
    with jax.profiler.trace(str(folder)):
        function()
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    found = of_trace(jax.profiler.ProfileData.from_file(str(newest)), names())
    if not found:
        raise ValueError(f"{newest} holds no operation of a compiled program: nothing to rank")
    return found


def names() -> dict[tuple[str, str], str]:
    """(program, operation) -> its full name, of every program that is compiled and alive."""
    found: dict[tuple[str, str], str] = {}
    for executable in jax.devices()[0].client.live_executables():
        for module in executable.hlo_modules():
            for operation, name in _NAMED.findall(module.to_string()):
                found[module.name, operation] = name
    return found


def of_trace(trace: Any, names: Mapping[tuple[str, str], str]) -> list[Region]:
    """Regions of a jax.profiler.ProfileData, the costliest first.

    An operation that contains others (a loop) counts without them.
    """
    seconds: dict[tuple[str, str], float] = collections.defaultdict(float)
    calls: collections.Counter[tuple[str, str]] = collections.Counter()
    for plane in trace.planes:
        for line in plane.lines:
            for program, operation, name, own in _own_seconds(line.events):
                key = program, scope(name or names.get((program, operation), ""), operation)
                seconds[key] += own
                calls[key] += 1
    found = [Region(*key, own, calls[key]) for key, own in seconds.items()]
    return sorted(found, key=lambda region: -region.seconds)


def scope(name: str, operation: str) -> str:
    """The region of an operation by its full name, such as "backward layers/block/mlp/down".

    An operation without a scope is called by its own name, without its number.
    """
    *outer, _ = name.split("/") if name else [""]
    parts = [part for part in outer if not _WRAPPER.fullmatch(part)]
    inner = "/".join(parts) or f"({re.sub(r'[.]?[0-9]+$', '', operation)})"
    if "rematted_computation" in name:
        return f"again {inner}"
    return f"backward {inner}" if "transpose(" in name else inner


def table(regions: Iterable[Region], num: int = 10) -> str:
    """The `num` costliest regions as text, one a line."""
    regions = list(regions)
    whole = sum(region.seconds for region in regions)
    rows = [("seconds", "share", "calls", "program", "region")]
    for region in regions[:num]:
        share = f"{region.seconds / whole:.1%}"
        calls = str(region.num_calls)
        rows.append((f"{region.seconds:.3f}", share, calls, region.program, region.scope))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[:3], widths, strict=False)]
        lines.append("  ".join([*cells, row[3].ljust(widths[3]), row[4]]))
    return "\n".join(lines)


def _own_seconds(events: Iterable[Any]) -> Iterator[tuple[str, str, str, float]]:
    """(program, operation, its full name or "", seconds without those of operations inside)."""
    open_ones: list[list[Any]] = []  # [end, program, operation, name, own nanoseconds]

    def close(before: float) -> Iterator[tuple[str, str, str, float]]:
        while open_ones and open_ones[-1][0] <= before:
            _, *what, own = open_ones.pop()
            yield (*what, own / 1e9)

    found = [(event, dict(event.stats)) for event in events]
    of_programs = [(event, stats) for event, stats in found if "hlo_op" in stats]
    for event, stats in sorted(of_programs, key=lambda x: (x[0].start_ns, -x[0].duration_ns)):
        if str(event.name).startswith("end: "):  # the mark of an operation that ended elsewhere
            continue
        yield from close(event.start_ns)
        if open_ones:
            open_ones[-1][-1] -= event.duration_ns
        end = event.start_ns + event.duration_ns
        what = str(stats.get("hlo_module", "")), str(stats["hlo_op"]), str(stats.get("tf_op", ""))
        open_ones.append([end, *what, event.duration_ns])
    yield from close(float("inf"))
