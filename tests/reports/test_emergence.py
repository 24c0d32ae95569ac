import base64
import html.parser
import io
import re

import pytest
from PIL import Image

from r1_jax.metrics import jsonl
from r1_jax.reports import emergence, figures, plot

REQUIRED = {"accuracy", "length", "reflection", "kl", "entropy", "clip", "reward"}
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Elements with their attributes, text, and whether every element is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.open = [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def assert_self_contained(text):
    """No element, style or policy of the page can make a browser ask the network for anything."""
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "srcset", "data", "action", "poster", "background"}:
                assert value.startswith("data:image/png;base64,"), (tag, name)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    policies = [a["content"] for t, a in page.elements if a.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    return page


def test_a_run_gives_one_page_and_its_figures(make_run):
    path = make_run()
    report, lines = emergence.write([path])
    assert report == path / "report/report.html"
    names = {p.stem for p in report.parent.glob("*.png")}
    assert names == {figure.name for figure in figures.FIGURES} >= REQUIRED
    assert {p.suffix for p in report.parent.iterdir()} == {".png", ".html"}  # nothing left over
    page = assert_self_contained(report.read_text("utf-8"))
    images = [a["src"].partition(",")[2] for tag, a in page.elements if tag == "img"]
    pngs = [(report.parent / f"{figure.name}.png").read_bytes() for figure in figures.FIGURES]
    assert [base64.b64decode(image) for image in images] == pngs
    assert len(lines) == 5 and lines[0].startswith("pass@1 ")
    text = " ".join(page.text.split())
    for expected in (
        "task countdown · commit 0123456789ab · seed 0 · 120 steps logged",
        "grpo.kl_coef 0.001",
        "chosen: the prompt with the largest change",
        "7 evaluations",
        "rollout300.05m00s",
        "versions.jax0.10.2",
        "Using the numbers [3, 5, 7]",
    ):
        assert expected in text, expected


@pytest.fixture
def no_drawing(monkeypatch):
    """Figures are drawn in other tests; here one grey pixel stands for each."""
    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, "png")
    monkeypatch.setattr(plot, "png", lambda figure, groups: pixel.getvalue())


@pytest.mark.usefixtures("no_drawing")
def test_what_a_model_writes_is_text_and_nothing_else(make_run):
    path = make_run("<script>name", num_steps=20)
    hostile = "</pre></main><script>alert(1)</script><img src='http://evil.example/x.png'>"
    for file in (path / "samples").glob("eval_step_*.jsonl"):
        rows, _ = jsonl.read(file)
        for row in rows:
            row |= {
                "completion": hostile,
                "question": hostile,
                "outcome": hostile,
                "length": hostile,
            }
            row["parts"] = {hostile: 1.0}
        jsonl.write(file, rows)
    for file, key in (("config.json", "seed"), ("manifest.json", "commit")):
        text = (path / file).read_text()
        (path / file).write_text(
            text.replace(f'"{key}"', f'"{hostile}": 1, "{key}"').replace("countdown", hostile)
        )
    page = assert_self_contained(emergence.write([path])[0].read_text("utf-8"))
    assert page.text.count(hostile) >= 8


@pytest.mark.usefixtures("no_drawing")
def test_seeds_and_another_configuration_are_overlaid(make_run, tmp_path):
    paths = [make_run(f"kl_seed{seed}", 20, seed) for seed in range(2)]
    paths.append(make_run("free", 20, gain=0.1, kl_coef=0.0))
    report, lines = emergence.write(paths, out=tmp_path / "out")
    assert report == tmp_path / "out/report.html"
    assert not (paths[0] / "report").exists()
    assert [line for line in lines if line.endswith(":")] == ["kl_seed0:", "kl_seed1:", "free:"]
    assert len(lines) == 18
    text = " ".join(assert_self_contained(report.read_text("utf-8")).text.split())
    assert "kl (2 runs), free" in text
    assert "grpo.kl_coef0.0010.0" in text
    assert "through training of kl_seed0" in text


def test_a_page_is_drawn_of_whatever_a_run_has_written_so_far(make_run):
    path = make_run(num_steps=1, eval_every=0, files=False)
    with open(path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 1, "rew')
    for sample in (path / "samples").iterdir():
        sample.unlink()
    report, lines = emergence.write([path])
    page = assert_self_contained(report.read_text("utf-8"))
    for note in ("half a line", "no evaluation yet", "no config.json", "no completions"):
        assert note in page.text
    assert "not evaluated" in lines[0]
    assert len([tag for tag, _ in page.elements if tag == "img"]) == len(figures.FIGURES)


@pytest.mark.usefixtures("no_drawing")
def test_only_evaluations_are_enough(make_run):
    path = make_run(num_steps=20)
    (path / "metrics.jsonl").unlink()
    _, lines = emergence.write([path])
    assert lines[0].startswith("pass@1 ")


def test_no_run_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no row"):
        emergence.write([tmp_path / "empty"])
    assert list((tmp_path / "empty").iterdir()) == []
