"""Problems can be solved, solutions are right and complete, splits cannot mix."""

import collections
import functools
import itertools
import json
import random
from fractions import Fraction

import hypothesis
import pytest
from hypothesis import strategies as st

from r1_jax.data.tasks import countdown, task
from r1_jax.rewards import countdown as reward
from r1_jax.rewards import verdict

SMALL = st.lists(st.integers(1, 12), min_size=2, max_size=4)


@functools.cache
def _all_values(values):
    """Values of all expressions over all of `values`, by trying everything (negatives too)."""
    if len(values) == 1:
        return frozenset(values)
    found = set()
    for i, j in itertools.permutations(range(len(values)), 2):
        rest = [v for k, v in enumerate(values) if k not in (i, j)]
        a, b = values[i], values[j]
        for value in (a + b, a - b, a * b, *([a / b] if b else [])):
            found |= _all_values(tuple(sorted([*rest, value])))
    return found


def test_question_is_the_one_of_the_contract():
    assert countdown.question([3, 5, 7], 22) == (
        "Using the numbers [3, 5, 7], write an expression that equals 22. "
        "Use + - * / and each number exactly once."
    )


def test_known_problems():
    assert countdown.solutions([3, 5, 7], 22) == ["7 + 3 * 5"]
    assert countdown.solutions([7, 3, 5], 22) == ["7 + 3 * 5"]
    assert countdown.solutions([8, 3, 8, 3], 24) == ["8 / (3 - 8 / 3)"]  # only through fractions
    assert countdown.solutions([1, 1, 1], 50) == []
    assert "(2 - 2) * (3 + 4)" in countdown.solutions([2, 2, 3, 4], 0)
    assert "(2 - 2) / (3 + 4)" in countdown.solutions([2, 2, 3, 4], 0)
    assert countdown.solutions([5, 5, 4], 0) == ["(5 - 5) / 4", "4 * (5 - 5)"]


@hypothesis.given(SMALL, st.integers(0, 60))
@hypothesis.settings(max_examples=60, deadline=None)
def test_reachable_means_what_trying_everything_means(numbers, target):
    values = _all_values(tuple(Fraction(n) for n in sorted(numbers)))
    assert countdown.is_reachable(numbers, target) == (target in values)
    assert bool(countdown.solutions(numbers, target)) == (target in values)


@pytest.mark.parametrize("numbers", [(3, 8), (2, 3, 9), (4, 4, 7), (2, 3, 5, 8)])
def test_every_value_found_by_trying_everything_is_reachable_fractions_too(numbers):
    values = _all_values(tuple(map(Fraction, numbers)))
    for value in {abs(v) for v in values}:
        assert countdown.is_reachable(numbers, value), value
    assert not countdown.is_reachable(numbers, Fraction(1, 1009))


def test_five_numbers_agree_with_trying_everything():
    numbers = [2, 3, 5, 9, 11]
    values = _all_values(tuple(Fraction(n) for n in sorted(numbers)))
    for target in range(500, 560):
        assert countdown.is_reachable(numbers, target) == (target in values)


@hypothesis.given(SMALL, st.integers(0, 60))
@hypothesis.settings(max_examples=100, deadline=None)
def test_every_solution_earns_the_reward_and_no_two_are_of_one_kind(numbers, target):
    solutions = countdown.solutions(numbers, target)
    for solution in solutions:
        assert reward.verdict(solution, numbers, target).outcome == verdict.Outcome.RIGHT
        assert "-" not in solution.replace(" - ", "")
    assert len({reward.canonical(s) for s in solutions}) == len(solutions)


def test_solutions_have_no_needless_parentheses():
    for numbers, target in ([2, 3, 10], 5), ([2, 3, 4, 20], 11), ([1, 2, 3, 4], 24):
        for solution in countdown.solutions(numbers, target):
            for i, j in itertools.combinations(range(len(solution)), 2):
                if solution[i] == "(" and solution[j] == ")":
                    bare = solution[:i] + solution[i + 1 : j] + solution[j + 1 :]
                    still = reward.canonical(bare) == reward.canonical(solution)
                    assert not still or bare.count("(") != bare.count(")") or "- (" in bare, bare


def test_sampled_problems_are_within_bounds_and_solvable_and_repeat_with_the_seed():
    difficulty = countdown.Difficulty(4, 2, 9, 20, 30)
    first = [countdown.sample_problem(random.Random(3), difficulty) for _ in range(2)]
    assert first[0] == first[1]
    rng = random.Random(0)
    for _ in range(50):
        numbers, target = countdown.sample_problem(rng, difficulty)
        assert len(numbers) == 4 and all(2 <= n <= 9 for n in numbers) and 20 <= target <= 30
        assert countdown.solutions(numbers, target)


def test_the_split_is_a_function_of_the_problem_not_of_its_order():
    count = collections.Counter()
    for numbers in itertools.combinations(range(1, 15), 3):
        splits = {countdown.split_of(order, 24) for order in itertools.permutations(numbers)}
        assert len(splits) == 1
        count.update(splits)
    assert set(count) == set(task.SPLITS)
    assert 0.7 < count["train"] / count.total() < 0.8
    assert countdown.split_of((1, 2, 3), 10) == "train"  # kept: corpora and runs rely on it
    assert countdown.split_of((2, 4, 6), 24) == "test"


def _identities(prompts):
    references = [json.loads(p.reference) for p in prompts]
    return {countdown.identity(r["numbers"], r["target"]) for r in references}


def test_problems_are_distinct_disjoint_and_numbered():
    sizes = {"train": 60, "validation": 10, "test": 10}
    difficulty = countdown.Difficulty(max_number=9)
    splits = countdown.problems(difficulty, sizes, seed=0)
    again = countdown.problems(difficulty, sizes, seed=0)
    other = countdown.problems(difficulty, sizes, seed=1)
    assert splits == again and splits["train"] != other["train"]
    everything = [p for split in task.SPLITS for p in splits[split]]
    assert [p.uid for p in everything] == list(range(80))
    assert len(_identities(everything)) == 80
    for split, prompts in splits.items():
        assert len(prompts) == sizes[split]
        for prompt in prompts:
            reference = json.loads(prompt.reference)
            assert prompt.question == countdown.question(**reference)
            assert countdown.accuracy(countdown.ideal(prompt), prompt) == verdict.RIGHT
            assert countdown.split_of(**reference) == split
    # another seed's training problems never touch these held-out ones
    assert not _identities(other["train"]) & _identities(splits["test"] + splits["validation"])


def test_accuracy_tells_right_from_wrong():
    prompt = task.Prompt(0, "", json.dumps({"numbers": [3, 5, 7], "target": 22}))
    assert countdown.accuracy("3*5+7", prompt) == verdict.RIGHT
    assert countdown.accuracy("3+5+7", prompt) == verdict.WRONG
    assert countdown.accuracy("11 + 11", prompt) == verdict.WRONG
    assert countdown.accuracy(None, prompt) == verdict.UNPARSED


@pytest.mark.parametrize(
    "bounds",
    [
        {"num_numbers": 1},
        {"num_numbers": 7},
        {"min_number": 0},
        {"min_number": 21},
        {"min_target": -1},
        {"min_target": 100},
    ],
)
def test_impossible_bounds_are_named(bounds):
    with pytest.raises(ValueError, match=f"{next(iter(bounds))}={next(iter(bounds.values()))}"):
        countdown.Difficulty(**bounds)


def test_no_reachable_target_is_an_error():
    difficulty = countdown.Difficulty(2, 1, 3, 50, 99)
    with pytest.raises(ValueError, match=r"no target in 50..99 .* numbers of 1..3; widen"):
        countdown.sample_problem(random.Random(0), difficulty)


def test_too_few_distinct_problems_is_an_error():
    difficulty = countdown.Difficulty(2, 1, 4, 2, 8)
    with pytest.raises(ValueError, match=r"num_train=1000, but no more than \d+ distinct"):
        countdown.problems(difficulty, {"train": 1000, "validation": 1, "test": 1}, seed=0)
