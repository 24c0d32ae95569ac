"""Figures drawn: figures.Figure and groups of runs in, PNG bytes out."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from r1_jax.reports import curves, figures, runs

# Okabe and Ito: told apart with every kind of colour vision, and in print.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))
_INK, _MUTED = "#1f2933", "#66727f"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": "#b8c1ca",
    "axes.labelcolor": _MUTED,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e8ec",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def png(figure: figures.Figure, groups: Sequence[runs.Group]) -> bytes:
    """Returns `figure` of `groups` as a PNG; a panel without values says so.

    One group: a colour per line. Several: a colour per group, a dash pattern per line.
    """
    import matplotlib
    from matplotlib.figure import Figure

    count = len(figure.panels)
    height = 3.3 if len(groups) == 1 else 3.8  # inches; the legend is longer
    with matplotlib.rc_context(_STYLE):
        canvas = Figure(figsize=(5.2 * count, height), layout="constrained", dpi=160)
        for axes, panel in zip(
            canvas.subplots(1, count, squeeze=False)[0], figure.panels, strict=True
        ):
            _draw_panel(axes, panel, groups)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_panel(axes, panel: figures.Panel, groups: Sequence[runs.Group]) -> None:
    axes.set_xlabel("step")
    is_alone = len(groups) == 1
    lines = [
        (line, key)
        for line in panel.lines
        for key in curves.keys(groups, line.source, line.pattern)
    ]
    ends = []  # (step, value, colour) of each curve's last value
    for g, group in enumerate(groups):
        for i, (line, key) in enumerate(lines):
            curve = curves.curve(group, line.source, key, line.band)
            if curve is None:
                continue
            num_values = np.isfinite(curve.value_N).sum()  # a lone one is no line
            look = {
                "color": _COLORS[(i if is_alone else g) % len(_COLORS)],
                "linestyle": "-" if is_alone else _DASHES[i % len(_DASHES)],
                "marker": "o" if line.source == "evals" or num_values == 1 else "",
            }
            _draw_curve(axes, curve, look, has_raw=is_alone)
            if is_alone or i == 0:
                last = np.flatnonzero(np.isfinite(curve.value_N))[-1]
                ends.append((curve.step_N[last], curve.value_N[last], look["color"]))
    rows = _legend(axes, [figures.label(*line) for line in lines], [g.label for g in groups])
    axes.set_title(
        panel.title, loc="left", pad=7 + 15 * rows, fontsize=10.5, fontweight="bold", color=_INK
    )
    if not axes.lines:
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no values yet", transform=axes.transAxes, ha="center", color=_MUTED)
        return
    _scale(axes, panel)
    _label_ends(axes, panel, ends)


def _legend(axes, lines: Sequence[str], groups: Sequence[str]) -> int:
    """Explains colours, and dash patterns if groups have several lines; returns the rows it takes.

    It lies between title and axes, where it covers no data.
    """
    from matplotlib.lines import Line2D

    colored = lines if len(groups) == 1 else groups
    dashed = [] if len(groups) == 1 else lines
    handles = [
        Line2D([], [], color=_COLORS[i % len(_COLORS)], linewidth=1.9, label=label)
        for i, label in enumerate(colored)
        if len(colored) > 1
    ] + [
        Line2D([], [], color=_MUTED, linestyle=_DASHES[i % len(_DASHES)], label=label)
        for i, label in enumerate(dashed)
        if len(dashed) > 1
    ]
    if not handles:
        return 0
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), 54 // (longest + 5)))  # about 54 letters fit in a row
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        handlelength=1.6,
        columnspacing=1.4,
        borderaxespad=0.2,
        borderpad=0.1,
    )
    return math.ceil(len(handles) / columns)


def _draw_curve(axes, curve: curves.Curve, look: dict[str, Any], has_raw: bool) -> None:
    if curve.low_N is not None:
        axes.fill_between(
            curve.step_N, curve.low_N, curve.high_N, color=look["color"], alpha=0.16, linewidth=0
        )
    if has_raw and curve.raw_N is not None:
        axes.plot(curve.step_N, curve.raw_N, color=look["color"], alpha=0.25, linewidth=0.7)
    is_value_N = np.isfinite(curve.value_N)
    axes.plot(
        curve.step_N[is_value_N], curve.value_N[is_value_N], linewidth=1.9, markersize=4, **look
    )


def _scale(axes, panel: figures.Panel) -> None:
    from matplotlib import ticker

    axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    if panel.is_share:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
        return
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    if panel.is_log and np.nanmin(values) > 0:
        axes.set_yscale("log")
    elif np.nanmin(values) >= 0:  # an axis that starts at 0 does not exaggerate
        axes.set_ylim(0.0, axes.get_ylim()[1])


def _label_ends(axes, panel: figures.Panel, ends) -> None:
    """Writes each curve's last value at the right edge, pushed apart where they would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    if not ends:
        return
    ends = sorted(ends, key=lambda end: end[1])
    height_N = np.array([to_axes.transform((step, value))[1] for step, value, _ in ends])
    for _ in range(100):  # neighbours push each other, half the overlap each
        overlap = np.maximum(0.07 - np.diff(height_N), 0.0) / 2
        height_N[1:] += overlap
        height_N[:-1] -= overlap
    height_N -= max(height_N[-1] - 1.0, 0.0)  # a pile at the top stays beside the axes
    for height, (_, value, color) in zip(height_N, ends, strict=True):
        text = (
            f"{value:.1%}" if panel.is_share else f"{value:.3g}" if value < 100 else f"{value:.0f}"
        )
        axes.annotate(
            text, (1.01, height), xycoords="axes fraction", va="center", fontsize=9, color=color
        )
