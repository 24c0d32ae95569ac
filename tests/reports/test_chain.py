"""The page of a chain: stages in order, the table, what was dropped, hostile text as text."""

import json

import pytest

from r1_jax.reports import chain


def _done(folder, parents, commit="c" * 40, dirty=False):
    folder.mkdir(parents=True, exist_ok=True)
    marker = {"stage": folder.name, "parents": parents, "output": "policy.safetensors"}
    marker |= {"digest": folder.name[:1] * 64, "commit": commit, "dirty": dirty}
    (folder / "done.json").write_text(json.dumps(marker))


@pytest.fixture
def workdir(tmp_path, make_run):
    make_run("zeta")
    _done(tmp_path / "zeta", {})
    _done(tmp_path / "data", {"zeta": "z" * 64})
    (tmp_path / "data" / "fate.json").write_text(json.dumps({"kept": 417, "language": 23}))
    _done(tmp_path / "alpha", {"data": "d" * 64}, dirty=True)
    _done(tmp_path / "standing", {"zeta": "z" * 64, "alpha": "a" * 64})
    rows = []
    for model, value in (("R1-Zero", 0.25), ("R1", 0.75)):
        rows.append({"model": model, "pass@1": value, "pass@1_low": 0.125, "pass@1_high": 0.875})
        rows[-1] |= {"cons@16": None, "language": 0.5}
        samples = [
            {"question": "<b>What?</b>", "completion": f"<script>{model} says</script>"},
            {"question": "<b>What?</b>", "completion": "no", "outcome": "right"},
        ]
        text = "".join(json.dumps(line) + "\n" for line in [rows[-1], *samples])
        (tmp_path / "standing" / f"{model}.jsonl").write_text(text)
    (tmp_path / "standing" / "table.json").write_text(json.dumps(rows))
    return tmp_path


def test_stages_stand_after_what_they_were_made_from_and_the_table_has_a_column_a_model(workdir):
    html = chain.write(workdir).read_text()
    stages = html[html.index("<h2>Stages</h2>") :]
    positions = [stages.index(f">{name}<") for name in ("zeta", "data", "alpha", "standing")]
    assert positions == sorted(positions)
    assert "cccccccccccc with changes" in html
    assert "0.25 [0.125, 0.875]" in html and "0.75 [0.125, 0.875]" in html
    assert html.index("R1-Zero") < html.index(">R1<")
    assert "language</td>" in html and "cons@16" not in html  # which no model has
    assert "417" in html and "data:image/png" in html


def test_what_a_model_wrote_is_text(workdir):
    html = chain.write(workdir).read_text()
    assert "<script>" not in html and "<b>What?" not in html
    assert "R1-Zero says" in html and "1 of 2 samples right" in html


def test_a_chain_that_has_just_begun_has_a_page_and_an_empty_folder_has_none(tmp_path):
    with pytest.raises(ValueError, match="no stage that is done"):
        chain.write(tmp_path)
    _done(tmp_path / "base", {})
    assert "1 stages" in chain.write(tmp_path).read_text()
