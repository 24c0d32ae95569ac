"""What a child says of a completion, and how it is read again."""

import json
import pickle
from types import SimpleNamespace

from r1_jax.rewards import combine, grader, pool, verdict
from r1_jax.text import chat
from tests import toy_rewards

TAGS = chat.Tags()
PROBLEM = SimpleNamespace(uid=4, question="q", reference="7")


def graded(answer, accuracy=toy_rewards.own_uid, **reward):
    config = combine.RewardConfig(**reward)
    made = grader.Grader(accuracy, toy_rewards.tagged, TAGS, config, seed=3)
    made = pickle.loads(pickle.dumps(made))
    value = json.loads(json.dumps(made(PROBLEM, chat.completion("", answer, TAGS), 5, 6)))
    return grader.read(pool.Result(value, None, ""), ["accuracy", "format"])


def test_it_is_combine_s_grade_with_the_tasks_vote():
    found = graded("7", random_weight=1.0)
    coin = combine.coin(3, 5, 4, 6)
    parts = {"accuracy": 1.0, "format": 1.0, "random": coin}
    assert found == ((2.0 + coin, parts, verdict.Outcome.RIGHT), "v7", "")
    assert isinstance(found.grade, combine.Grade) and found.grade.is_valid


def test_the_cause_of_a_crash_is_kept():
    custom = {"custom": "tests.toy_rewards:half_fails", "custom_weight": 1.0}
    found = graded("7", **custom)
    assert found.grade.outcome == verdict.Outcome.CRASH and found.grade.parts["accuracy"] == 1.0
    assert found.error.startswith("ZeroDivisionError: seven (toy_rewards.py:")
    assert graded("8", **custom).error == ""
    assert graded("crash").error == "accuracy/ValueError"


def test_a_grading_that_did_not_end_is_a_failure_with_parts_of_0():
    result = pool.Result(None, verdict.Outcome.TIMEOUT, "no verdict within 1 s")
    found = grader.read(result, ["accuracy", "custom"])
    assert found.grade == (0.0, {"accuracy": 0.0, "custom": 0.0}, verdict.Outcome.TIMEOUT)
    assert not found.grade.is_valid and found.vote is None
    assert found.error == "no verdict within 1 s"


def test_a_service_grades_completions_and_compares_votes():
    made = grader.Grader(toy_rewards.own_uid, None, TAGS, combine.RewardConfig(), seed=3)
    service = pickle.loads(pickle.dumps(grader.Service(made, toy_rewards.hostile_equal)))
    value = service(PROBLEM, chat.completion("", "7", TAGS), 5, 6)
    found = grader.read(pool.Result(value, None, ""), ["accuracy", "format"])
    assert found.grade.outcome == verdict.Outcome.RIGHT and found.vote is None
    assert service(grader.Pair("1/2", "1 / 2")) is True
    assert service(grader.Pair("1/2", "2")) is False


def test_an_outcome_of_a_comparison_keeps_its_failure():
    outcome = verdict.Outcome
    for result, expected in (
        (pool.Result(True, None, ""), outcome.RIGHT),
        (pool.Result(False, None, ""), outcome.WRONG),
        (pool.Result(None, outcome.TIMEOUT, "late"), outcome.TIMEOUT),
        (pool.Result(None, outcome.CRASH, "ValueError"), outcome.CRASH),
    ):
        assert grader.read_equal(result) == expected
