"""Filling splits: distinct, disjoint, numbered, and honest when there are not enough."""

import itertools

import pytest

from r1_jax.data.tasks import task


def _candidates(identities):
    return ((i, task.Prompt(0, f"q{i}", "{}")) for i in identities)


SIZES = {"train": 30, "validation": 5, "test": 5}


def test_fill_drops_repeats_and_numbers_over_all_splits():
    twice = (i // 2 for i in itertools.count())
    splits = task.fill(_candidates(twice), SIZES, "")
    assert {split: len(prompts) for split, prompts in splits.items()} == SIZES
    everything = [p for prompts in splits.values() for p in prompts]
    assert [p.uid for p in everything] == list(range(40))
    assert len({p.question for p in everything}) == 40
    for split, prompts in splits.items():
        assert {task.split_of(int(p.question[1:])) for p in prompts} == {split}


def test_a_problem_keeps_its_split_whatever_the_sizes():
    few = task.fill(_candidates(itertools.count()), {"train": 1, "validation": 1, "test": 20}, "")
    many = task.fill(_candidates(itertools.count()), {"train": 99, "validation": 9, "test": 9}, "")
    held_out = {p.question for p in few["validation"] + few["test"]}
    assert not held_out & {p.question for p in many["train"]}


@pytest.mark.parametrize("endless", [True, False])
def test_too_few_problems_is_an_error_with_the_count_and_the_way_out(endless):
    identities = itertools.cycle(range(20)) if endless else range(20)
    num_train = sum(task.split_of(i) == "train" for i in range(20))
    message = f"num_train=30, but no more than {num_train} distinct train .* found; ask for less"
    with pytest.raises(ValueError, match=message):
        task.fill(_candidates(identities), SIZES, "ask for less")
