"""Claims: the verdict is the interval's; arms that lack seeds are not run; the table is whole."""

import json

import pytest

from r1_jax.cli import claims as command
from r1_jax.pipeline import sweep
from r1_jax.reports import claims, claims_page


def _verdicts(workdir):
    arms = claims.Arms(workdir)
    return {claim.number: claim.judge(arms) for claim in claims.CLAIMS}


def _chain(workdir, seed, **rows):
    folder = workdir / "chain" / f"seed{seed}" / "standing"
    folder.mkdir(parents=True)
    table = [{"model": name.replace("_", " "), **row} for name, row in rows.items()]
    (folder / "table.json").write_text(json.dumps(table))


def _row(accuracy, language=0.5, general=0.0, readable=0.5):
    return {
        "pass@1": accuracy, "language": language, "general/pass@1": general, "readable": readable,
    }  # fmt: skip


def _chains(workdir, num=3, **changes):
    for seed in range(num):
        noise = 0.01 * seed
        rows = {
            "R1-Zero": _row(0.6 + noise),
            "Dev1": _row(0.4),
            "Dev2": _row(0.58 + noise, language=0.95),
            "Dev3": _row(0.5, general=0.6 + noise),
            "R1": _row(0.6, language=0.9, general=0.7 - noise, readable=0.9),
            "distilled_student": _row(0.5 + noise),
            "RL_on_the_student": _row(0.3),
        }
        _chain(workdir, seed, **(rows | changes))


def test_with_nothing_there_nothing_is_claimed(tmp_path):
    assert {of.verdict for of in _verdicts(tmp_path).values()} == {claims.NOT_RUN}


def test_runs_that_rise_reproduce_and_two_seeds_do_not_count(tmp_path, make_run):
    for seed in range(2):
        make_run(f"quickstart/r1_zero_countdown/seed{seed}", seed=seed)
    assert _verdicts(tmp_path)[1].verdict == claims.NOT_RUN
    make_run("quickstart/r1_zero_countdown/seed2", seed=2)
    found = _verdicts(tmp_path)
    for number in (1, 2, 3):
        assert found[number].verdict == claims.YES and "n = 3" in found[number].ours
    assert "length x" in found[1].ours


def test_runs_that_fall_do_not_reproduce(tmp_path, make_run):
    for seed in range(3):
        make_run(f"quickstart/r1_zero_countdown/seed{seed}", seed=seed, gain=-0.1)
        make_run(f"reward/variant=coin/seed{seed}", seed=seed, gain=0.3)
    found = _verdicts(tmp_path)
    assert found[1].verdict == claims.NO
    assert found[13].verdict == claims.NO  # a random reward that helps


def test_an_unfinished_run_is_no_seed(tmp_path, make_run):
    for seed in range(3):
        path = make_run(f"reward/variant=coin/seed{seed}", seed=seed, gain=0.0)
    assert _verdicts(tmp_path)[13].verdict == claims.YES
    config = json.loads((path / "config.json").read_text())
    config["grpo"]["num_steps"] = 10_000
    (path / "config.json").write_text(json.dumps(config))
    assert _verdicts(tmp_path)[13].verdict == claims.NOT_RUN


@pytest.mark.parametrize(("behind", "verdict"), [(-0.5, claims.YES), (-0.1, claims.NO)])
def test_a_coin_that_was_compared_with_rules_needs_no_runs(behind, verdict, tmp_path, make_run):
    for seed in range(3):
        make_run(f"quickstart/r1_zero_countdown/seed{seed}", seed=seed, gain=0.5)
    seeds = {"mean": behind, "low": behind - 0.02, "high": behind + 0.02, "p": 0.001, "num": 3}
    cell = {"metric": "pass@1", "what": "variant=coin", "seeds": seeds}
    path = tmp_path / "reward" / "report" / "comparison.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"cells": [cell]}))
    found = _verdicts(tmp_path)[13]
    assert found.verdict == verdict and "n = 3" in found.ours


def test_chains_are_held_against_the_paper_s_order(tmp_path):
    _chains(tmp_path)
    found = _verdicts(tmp_path)
    assert [found[number].verdict for number in (5, 6, 7)] == [claims.YES] * 3
    assert "+0.450 [+0.450, +0.450]" in found[5].ours


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (5, {"Dev2": _row(0.45, language=0.95)}),  # at a large cost
        (5, {"Dev2": _row(0.6, language=0.5)}),
        (6, {"Dev1": _row(0.7)}),
        (6, {"R1": _row(0.6, general=0.6)}),
        (7, {"distilled_student": _row(0.2)}),
    ],
)
def test_a_chain_that_comes_out_otherwise_does_not_reproduce(number, changes, tmp_path):
    _chains(tmp_path, **changes)
    assert _verdicts(tmp_path)[number].verdict == claims.NO


def test_the_page_has_every_claim(tmp_path):
    _chains(tmp_path)
    path, lines = claims_page.write(tmp_path)
    text = path.read_text()
    claimed, standing, asked = text.split("\n\n# ")
    assert len(lines) == 13 == claimed.count("\n| ") - 2  # head and rule
    assert all(line.count("|") == 5 for line in claimed.splitlines() if line.startswith("|"))
    assert "| R1-Zero | 3 | 0.610 ± 0.010 |" in standing and standing.count("\n| ") == 2 + 7
    assert asked.count("| in its whole interval |") == 4
    assert "reproduced" in (tmp_path / "claims.html").read_text()


def test_every_arm_has_commands_and_sweeps_have_the_cells_that_are_read(tmp_path):
    for claim in claims.CLAIMS:
        for arm in claim.arms:
            assert command.words(arm, tmp_path, 1)
    assert claims.CLAIMS[7].arms == ("chain", "preference")  # the second is made from the first
    (words,) = command.words("preference", tmp_path, 1)
    assert f"--config.base={tmp_path}/chain/seed0/dev3/policy.safetensors" in words
    (words,) = command.words("length", tmp_path, 1)
    names = [cell.name for cell in sweep.cells([words[words.index("--grid") + 1]], "x")]
    assert names == [f"response_schedule={name}" for name in ("0_96", "0_96_50_176")]
    (words,) = command.words("advantage", tmp_path, 1)
    grids = [words[i + 1] for i, word in enumerate(words) if word == "--grid"]
    names = [cell.name for cell in sweep.cells(grids, "x")]
    assert names == ["advantage=mean_only,aggregation=constant_length"]
    reported = command.words("kl", tmp_path, 1)[1]
    assert reported == ["report", str(tmp_path / "kl")]


@pytest.mark.parametrize(
    ("changes", "number", "said"),
    [
        ({"R1": _row(0.6, language=0.69, readable=0.9)}, 0, "no"),
        ({"R1": _row(0.6, language=0.9, readable=0.5)}, 1, "in the mean"),  # 0, and no more
        ({"R1": _row(0.54, language=0.9, readable=0.9)}, 2, "no"),
        ({"distilled_student": _row(0.39)}, 3, "no"),
        ({}, 3, "in its whole interval"),
    ],
)
def test_what_is_asked_of_the_chain_is_the_issue_s_numbers(changes, number, said, tmp_path):
    _chains(tmp_path, **changes)
    assert claims_page.bars(claims.Arms(tmp_path))[number][-1] == said


def test_cells_that_are_the_quickstart_are_its_runs(tmp_path, make_run):
    for seed in range(3):
        make_run(f"quickstart/r1_zero_countdown/seed{seed}", seed=seed)
        make_run(f"base_behaviours/variant=no_search/seed{seed}", seed=seed, gain=0.0)
    assert _verdicts(tmp_path)[12].verdict == claims.YES


def test_a_comparison_is_read_where_three_seeds_made_it(tmp_path):
    def cell(name, num):
        seeds = {"mean": 0.02, "low": 0.01, "high": 0.03, "p": 0.01, "num": num}
        return {"metric": "pass@1", "what": name, "seeds": seeds}

    folder = tmp_path / "kl" / "report"
    folder.mkdir(parents=True)
    names = ("variant=none", "variant=k3_0.001", "variant=k3_1")
    for nums, verdict in (((3, 3, 2), claims.NOT_RUN), ((3, 3, 3), "measured")):
        cells = [cell(name, num) for name, num in zip(names, nums, strict=True)]
        (folder / "comparison.json").write_text(json.dumps({"cells": cells}))
        assert _verdicts(tmp_path)[10].verdict.startswith(verdict)


def test_what_is_kept_says_the_same_and_adds_up(tmp_path, make_run):
    for seed in range(3):
        make_run(f"w/quickstart/r1_zero_countdown/seed{seed}", seed=seed)
    _chains(tmp_path / "w")
    assert claims.keep(tmp_path / "w", tmp_path / "kept") >= 3 * 2 + 3
    _chain(tmp_path / "other", 3, **{"R1-Zero": _row(0.6)})
    claims.keep(tmp_path / "other", tmp_path / "kept")
    assert len(claims.Arms(tmp_path / "kept").tables()) == 4
    (tmp_path / "kept" / "chain" / "seed3" / "standing" / "table.json").unlink()
    assert _verdicts(tmp_path / "kept") == _verdicts(tmp_path / "w")
    assert not list((tmp_path / "kept").glob("**/samples"))


@pytest.mark.parametrize(("always", "verdict"), [(0.1, claims.YES), (0.4, claims.NO)])
def test_a_preference_reward_is_hacked_where_it_costs_what_rules_see(
    always, verdict, tmp_path, make_run
):
    for seed in range(3):
        for name, gain in (("rules", 0.3), ("late", 0.3), ("always", always)):
            make_run(f"preference/variant={name}/seed{seed}", seed=seed, gain=gain)
    assert _verdicts(tmp_path)[8].verdict == verdict


def test_a_chain_that_lacks_a_model_counts_where_it_can(tmp_path):
    _chains(tmp_path, num=2)
    rows = {"R1-Zero": _row(0.6), "Dev2": _row(0.6, language=0.95)}
    _chain(tmp_path, 2, **rows)
    found = _verdicts(tmp_path)
    assert found[5].verdict == claims.YES and found[6].verdict == claims.NOT_RUN
    counts = {row[0]: row[1] for row in claims_page.standing(claims.Arms(tmp_path))}
    assert counts["R1-Zero"] == "3" and counts["R1"] == "2"
