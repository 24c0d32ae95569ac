"""The comparison's page: whole, self-contained, with every number and whence it comes."""

import io
import json

import pytest
from PIL import Image

from r1_jax.reports import ablations_page, figures, plot
from tests.reports.conftest import ONE_KEY
from tests.reports.test_emergence import assert_self_contained


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """Figures are drawn in other tests; here one grey pixel stands for each."""
    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, "png")
    monkeypatch.setattr(plot, "png", lambda figure, groups: pixel.getvalue())


def test_the_page_tells_what_moved_with_n_and_provenance(make_sweep):
    report, lines = ablations_page.write(make_sweep(ONE_KEY))
    page = assert_self_contained(report.read_text("utf-8"))
    text = " ".join(page.text.split())
    for expected in (
        "sweep: 3 cells x 3 seeds",
        "configs/x.py · baseline kl=0 · swept at commit 0123456789ab",
        "Which settings moved which metric",
        "moved",
        "(n = 3)",
        "(n = 2)",
        "difference, over problems",
        "Holm's p",
        "kl=2, seed 2: no rows",
        "0123456789ab",
        "grpo.kl_coef012",  # settings that differ
        "with the 3 seeds of a comparison here (t, degrees of freedom: 2)",
        "same in every seed",
    ):
        assert expected in text, expected
    assert "*" not in text
    images = [a for tag, a in page.elements if tag == "img"]
    assert len(images) == len(figures.FIGURES)
    assert lines[0].startswith("baseline kl=0") and any("kl=1" in line for line in lines)
    found = json.loads((report.parent / "comparison.json").read_text())
    one = next(c for c in found["cells"] if (c["metric"], c["what"]) == ("pass@1", "kl=1"))
    assert one["seeds"]["num"] == 3 and one["verdict"] == "moved"


def test_a_sweep_of_one_cell_has_a_page_too(make_sweep):
    report, _ = ablations_page.write(make_sweep({"only": ({}, 0.1, (0, 1, 2))}))
    page = assert_self_contained(report.read_text("utf-8"))
    assert "no finished run of another cell" in page.text


def test_hostile_names_are_text(make_sweep):
    path = make_sweep(ONE_KEY)
    record = json.loads((path / "sweep.json").read_text())
    record["config"] = "<script>alert(1)</script>"
    (path / "sweep.json").write_text(json.dumps(record))
    page = assert_self_contained(ablations_page.write(path)[0].read_text("utf-8"))
    assert "<script>alert(1)</script>" in page.text
