import pathlib

import pytest

from r1_jax.metrics import jsonl
from r1_jax.reports import completions, runs


def sample(uid, number, outcome, completion="c"):
    return {
        "uid": uid,
        "sample": number,
        "question": f"q{uid}",
        "completion": completion,
        "outcome": outcome,
    }


def write(path, files):
    (path / "samples").mkdir()
    for name, rows in files.items():
        jsonl.write(path / "samples" / f"{name}.jsonl", rows)
    return runs.Run(pathlib.Path(path), "x", {}, {}, [], [], ())


def test_the_prompt_with_the_largest_change_comes_first_and_is_called_chosen(tmp_path):
    def at(outcomes):
        return [sample(uid, i, outcome) for uid, row in enumerate(outcomes) for i, outcome in row]

    def both(first, second):
        return [(0, first), (1, second)]

    base = at([both("wrong", "wrong"), both("right", "wrong"), both("wrong", "wrong")])
    trained = at([both("wrong", "right"), both("right", "right"), both("right", "right")])
    run = write(tmp_path, {"eval_step_000000": base, "eval_step_000010": trained})
    stories, notes = completions.stories(run)
    assert notes == []
    assert [story.question for story in stories] == ["q2", "q0", "q1"]
    assert "chosen: the prompt with the largest change" == stories[0].title
    assert all(story.title == "not chosen: in file order" for story in stories[1:])
    first, last = stories[0].cells
    assert (first.title, first.num_right, first.num_samples) == ("step 0", 0, 2)
    assert (last.title, last.num_right, last.num_samples) == ("step 10", 2, 2)


def test_a_shown_answer_that_turned_right_counts_more_than_the_share(tmp_path):
    def prompt(uid, outcomes):
        return [sample(uid, i, outcome) for i, outcome in enumerate(outcomes)]

    wrong, right = "wrong", "right"
    base = prompt(0, [wrong] * 4) + prompt(1, [wrong] * 4)
    trained = prompt(0, [wrong] + [right] * 3) + prompt(1, [right] + [wrong] * 3)
    run = write(tmp_path, {"eval_step_000000": base, "eval_step_000010": trained})
    assert completions.stories(run)[0][0].question == "q1"


def test_the_sample_shown_is_number_0_wherever_it_lies(tmp_path):
    rows = [sample(1, 2, "right", "c2"), sample(1, 0, "wrong", "c0"), sample(1, 1, "right", "c1")]
    (story,), _ = completions.stories(write(tmp_path, {"eval_step_000000": rows}))
    assert story.cells[0].row["completion"] == "c0"
    assert story.title == "not chosen: in file order"  # one prompt, one step: nothing to choose by


def test_four_steps_the_first_and_the_last_among_them_in_numerical_order(tmp_path):
    names = [f"eval_step_{step}" for step in (0, 5, 10, 1000, 20, 100, 200)]
    (story,), _ = completions.stories(write(tmp_path, {n: [sample(1, 0, "right")] for n in names}))
    assert [cell.title for cell in story.cells] == [f"step {i}" for i in (0, 10, 100, 1000)]


def test_held_out_prompts_go_before_training_prompts(tmp_path):
    files = {"step_000000": [sample(5, 0, "right")], "eval_step_000000": [sample(9, 0, "right")]}
    (story,), _ = completions.stories(write(tmp_path, files))
    assert story.question == "q9"


def test_training_prompts_that_never_come_twice_stand_side_by_side(tmp_path):
    files = {f"step_{s:06d}": [sample(s * 10 + i, 0, "wrong") for i in range(2)] for s in range(3)}
    (story,), _ = completions.stories(write(tmp_path, files))
    assert story.question == "" and "no prompt came twice" in story.title
    assert [cell.row["uid"] for cell in story.cells] == [0, 10, 20]


def test_broken_and_empty_files_are_passed_over_and_said(tmp_path):
    run = write(tmp_path, {"eval_step_000000": [sample(1, 0, "wrong")], "eval_step_000002": []})
    (tmp_path / "samples/eval_step_000001.jsonl").write_bytes(b"{\n{}\n")
    (tmp_path / "samples/eval_step_x.jsonl").write_bytes(b"not ours")
    (story,), notes = completions.stories(run)
    assert [cell.title for cell in story.cells] == ["step 0"]
    assert len(notes) == 1 and "eval_step_000001.jsonl:1 is not JSON" in notes[0]


@pytest.mark.parametrize("files", [{}, {"eval_step_000000": []}])
def test_no_completions_are_no_story_and_a_note(tmp_path, files):
    assert completions.stories(write(tmp_path, files)) == ([], ["no completions in samples/ yet"])


def test_rows_that_lack_keys_do_not_stop_the_report(tmp_path):
    files = {"eval_step_000000": [{"completion": "a"}], "eval_step_000001": [{"uid": None}]}
    (story,), _ = completions.stories(write(tmp_path, files))
    assert [cell.num_right for cell in story.cells] == [0, 0]
