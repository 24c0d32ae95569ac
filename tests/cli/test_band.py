"""band and report --against, from run directories to exit statuses."""

import json

import pytest

from r1_jax.cli import band, report
from r1_jax.metrics import log, names


@pytest.fixture
def make_run(tmp_path):
    """Returns make(name, seed, gain) -> path of a finished run of 20 updates."""

    def make(name, seed, gain=1.0):
        path = tmp_path / name
        with log.MetricsLog(path) as metrics:
            for step in range(21):
                value = gain * step / 20 + 0.003 * ((seed * 7 + step) % 5)
                more = {"length/clipped_share": value}
                if step % 10 == 0:
                    row = dict.fromkeys(names.EVAL_ROW, value) | more
                    metrics.eval_row(step, row | {"task": "toy", "num_problems": 8})
                if step < 20:
                    metrics.row(step, dict.fromkeys(names.ROW, value) | more)
        config = {"seed": seed, "grpo": {"num_steps": 20, "gain": gain}}
        (path / "config.json").write_text(json.dumps(config))
        (path / "manifest.json").write_text(json.dumps({"commit": "a" * 40, "dirty": False}))
        return str(path)

    return make


def test_a_band_is_made_and_tells_a_fresh_seed_from_another_run(make_run, tmp_path, capsys):
    members = [make_run(f"seed{seed}", seed) for seed in range(5)]
    out = tmp_path / "references/x.json"
    assert not band.main(["band", *members, f"--out={out}"])
    assert f"{out}: " in capsys.readouterr().out
    against = f"--against={out}"
    assert report.main(["report", make_run("fresh", 5), against]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("held-out pass@1: inside (3 of 3") and shown[-1] == "inside the band"
    assert report.main(["report", make_run("other", 6, gain=0.1), against]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert "leaves the band at step 10" in shown[0] and shown[-1] == "outside the band"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}"], "--out is required"),
        (["{run}", "--out={tmp}/x.json"], "1 runs; a band needs at least 5"),
        (["--out={tmp}/x.json"], "no run directory"),
    ],
)
def test_runs_that_make_no_band_are_one_line_and_status_2(
    make_run, tmp_path, capsys, words, message
):
    run = make_run("run", 0)
    with pytest.raises(SystemExit) as stopped:
        band.main(["band", *(word.format(run=run, tmp=tmp_path) for word in words)])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "{run}", "--against=x.json"], "checks one run"),
        (["{run}", "--against={tmp}/x.json"], "is not there"),
        (["{run}", "--baseline=a"], "cell of a sweep"),
    ],
)
def test_a_check_that_cannot_be_made_is_status_2(make_run, tmp_path, capsys, words, message):
    run = make_run("run", 0)
    with pytest.raises(SystemExit) as stopped:
        report.main(["report", *(word.format(run=run, tmp=tmp_path) for word in words)])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
