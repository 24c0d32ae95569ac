"""A plan's report as a table for people."""

from typing import Any

HEAD = (
    "phase", "HBM GiB", "of", "fits", "TFLOP", "HBM traffic GiB", "collectives GiB", "s", "bound",
)  # fmt: skip


def table(report: dict[str, Any]) -> str:
    """Markdown: a row a phase, then sums."""
    rows = [HEAD, ("---",) * len(HEAD)]
    for phase in report["phases"]:
        sent = ", ".join(f"{axes} {gib:.2f}" for axes, gib in phase["collective_gib"].items())
        rows.append((
            phase["name"],
            f"{phase['hbm_gib']:.2f}",
            f"{phase['limit_gib']:.2f}",
            "yes" if phase["fits"] else "no",
            _shown(phase["tflop"], ".1f"),
            _shown(phase["hbm_traffic_gib"], ".1f"),
            sent or "-",
            _shown(phase["roofline_seconds"], ".3g"),
            phase["bound_by"] or "-",
        ))  # fmt: skip
    mesh = " x ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    where = f"{report['topology']}, {report['num_chips']} chips"
    lines = [f"{where}, {report['kind']}, mesh {mesh}; figures are a chip's", ""]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.append("")
    for phase in report["phases"]:
        memory = ", ".join(f"{name} {gib:.2f}" for name, gib in phase["memory"].items())
        lines.append(f"{phase['name']}: {memory}{'; ' if phase['advice'] else ''}{phase['advice']}")
    save = report["phases"][-1]
    lines.append(
        f"a checkpoint is {save['checkpoint_gib']:.1f} GiB, {save['host_gib']:.1f} GiB a host"
    )
    if report["hours"] is None:
        lines.append("hours are not known: the compiler refuses a phase for its memory")
        return "\n".join(lines)
    lines.append(
        f"{report['num_steps']} updates: at least {report['hours']:.3g} hours, "
        f"{report['chip_hours']:.3g} chip-hours, at most {report['tokens_per_second']:.3g} tokens/s"
    )
    return "\n".join(lines)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
