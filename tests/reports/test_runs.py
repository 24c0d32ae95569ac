import json

import pytest

from r1_jax.reports import runs


def write(path, metrics="", evals="", **mappings):
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text(metrics)
    (path / "eval.jsonl").write_text(evals)
    for name, mapping in mappings.items():
        (path / f"{name}.json").write_text(json.dumps(mapping))
    return path


ROW = '{"step": 0, "reward/mean": 1.0}\n'


def test_a_whole_run_is_read_without_notes(make_run):
    (run,) = runs.read([make_run(num_steps=40)])
    assert run.name == "run" and run.task == "countdown"
    assert [row["step"] for row in run.rows] == list(range(40))
    assert [row["step"] for row in run.task_evals] == [0, 20, 40]
    assert run.config["grpo"]["group_size"] == 16
    assert run.manifest["seed"] == 0
    assert run.notes == ()


def test_one_row_is_enough_and_what_is_missing_is_said(tmp_path):
    (run,) = runs.read([write(tmp_path / "a", ROW)])
    assert run.rows == [{"step": 0, "reward/mean": 1.0}]
    assert run.config == run.manifest == {} and run.evals == []
    assert any("no evaluation yet" in note for note in run.notes)
    assert {"no config.json", "no manifest.json"} <= set(run.notes)


def test_a_torn_line_is_left_out_and_said(tmp_path):
    (run,) = runs.read([write(tmp_path / "a", ROW + '{"step": 1, "rew', '{"step": 0}\n')])
    assert len(run.rows) == 1
    assert "metrics.jsonl ends in half a line" in run.notes[0]


def test_a_broken_config_is_left_out_and_said(tmp_path):
    path = write(tmp_path / "a", ROW)
    (path / "config.json").write_text('{"seed": ')
    (path / "manifest.json").write_text("[1]")
    (run,) = runs.read([path])
    assert any(note.startswith("config.json is not JSON") for note in run.notes)
    assert "manifest.json is no object; left out" in run.notes


def test_nan_rows_are_counted(tmp_path):
    bad = '{"step": 1, "loss": null, "nonfinite": {"loss": "nan"}}\n'
    (run,) = runs.read([write(tmp_path / "a", ROW + bad)])
    assert "1 of 2 rows hold NaN or infinity, in loss" in run.notes


@pytest.mark.parametrize("metrics", ["", '{"step"'])
def test_a_run_without_rows_is_one_clear_error(tmp_path, metrics):
    path = write(tmp_path / "a", metrics)
    with pytest.raises(ValueError, match=rf"{path} holds no row .*did the run reach"):
        runs.read([path])


def test_a_missing_directory_and_no_directory_are_errors(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no directory"):
        runs.read([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="no run directory given"):
        runs.read([])


def test_names_are_as_short_as_they_can_be(tmp_path):
    paths = [write(tmp_path / name, ROW) for name in ("a/run", "b/run", "c")]
    assert [run.name for run in runs.read(paths[::2])] == ["run", "c"]
    assert [run.name for run in runs.read(paths[:2])] == ["a/run", "b/run"]
    assert len(runs.read([paths[0], paths[0] / ".." / "run"])) == 1  # the same run


def test_runs_that_differ_by_seed_only_are_one_group(tmp_path):
    def config(seed, kl=0.1):
        return {"seed": seed, "task": {"seed": seed}, "grpo": {"kl_coef": kl}, "workdir": str(seed)}

    paths = [
        write(tmp_path / "kl_seed0", ROW, config=config(0)),
        write(tmp_path / "free", ROW, config=config(5, kl=0.0)),
        write(tmp_path / "kl_seed1", ROW, config=config(1)),
        write(tmp_path / "bare1", ROW),
        write(tmp_path / "bare2", ROW),
    ]
    groups = runs.group(runs.read(paths))
    assert [group.label for group in groups] == ["kl (2 runs)", "free", "bare1", "bare2"]
    assert [run.name for run in groups[0].runs] == ["kl_seed0", "kl_seed1"]
    assert runs.differences(groups[:2]) == [("grpo.kl_coef", [0.1, 0.0])]


def test_the_task_evaluated_first_is_the_one_of_the_curves(tmp_path):
    evals = [{"step": 10, "task": "b"}, {"step": 0, "task": "a"}, {"step": 0, "task": "b"}]
    path = write(tmp_path / "a", "", "".join(json.dumps(row) + "\n" for row in evals))
    (run,) = runs.read([path])
    assert run.task == "b"
    assert run.task_evals == [evals[2], evals[0]]
