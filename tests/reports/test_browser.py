"""The report in a real browser: Debian's chromium, headless, from disk."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from r1_jax.metrics import jsonl
from r1_jax.reports import emergence, figures

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='hacked'</script><img src='http://127.0.0.1:9/x.png'>"
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  const asked = performance.getEntriesByType("resource").map(entry => entry.name);
  document.body.dataset.probe = JSON.stringify({
    images: images.length,
    drawn: images.filter(image => image.complete && image.naturalWidth > 0).length,
    requests: asked.filter(name => !name.startsWith("data:")).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    title: document.title,
  });
});</script></body>"""


def chromium(profile, url, *flags):
    """Runs chromium headless on `url` with a fresh profile; returns its standard output."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program is not None, "no chromium: apt-get install chromium"
    command = [
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--window-size=1240,2000",
        f"--user-data-dir={profile}",
        *flags,
        url,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


@pytest.fixture
def report(make_run):
    path = make_run()
    for file in (path / "samples").glob("eval_step_*.jsonl"):
        rows, _ = jsonl.read(file)
        jsonl.write(file, [row | {"completion": HOSTILE + row["completion"]} for row in rows])
    return emergence.write([path])[0]


def test_every_figure_is_drawn_and_nothing_is_asked_of_the_network(report, tmp_path):
    # The page's own policy forbids scripts; a copy lets this one in to look around.
    text = report.read_text("utf-8")
    assert text.count("</body>") == 1
    probed = tmp_path / "probed.html"
    probed.write_text(
        text.replace(
            "default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';"
        ).replace("</body>", PROBE)
    )
    dom = chromium(tmp_path / "profile", probed.as_uri(), "--dump-dom")
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found is not None, dom[-2000:]
    probe = json.loads(html.unescape(found[1]))
    count = len(figures.FIGURES)
    assert probe == {
        "images": count,
        "drawn": count,
        "requests": 0,
        "overflow": 0,
        "title": "run",
    }


def test_the_page_itself_runs_no_script_and_shows_completions_as_text(report, tmp_path):
    probed = tmp_path / "probed.html"
    probed.write_text(report.read_text("utf-8").replace("</body>", PROBE))
    dom = chromium(tmp_path / "profile", probed.as_uri(), "--dump-dom")
    assert "data-probe=" not in dom  # the policy held back even our own script
    assert "<title>run</title>" in dom
    assert "&lt;script&gt;document.title='hacked'&lt;/script&gt;" in dom.replace(
        '<span class="tag">', ""
    ).replace("</span>", "")


def test_the_page_is_not_blank(report, tmp_path):
    picture = tmp_path / "page.png"
    chromium(tmp_path / "profile", report.as_uri(), f"--screenshot={picture}")
    image = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert image.shape == (2000, 1240, 3)
    for color in ((0, 114, 178), (213, 94, 0)):  # the first two curves
        assert (abs(image - color).sum(axis=-1) < 40).sum() > 500
    dark = image.sum(axis=-1) < 300
    assert dark[:400].sum() > 1000 and dark[400:].sum() > 5000  # heading and figures hold text
