"""A sweep's comparison on made-up runs whose differences are known."""

import dataclasses
import itertools
import json

import pytest

from r1_jax.metrics import jsonl
from r1_jax.reports import ablations, ablations_page, paired
from tests.reports.conftest import ONE_KEY


def at(found, metric, what):
    (one,) = [c for c in found if (c.metric, c.what) == (metric, what)]
    return one


def test_differences_are_paired_by_seed_and_tested(make_sweep):
    found = ablations.compare(ablations.read(make_sweep(ONE_KEY)))
    one = at(found, "pass@1", "kl=1")
    base = [0.5 + 0.001 * s + 0.002 * (s == 1) * 0.2 for s in range(3)]
    mine = [0.9 + 0.001 * s + 0.002 * (s == 1) * 0.6 for s in range(3)]
    expected = [b - a for a, b in zip(base, mine, strict=True)]
    assert one.mean == pytest.approx(sum(mine) / 3) and one.seeds is not None
    assert one.seeds == pytest.approx(paired.t_test(expected))
    assert one.problems is not None and one.problems.num == 6  # of the stored samples
    assert one.verdict == "moved"
    two = at(found, "pass@1", "kl=2")
    assert two.seeds is not None and two.seeds.num == 2  # the seeds both have
    baseline = at(found, "pass@1", "kl=0")
    assert baseline.seeds is None and baseline.mean is not None
    assert baseline.adjusted is None


def test_problem_differences_are_those_of_the_samples(make_sweep):
    path = make_sweep({"a": ({}, 0.0, (0,)), "b": ({}, 0.0, (0,))}, seeds=(0,))
    rights = {"a": [[1, 0], [0, 0]], "b": [[1, 1], [0, 1]]}
    for cell, right in rights.items():
        rows = [
            {
                "uid": uid, "sample": g, "outcome": "right" if right[uid][g] else "wrong",
                "length": 10 + g, "stop": "length" if g else "stop", "parts": {"format": 1.0},
                "completion": "wait " * uid,
            }
            for uid, g in itertools.product(range(2), range(2))
        ]  # fmt: skip
        jsonl.write(path / cell / "seed0/samples/eval_step_000020.jsonl", rows)
    found = ablations.compare(ablations.read(path))
    one = at(found, "pass@1", "b")
    assert one.problems is not None and one.seeds is not None
    assert (one.problems.mean, one.problems.num) == (0.5, 2)
    assert one.seeds.num == 1 and one.seeds.p is None and one.verdict == "n = 1"
    by_problem = ablations.by_problem(ablations.read(path).groups[0].runs[0])
    assert by_problem["cut off"] == {0: 0.5, 1: 0.5}
    assert by_problem["length, tokens"] == {0: 10.5, 1: 10.5}
    assert by_problem["reflection words"] == {0: 0.0, 1: 1.0}


@pytest.mark.parametrize(
    ("p", "adjusted", "low", "verdict"),
    [
        (0.001, 0.01, 0.1, "moved"),
        (0.001, 0.01, None, "moved"),
        (0.001, 0.01, -0.1, "perhaps"),
        (0.01, 0.2, 0.1, "perhaps"),
        (0.2, 1.0, 0.1, "not told apart"),
        (None, None, 0.1, "same in every seed"),
    ],
)
def test_a_verdict_asks_for_both_kinds_of_noise(p, adjusted, low, verdict):
    seeds = paired.Paired(0.2, 0.0, 0.4, p, 3)
    problems = None if low is None else paired.Paired(0.2, low, 0.3, None, 9)
    one = ablations.Comparison("m", "a", "b", 0.5, 0.1, seeds, problems, adjusted)
    assert one.verdict == verdict
    same = dataclasses.replace(one, seeds=paired.Paired(0.0, 0.0, 0.0, 1.0, 3))
    assert same.verdict == "same in every seed"


def test_a_setting_is_judged_over_the_other_keys(make_sweep):
    cells = {}
    for (i, a), (j, b) in itertools.product(enumerate("xy"), enumerate("uv")):
        gain = 0.1 + 0.3 * i + 0.05 * j * (1 - i)
        cells[f"a={a},b={b}"] = ({"grpo.a": a, "grpo.b": b}, gain, (0, 1, 2))
    found = ablations.compare_settings(ablations.read(make_sweep(cells)))
    a = at(found, "pass@1", "grpo.a=y")
    assert a.against == "grpo.a=x" and a.seeds is not None
    # Under b=u: +0.3, under b=v: +0.25; and seed 1 adds 0.002 of it.
    assert a.seeds.mean == pytest.approx(0.275 * (1 + 0.002 / 3))
    b = at(found, "pass@1", "grpo.b=v")
    assert b.seeds is not None and b.seeds.mean == pytest.approx(0.025 * (1 + 0.002 / 3))
    one_key = {name: cells[name] for name in ("a=x,b=u", "a=y,b=u")}
    assert ablations.compare_settings(ablations.read(make_sweep(one_key))) != []


def test_unfinished_and_missing_runs_are_told_and_left_out_of_the_tables(make_sweep):
    path = make_sweep(ONE_KEY)
    config = json.loads((path / "kl=1/seed2/config.json").read_text())
    config["grpo"]["num_steps"] = 1000
    (path / "kl=1/seed2/config.json").write_text(json.dumps(config))
    sweep = ablations.read(path)
    notes = "\n".join(sweep.notes)
    assert "kl=1: its runs differ in more than their seed" in notes and "kl=0: its" not in notes
    assert "kl=2, seed 2: no rows" in notes and "kl=1 seed2: not finished" in notes
    one = at(ablations.compare(sweep), "pass@1", "kl=1")
    assert one.seeds is not None and one.seeds.num == 2


def test_doubts_about_what_else_differs_are_told(make_sweep):
    path = make_sweep(ONE_KEY)
    manifest = json.loads((path / "kl=1/seed0/manifest.json").read_text())
    manifest |= {"commit": "f" * 40, "dirty": True}
    (path / "kl=1/seed0/manifest.json").write_text(json.dumps(manifest))
    notes = "\n".join(ablations.read(path).notes)
    assert "several commits: 0123456789ab, ffffffffffff" in notes
    assert "changes that no commit holds" in notes
    assert "differ before the first update" in notes  # the runs are noise from the start


def test_another_baseline_turns_the_signs(make_sweep):
    path = make_sweep(ONE_KEY)
    there = at(ablations.compare(ablations.read(path)), "pass@1", "kl=1").seeds
    back = at(ablations.compare(ablations.read(path, "kl=1")), "pass@1", "kl=0").seeds
    assert there is not None and back is not None and there.mean == -back.mean
    with pytest.raises(ValueError, match="it has kl=0, kl=1, kl=2"):
        ablations.read(path, "kl=9")


def test_more_cells_than_colours_make_more_figures(make_sweep):
    cells = {f"k={i}": ({"grpo.k": str(i)}, 0.1, (0,)) for i in range(9)}
    sweep = ablations.read(make_sweep(cells, seeds=(0,)))
    chunks = [[g.label for g in groups] for groups in ablations_page.chunks(sweep)]
    assert [len(chunk) for chunk in chunks] == [7, 3]
    assert all(chunk[0] == "k=0" for chunk in chunks)
    assert {label for chunk in chunks for label in chunk} == set(cells)
