import io
import pathlib

import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from r1_jax.reports import figures, plot, runs

FIGURE = figures.Figure(
    "f", "F", "", (figures.Panel("t", (figures.Line("a"), figures.Line("b", source="evals"))),)
)


def group(label, values=(), evals=()):
    rows = [{"step": i, "a": value} for i, value in enumerate(values)]
    evals = [{"step": i, "task": "t", "b": value} for i, value in enumerate(evals)]
    run = runs.Run(pathlib.Path("x"), label, {}, {}, rows, evals, ())
    return runs.Group(label, (run,))


def count(png, color, top=0.0):
    """How many pixels have this colour, up to the smoothing of edges.

    The right edge, where values are written, does not count, nor the share `top` with the legend.
    """
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    image = image[int(image.shape[0] * top) :, : int(image.shape[1] * 0.85)]
    distance = abs(image - np.array(colors.to_rgb(color)) * 255).sum(axis=-1)
    return int((distance < 60).sum())


@pytest.mark.parametrize("figure", figures.FIGURES, ids=lambda figure: figure.name)
def test_every_figure_can_be_drawn_of_nothing(figure):
    png = plot.png(figure, [group("empty")])
    image = Image.open(io.BytesIO(png))
    assert image.size == (832 * len(figure.panels), 528)
    assert count(png, plot._COLORS[0]) == 0
    assert count(png, plot._MUTED) > 50  # "no values yet"


def test_one_run_has_a_colour_per_line():
    png = plot.png(FIGURE, [group("one", range(10), range(5))])
    assert all(count(png, color, top=0.25) > 1000 for color in plot._COLORS[:2])
    assert count(png, plot._COLORS[2]) == 0


def test_several_runs_have_a_colour_each():
    groups = [group(f"g{i}", [j + 3 * i for j in range(10)]) for i in range(3)]
    png = plot.png(FIGURE, groups)
    assert all(count(png, color, top=0.25) > 1000 for color in plot._COLORS[:3])
    assert count(png, plot._COLORS[3]) == 0


def test_one_single_row_is_visible():
    assert count(plot.png(FIGURE, [group("one", [3.0])]), plot._COLORS[0]) > 20


@pytest.mark.parametrize("values", [[0.0], [1e-9, 1e-5], [0.0, 1e-5], [None, 0.9], [-1.0, 0.5]])
@pytest.mark.parametrize("kind", ["is_share", "is_log", ""])
def test_no_value_stops_the_drawing(values, kind):
    panel = figures.Panel("t", (figures.Line("a"),), **({kind: True} if kind else {}))
    png = plot.png(figures.Figure("f", "F", "", (panel,)), [group("one", values)])
    assert count(png, plot._COLORS[0]) > 5


def test_the_same_run_gives_the_same_bytes():
    assert plot.png(FIGURE, [group("g", [1, 2])]) == plot.png(FIGURE, [group("g", [1, 2])])
