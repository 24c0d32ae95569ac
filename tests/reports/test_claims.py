"""Claims: the verdict is the interval's; arms that lack seeds are not run; the table is whole."""

import json

import pytest

from r1_jax.cli import claims as command
from r1_jax.pipeline import sweep
from r1_jax.reports import claims


def _verdicts(workdir):
    arms = claims.Arms(workdir)
    return {claim.number: claim.judge(arms) for claim in claims.CLAIMS}


def _chain(workdir, seed, **rows):
    folder = workdir / "chain" / f"seed{seed}" / "standing"
    folder.mkdir(parents=True)
    table = [{"model": name.replace("_", " "), **row} for name, row in rows.items()]
    (folder / "table.json").write_text(json.dumps(table))


def _row(accuracy, language=0.5, general=0.0):
    return {"pass@1": accuracy, "language": language, "general/pass@1": general}


def _chains(workdir, num=3, **changes):
    for seed in range(num):
        noise = 0.01 * seed
        rows = {
            "R1-Zero": _row(0.6 + noise),
            "Dev1": _row(0.4),
            "Dev2": _row(0.58 + noise, language=0.95),
            "Dev3": _row(0.5, general=0.6 + noise),
            "R1": _row(0.6, general=0.7 - noise),
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
    path, lines = claims.write(tmp_path)
    text = path.read_text()
    assert len(lines) == 13 == text.count("\n| ") - 2  # head and rule
    assert all(line.count("|") == 5 for line in text.splitlines() if line.startswith("|"))
    assert "reproduced" in (tmp_path / "claims.html").read_text()


def test_every_arm_but_one_has_commands_and_sweeps_have_the_cells_that_are_read(tmp_path):
    for claim in claims.CLAIMS:
        for arm in claim.arms:
            if arm == "preference":
                with pytest.raises(ValueError, match="no runs yet"):
                    command.words(arm, tmp_path, 1)
                continue
            assert command.words(arm, tmp_path, 1)
    (words,) = command.words("length", tmp_path, 1)
    names = [cell.name for cell in sweep.cells([words[words.index("--grid") + 1]], "x")]
    assert names == [f"response_schedule={name}" for name in ("_", "0_96", "0_96_50_176")]
    (words,) = command.words("advantage", tmp_path, 1)
    grids = [words[i + 1] for i, word in enumerate(words) if word == "--grid"]
    names = [cell.name for cell in sweep.cells(grids, "x")]
    assert "advantage=mean_only,aggregation=constant_length" in names
