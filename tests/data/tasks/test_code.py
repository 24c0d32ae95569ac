"""A file of programming problems, read whole, split, and told where it is not as asked."""

import json

import pytest

from r1_jax.data.tasks import code, load
from r1_jax.rewards import verdict

SIZES = {"num_train": 6, "num_validation": 1, "num_test": 1}


def _record(n, **changes):
    return {
        "question": f"Print {n}.",
        "tests": {"stdin": [{"input": "", "output": str(n)}]},
        "program": f"print({n})",
    } | changes


def _config(tmp_path, records, **changes):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    settings = {"name": "code", "dataset": str(path), "data_dir": str(tmp_path)} | SIZES | changes
    return load.TaskConfig(**settings)


def test_problems_are_split_and_their_own_programs_are_the_ideal_answers(tmp_path):
    records = [_record(n) for n in range(60)]
    it = load.load(_config(tmp_path, records))
    assert it.name == "code/mine"
    assert {split: len(found) for split, found in it.splits.items()} == {
        "train": 6, "validation": 1, "test": 1,
    }  # fmt: skip
    for prompt in it.splits["train"]:
        n = prompt.question.split()[1].rstrip(".")
        assert it.ideal(prompt) == f"```python\nprint({n})\n```"
        assert it.vote(it.ideal(prompt)) == f"print({n})\n"
        assert json.loads(prompt.reference)["stdin"] == [{"input": "", "output": n}]
    assert it.accuracy(None, prompt) == verdict.UNPARSED
    other = load.load(_config(tmp_path, records, seed=1))
    assert [p.question for p in it.splits["train"]] != [p.question for p in other.splits["train"]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"question": 3}, "record 1 needs a question"),
        ({"program": None}, "record 1 needs a question and a program"),
        ({"tests": []}, "record 1 needs a question"),
        ({"tests": {"stdin": []}}, "record 1: its tests are of no form"),
        ({"tests": {"function": "f()", "cases": []}}, "record 1: its tests are of no form"),
    ],
)
def test_a_record_of_another_form_is_told(change, told):
    with pytest.raises(ValueError, match=told):
        code.problems([_record(0), _record(1, **change)], {"train": 1}, 0)


@pytest.mark.parametrize(("line", "told"), [("{", "2 is not JSON"), ("[1]", "2 is not a JSON obj")])
def test_a_line_that_is_none_is_told(line, told, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=f"mine.jsonl:{told}"):
        code.read(path)


def test_a_file_that_is_absent_and_one_with_too_few_are_told(tmp_path):
    with pytest.raises(ValueError, match="is no file; name=code"):
        load.load(load.TaskConfig(name="code", dataset=str(tmp_path / "absent.jsonl")))
    with pytest.raises(ValueError, match="put more into the file"):
        load.load(_config(tmp_path, [_record(n) for n in range(5)]))
