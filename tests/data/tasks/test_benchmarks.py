"""Every benchmark of the table from a file in its published format, to a verdict."""

import csv
import dataclasses
import json
import pickle

import pytest

from r1_jax.data.tasks import benchmarks
from r1_jax.rewards import code, sandbox, verdict

GPQA = ["Question", "Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3))]
LCB = {
    "question_content": "Add one.", "contest_date": "2024-09-07", "starter_code": "",
    "public_test_cases": [{"input": "1", "output": "2", "testtype": "stdin"}],
    "private_test_cases": [], "metadata": "{}",
}  # fmt: skip
IFEVAL = {"prompt": "No commas", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
FILES = {  # benchmark -> (file, rows, an answer that is right)
    "aime_2024": ("a.jsonl", [{"problem": "p", "answer": "025"}], "25"),
    "aime_2025": ("aime2025-I.jsonl", [{"question": "p", "answer": "70"}], "\\boxed{70}"),
    "math_500": ("test.jsonl", [{"problem": "p", "answer": "\\pi"}], "\\boxed{\\pi}"),
    "gsm8k": ("test.jsonl", [{"question": "q", "answer": "so\n#### 18"}], "18"),
    "gpqa_diamond": ("gpqa_diamond.csv", [GPQA, ["q?", "r", "w1", "w2", "w3"]], None),
    "mmlu": ("test/law_test.csv", [["q?", "1", "2", "3", "4", "D"]], "Answer: D"),
    "livecodebench": ("test.jsonl", [LCB], "print(int(input()) + 1)"),
    "ifeval": ("input_data.jsonl", [IFEVAL], "none here"),
}


def test_every_benchmark_has_its_file_here():
    assert set(FILES) == set(benchmarks.BENCHMARKS)


@pytest.mark.parametrize("name", FILES)
def test_from_the_published_file_to_a_verdict(name, tmp_path):
    file, rows, right = FILES[name]
    path = tmp_path / name / file
    path.parent.mkdir(parents=True)
    if path.suffix == ".csv":
        with open(path, "w", newline="") as out:
            csv.writer(out).writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = benchmarks.load(name, tmp_path)
    if name == "livecodebench":
        config = sandbox.SandboxConfig(require=sandbox.level())
        task = dataclasses.replace(found.task, accuracy=code.Accuracy(config))
        found = found._replace(task=task)
    (prompt,) = found.task.splits["test"]
    assert (found.task.name, found.num_left_out) == (name, 0)
    right = right or found.task.ideal(prompt)
    assert found.task.accuracy(right, prompt).outcome == verdict.Outcome.RIGHT
    assert found.task.accuracy("Answer: A, 77,", prompt).outcome != verdict.Outcome.RIGHT or (
        right == "Answer: A"
    )
    pickle.dumps((found.task.accuracy, found.task.vote, found.task.equal))  # graders are children


def test_absent_files_and_unknown_names_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"gsm8k: no file .*gsm8k/test.*published as openai/gsm8k"):
        benchmarks.load("gsm8k", tmp_path)
    with pytest.raises(ValueError, match="'math500' is no benchmark; did you mean 'math_500'"):
        benchmarks.load("math500", tmp_path)


def test_a_file_of_which_nothing_can_be_graded_is_an_error(tmp_path):
    (tmp_path / "ifeval").mkdir()
    row = IFEVAL | {"instruction_id_list": ["language:response_language"]}
    (tmp_path / "ifeval" / "input_data.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="ifeval: none of the 1 records"):
        benchmarks.load("ifeval", tmp_path)
