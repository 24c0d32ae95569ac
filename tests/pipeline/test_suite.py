"""Suites: every entry scored and stored, regraded to the same row, compared with training."""

import dataclasses
import json

import pytest

from r1_jax.core import build
from r1_jax.data.tasks import benchmarks
from r1_jax.data.tasks import task as tasks
from r1_jax.metrics import jsonl
from r1_jax.pipeline import policy, suite
from r1_jax.rewards import verdict

GSM = [{"question": f"q{i} is a question", "answer": f"#### {i}"} for i in range(3)]
ENTRIES = {
    "toy": {"num_samples": 4, "ks": [1, 4], "task": {}, "num_problems": 5},
    "gsm8k": {"num_samples": 2, "ks": [2]},
}


@pytest.fixture
def run(toy, tmp_path):
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GSM))
    toy.run(tmp_path / "run")
    return tmp_path / "run"


def _suite(run, **changes):
    settings = {"data_dir": str(run.parent), "max_prompt": 4, "max_response": 6, "batch_size": 2}
    return build.build(suite.SuiteConfig, {"entries": ENTRIES} | settings | changes)


def _evaluate(run, **changes):
    config = policy.open_config(run)
    return config, list(suite.evaluate(run, config, _suite(run, **changes), None))


def _store(run, config, scored, **changes):
    """What the command writes."""
    made_with = {"config": build.to_dict(config), "suite": build.to_dict(_suite(run, **changes))}
    jsonl.write(run / f"{scored.name}.jsonl", [scored.row | made_with])
    jsonl.write(run / f"{scored.name}_samples.jsonl", scored.samples)
    return run / f"{scored.name}_samples.jsonl"


def test_every_entry_has_its_row_and_all_completions(run):
    _, (toys, gsm) = _evaluate(run)
    assert (toys.name, gsm.name) == ("toy", "gsm8k")
    assert [len(toys.samples), len(gsm.samples)] == [5 * 4, 3 * 2]
    right = [sample["outcome"] == "right" for sample in toys.samples]
    assert toys.row["pass@1"] == pytest.approx(sum(right) / 20) and 0 < sum(right)
    any_right = [any(right[i : i + 4]) for i in range(0, 20, 4)]
    assert toys.row["pass@4"] == pytest.approx(sum(any_right) / 5)
    assert toys.row["pass@4_low"] <= toys.row["pass@4"] <= toys.row["pass@4_high"]
    for row in (toys.row, gsm.row):
        assert row["step"] == 8
        assert (row["sampling/temperature"], row["sampling/top_p"]) == (0.6, 0.95)
        assert sum(v for k, v in row.items() if k.startswith("outcome/")) == pytest.approx(1)
        assert 0 <= row["length/clipped_share"] <= 1 and row["num_left_out"] == 0
    assert gsm.row["outcome/right"] == 0  # nothing that this policy says is a number


def test_the_seed_moves_the_samples_and_the_batch_does_not(run):
    def texts(**changes):
        _, found = _evaluate(run, **changes)
        return [sample["completion"] for scored in found for sample in scored.samples]

    assert texts() == texts(batch_size=3)
    assert texts() != texts(seed=1)


def test_regraded_completions_give_the_same_row(run):
    config, found = _evaluate(run)
    for scored in found:
        again = suite.regrade(_store(run, config, scored))
        assert again.samples == scored.samples
        assert {k: again.row[k] for k in scored.row} == scored.row
        assert again.row["regraded/changed"] == 0


def bad_is_good(answer: str | None, prompt: tasks.Prompt) -> verdict.Verdict:
    """A grader that children can import."""
    if answer is None:
        return verdict.UNPARSED
    return verdict.RIGHT if answer == "bad" else verdict.WRONG


def test_another_grader_gives_another_row(run, toy):
    config, (toys, _) = _evaluate(run)
    path = _store(run, config, toys)

    toy.task = dataclasses.replace(toy.task, accuracy=bad_is_good)
    again = suite.regrade(path)
    answered = toys.row["outcome/right"] + toys.row["outcome/wrong"]
    assert again.row["pass@1"] == pytest.approx(toys.row["outcome/wrong"])
    assert again.row["regraded/changed"] == round(20 * answered)
    assert [s["completion"] for s in again.samples] == [s["completion"] for s in toys.samples]


def test_a_run_s_own_samples_are_regraded_to_its_own_row(run):
    (own,) = [row for row in jsonl.read(run / "eval.jsonl")[0] if row["step"] == 8]
    (path,) = (run / "samples").glob("eval_step_*8.jsonl")
    again = suite.regrade(path)
    assert {k: again.row[k] for k in own} == own


def test_samples_that_cannot_be_regraded_are_told(run, toy):
    config, (toys, _) = _evaluate(run)
    path = _store(run, config, toys)
    jsonl.write(path, toys.samples[:-1])
    with pytest.raises(ValueError, match="completions in a row for every problem"):
        suite.regrade(path)
    jsonl.write(path, [row | {"question": "another"} for row in toys.samples])
    with pytest.raises(ValueError, match="is not in the task as it is now"):
        suite.regrade(path)
    with pytest.raises(ValueError, match="holds no completions"):
        suite.regrade(run / "nothing.jsonl")
    jsonl.write(run.parent / "alone.jsonl", toys.samples)
    with pytest.raises(ValueError, match="says what these completions are"):
        suite.regrade(run.parent / "alone.jsonl")


def test_contamination_is_reported_or_refused_before_anything_is_sampled(run, toy):
    shared = "eleven words in a row that a test question has too"
    splits = {**toy.task.splits, "train": [tasks.Prompt(0, f"so {shared}.", "")]}
    toy.task = dataclasses.replace(toy.task, splits=splits)
    rows = [*GSM[:2], {"question": f"q2 {shared}?", "answer": "#### 1"}]
    path = run.parent / "gsm8k/test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, (toys, gsm) = _evaluate(run)
    assert gsm.row["contamination/share"] == pytest.approx(1 / 3)
    assert toys.row["contamination/share"] is None  # the run's own task
    _, (_, gsm) = _evaluate(run, contamination="off")
    assert gsm.row["contamination/share"] is None
    toy.before = None  # would raise if anything were sampled
    with pytest.raises(ValueError, match=r"gsm8k: 1 of 3 test questions share 10 words .*eleven"):
        _evaluate(run, contamination="refuse")


def test_absent_files_stop_it_before_anything_is_sampled(run, toy):
    (run.parent / "gsm8k/test.jsonl").unlink()
    toy.before = None
    with pytest.raises(ValueError, match="gsm8k: no file"):
        _evaluate(run)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "entries is empty"),
        (
            {"entries": {"gsm8k": {"num_samples": 4, "ks": [5]}}},
            r"ks=\(5,\): each must lie in 1..n",
        ),
        ({"entries": {"gsm8k": {"num_samples": 0}}}, "samples must be >= 1"),
        ({"entries": {"gsm8k": {"deadline_seconds": -1.0}}}, r"deadline_seconds=-1\.0 must be"),
        ({"entries": {"gsm8k": {}}, "max_response": 0}, "max_response=0"),
        ({"entries": {"gsm8k": {}}, "contamination": "refused"}, "did you mean 'refuse'"),
    ],
)
def test_suites_that_make_no_sense_are_refused(mapping, message):
    with pytest.raises(ValueError, match=message):
        build.build(suite.SuiteConfig, mapping)


def test_more_problems_than_there_are_is_an_error(run):
    entry = suite.EntryConfig(num_problems=4)
    with pytest.raises(ValueError, match=r"gsm8k\.num_problems=4, but there are 3"):
        suite.open_entry("gsm8k", entry, _suite(run))
    assert len(benchmarks.load("gsm8k", run.parent).task.splits["test"]) == 3
