"""Tasks as one: shares, graders by uid, splits that stay apart."""

import pickle

import pytest

from r1_jax.data.tasks import mixture, task
from r1_jax.rewards import verdict


def _first(text, prompt):
    return verdict.RIGHT if text == prompt.question else verdict.WRONG


def _second(text, prompt):
    return verdict.RIGHT if text == "yes" else verdict.UNPARSED


def _task(name, sizes, accuracy):
    uid, splits = 0, {}
    for split, size in zip(task.SPLITS, sizes, strict=True):
        splits[split] = [task.Prompt(uid + i, f"{name} {split} {i}", "{}") for i in range(size)]
        uid += size
    return task.Task(name, splits, accuracy, lambda p: f"{name}!", lambda text: text, ())


@pytest.fixture
def mixed():
    return mixture.mix([_task("a", (6, 2, 2), _first), _task("b", (2, 1, 1), _second)], (3, 1))


def test_every_four_prompts_are_three_and_one_and_all_are_shown(mixed):
    train = mixed.splits["train"]
    names = [prompt.question.split()[0] for prompt in train]
    assert len(train) == 8 and names[:4] == names[4:]
    assert sorted(names[:4]) == ["a", "a", "a", "b"]
    assert {p.question for p in train} == {
        *(f"a train {i}" for i in range(6)), *(f"b train {i}" for i in range(2))
    }  # fmt: skip
    assert [p.question for p in train[2:5]] == [train[i].question for i in (2, 3, 4)]
    with pytest.raises(IndexError):
        train[8]


def test_the_first_task_s_problems_are_there_without_the_others(mixed):
    assert [prompt.question for prompt in mixed.reasoning] == [f"a train {i}" for i in range(6)]
    assert set(mixed.reasoning) <= set(mixed.splits["train"])


def test_the_smaller_task_begins_again(mixed):
    longer = mixture.mix([_task("a", (9, 1, 1), _first), _task("b", (2, 1, 1), _second)], (3, 1))
    shown = [p.question for p in longer.splits["train"] if p.question.startswith("b")]
    assert shown == ["b train 0", "b train 1", "b train 0"]


def test_each_prompt_keeps_its_own_grader_answer_and_a_uid_of_its_own(mixed):
    accuracy = pickle.loads(pickle.dumps(mixed.accuracy))
    uids = {}
    for split in task.SPLITS:
        for prompt in mixed.splits[split]:
            assert uids.setdefault(prompt.uid, prompt.question) == prompt.question
            is_a = prompt.question.startswith("a")
            assert mixed.ideal(prompt) == ("a!" if is_a else "b!")
            assert accuracy(prompt.question, prompt) == (
                verdict.RIGHT if is_a else verdict.UNPARSED
            )
    assert len(uids) == 10 + 4


def test_shares_must_fit_the_tasks():
    one = _task("a", (1, 1, 1), _first)
    for shares in ((1, 0), (1,), (1, 1, 1)):
        with pytest.raises(ValueError, match="shares="):
            mixture.mix([one, one], shares)
