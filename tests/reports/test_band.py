"""The curve check: a fresh seed passes; another KL coefficient and a broken reward do not."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from r1_jax.metrics import jsonl
from r1_jax.reports import band, runs

SEEDS = range(6)


@pytest.fixture
def seeds(make_run):
    """Runs of one configuration, one a seed; each evaluation noisy as the training rows are."""
    return [make_run(f"seed{seed}", 100, seed) for seed in SEEDS]


def check(path, reference):
    (run,) = runs.read([path])
    return band.check(run, reference)


def edit(path, change, files=("metrics.jsonl", "eval.jsonl")):
    """Rewrites a run's rows as change(row) makes them."""
    for file in files:
        rows, _ = jsonl.read(path / file)
        jsonl.write(path / file, [row | change(row) for row in rows])


# --- the band -----------------------------------------------------------------------------------


def test_the_prediction_interval_by_hand():
    # Values 1..5: mean 3, s 1.5811. One point: t(4, 0.975) = 2.7764, so the half width is
    # 2.7764 * 1.5811 * sqrt(1.2) = 4.8088. Of two points each gets half the 5%: t(4, 0.9875) =
    # 3.4954, so 6.0541.
    point = {"source": "evals", "key": "a", "step": 0, "values": [1.0, 2.0, 3.0, 4.0, 5.0]}
    one = [dict(point)]
    band._enclose(one, 5)
    assert (one[0]["low"], one[0]["high"]) == pytest.approx((3 - 4.8088, 3 + 4.8088), rel=1e-4)
    two = [dict(point), point | {"step": 1, "values": [3.0] * 5}]
    band._enclose(two, 5)
    assert two[0]["high"] == pytest.approx(3 + 6.0541, rel=1e-4)
    # No spread at step 1: a quarter of the median of 1.5811 and 0.
    assert two[1]["high"] == pytest.approx(3 + 6.0541 / 8, rel=1e-4)


def test_a_fresh_seed_stays_inside_as_often_as_the_level_says():
    """800 times: five seeds make a band of 30 correlated points, a sixth is held against it."""
    rng, num_outside = np.random.default_rng(0), 0
    for _ in range(800):
        steps = rng.normal(size=(6, 30)) * np.linspace(0.5, 2, 30)
        curves = 3 + 0.5 * steps + 0.5 * rng.normal(size=(6, 1))
        points = [
            {"source": "rows", "key": "a", "step": i, "values": curves[:5, i].tolist()}
            for i in range(30)
        ]
        band._enclose(points, 5)
        inside = [band._is_inside(curves[5, p["step"]], p) for p in points]
        num_outside += not all(inside)
    assert 0.005 < num_outside / 800 <= 0.05


def test_a_reference_holds_its_values_formula_and_provenance(seeds):
    reference = band.make(seeds[:5])
    json.dumps(reference, allow_nan=False)
    assert [made_of["seed"] for made_of in reference["runs"]] == [0, 1, 2, 3, 4]
    assert all(made_of["commit"].startswith("0123") for made_of in reference["runs"])
    assert reference["config"]["grpo"]["kl_coef"] == 0.001 and "seed" not in reference["config"]
    assert "sqrt(1 + 1/n)" in reference["formula"] and "Assumed" in reference["formula"]
    assert str(seeds[0].parent) not in json.dumps(reference)  # no path of this machine
    steps = [p["step"] for p in reference["points"] if p["key"] == "entropy"]
    assert steps == list(range(0, 100, 10))
    rows, _ = jsonl.read(seeds[1] / "metrics.jsonl")
    point = next(p for p in reference["points"] if (p["key"], p["step"]) == ("entropy", 20))
    assert point["values"][1] == pytest.approx(np.mean([r["entropy"] for r in rows[20:30]]))
    assert {p["step"] for p in reference["points"] if p["key"] == "pass@1"} == {
        0, 20, 40, 60, 80, 100,
    }  # fmt: skip


def test_too_few_mixed_repeated_unfinished_and_nameless_runs_make_no_band(seeds, make_run):
    with pytest.raises(ValueError, match="4 runs; a band needs at least 5"):
        band.make(seeds[:4])
    other = make_run("other", 100, 9, kl_coef=1.0)
    with pytest.raises(ValueError, match=r"differ in grpo\.kl_coef"):
        band.make([*seeds[:4], other])
    again = make_run("again", 100, 0)
    with pytest.raises(ValueError, match="comes twice"):
        band.make([*seeds[:4], again])
    jsonl.keep(seeds[4] / "eval.jsonl", lambda row: row["step"] < 100)
    with pytest.raises(ValueError, match="not been evaluated at its last step"):
        band.make(seeds[:5])
    (seeds[0] / "config.json").unlink()
    with pytest.raises(ValueError, match="whose run"):
        band.make([seeds[i] for i in (0, 1, 2, 3, 5)])


def test_a_run_without_some_values_makes_no_band_but_a_metric_of_none_is_left_out(seeds):
    edit(seeds[0], lambda row: {"kl/reference": None})
    with pytest.raises(ValueError, match="lacks values of kl/reference"):
        band.make(seeds[:5])
    for path in seeds[1:5]:
        edit(path, lambda row: {"kl/reference": None})
    keys = {point["key"] for point in band.make(seeds[:5])["points"]}
    assert "kl/reference" not in keys and "entropy" in keys


# --- the check ----------------------------------------------------------------------------------


def test_a_fresh_seed_passes(seeds):
    findings, notes = check(seeds[5], band.make(seeds[:5]))
    assert not band.is_outside(findings), [f.line() for f in findings]
    assert len(findings) == 10 and all(f.num_points == f.num_reference for f in findings)
    assert len(notes) == 1 and "5 seeds" in notes[0]


def test_a_run_held_at_its_reference_by_kl_1_leaves(seeds, make_run):
    """Little is learnt, and KL stays near 0, as a KL coefficient of 1 makes it."""
    path = make_run("kl", 100, 7, gain=0.05, kl_coef=1.0)
    edit(path, lambda row: {"kl/reference": 0.02 * row.get("kl/reference", 0.0)})
    findings, notes = check(path, band.make(seeds[:5]))
    left = {(f.source, f.key): f.left_at for f in findings}
    assert left["evals", "pass@1"] is not None and left["rows", "kl/reference"] is not None
    assert left["evals", "length/mean"] is None  # what did not change is not accused
    assert any("grpo.kl_coef is 1.0 here, 0.001 in the reference" in note for note in notes)


def test_a_broken_reward_leaves(seeds, make_run):
    """Training looks well by its own reward; held-out accuracy falls and completions shrink."""
    path = make_run("broken", 100, 8, gain=-0.1)
    first, _ = jsonl.read(path / "eval.jsonl")
    edit(path, lambda row: {"length/mean": first[0]["length/mean"] * (1 - row["step"] / 200)})
    findings, _ = check(path, band.make(seeds[:5]))
    lines = {f.key: f.line() for f in findings if f.source == "evals"}
    assert "leaves the band at step" in lines["pass@1"] and "band [" in lines["pass@1"]
    assert "leaves the band" in lines["length/mean"]
    assert "inside (6 of 6 points inside)" in lines["reflection/per_completion"]


def test_the_step_where_a_curve_leaves_is_named(seeds):
    edit(seeds[5], lambda row: {"pass@1": 0.0} if row["step"] >= 60 else {}, ["eval.jsonl"])
    findings, _ = check(seeds[5], band.make(seeds[:5]))
    (one,) = [f for f in findings if f.key == "pass@1"]
    assert one.left_at == 60 and one.num_inside == 3
    assert [f.key for f in findings if f.left_at is not None] == ["pass@1"]


def test_a_value_that_is_none_is_outside_and_a_step_not_reached_is_neither(seeds):
    reference = band.make(seeds[:5])
    for file in ("metrics.jsonl", "eval.jsonl"):
        jsonl.keep(seeds[5] / file, lambda row: row["step"] < 50)
    findings, _ = check(seeds[5], reference)
    assert not band.is_outside(findings)
    assert "3 not reached" in next(f.line() for f in findings if f.key == "pass@1")
    edit(seeds[5], lambda row: {"entropy": float("nan")} if row["step"] == 33 else {})
    findings, _ = check(seeds[5], reference)
    (one,) = [f for f in findings if f.left_at is not None]
    assert (one.key, one.left_at) == ("entropy", 30) and "no value" in one.remark


def test_what_makes_a_comparison_unfair_is_told(seeds):
    reference = band.make(seeds[:5])
    assert any("no fresh seed" in note for note in check(seeds[0], reference)[1])
    edit(seeds[5], lambda row: {"num_problems": 64} if row["step"] == 20 else {}, ["eval.jsonl"])
    assert any("step 20: 64 problems, 512" in note for note in check(seeds[5], reference)[1])


def test_nothing_in_common_and_no_reference_are_errors(seeds, tmp_path):
    reference = band.make(seeds[:5])
    for point in reference["points"]:
        point["step"] += 1000
    with pytest.raises(ValueError, match="no step in common"):
        check(seeds[5], reference)
    with pytest.raises(ValueError, match="is not there"):
        band.read(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="is no reference"):
        band.read(tmp_path / "x.json")


# --- real runs (commit efea861, two CPU cores; curves/ holds the rows that a check reads) --------

REFERENCE = pathlib.Path(__file__).parents[2] / "references" / "r1_zero_countdown.json"
CURVES = pathlib.Path(__file__).parent / "curves"


def _real(name):
    (run,) = runs.read([CURVES / name])
    reference = band.read(REFERENCE)
    findings, notes = band.check(run, reference)
    return {f"{one.source} {one.key}": one.left_at for one in findings}, notes


def test_a_fresh_seed_lies_inside_the_shipped_band():
    left_at, notes = _real("fresh_seed")
    assert set(left_at.values()) == {None}
    assert not any(" here, " in note for note in notes)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("kl_1", "grpo.kl_coef is 1.0 here, 0.04 in the reference"),
        ("coin", "reward.accuracy_weight is 0.0 here, 1.0 in the reference"),
    ],
)
def test_too_much_kl_and_a_broken_reward_leave_the_shipped_band(name, note):
    left_at, notes = _real(name)
    assert left_at["evals pass@1"] == 40 and left_at["rows reward/accuracy"] == 10
    assert note in notes


def test_settings_that_a_reference_did_not_have_are_one_note(tmp_path):
    shutil.copytree(CURVES / "kl_1", tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"new": {"a": 1, "b": 2}}))
    (run,) = runs.read([tmp_path / "run"])
    _, notes = band.check(run, band.read(REFERENCE))
    assert "settings that the reference's code did not have yet: new.a, new.b" in notes
