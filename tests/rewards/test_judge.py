"""A judge's word: right, wrong or not read; never right by default."""

import math

import pytest

from r1_jax.rewards import judge, verdict


def _right(question, reference, answer):
    return answer == reference, f"{answer} against {reference}"


def _longer(question, first, second):
    return min(2, max(-2, len(first) - len(second)))


def test_rules_grade_with_and_without_an_analysis():
    rules = judge.RuleJudge(_right, _longer)
    assert rules.grade("q", "4", "4", draw=0) == judge.Ruling(True, "4 against 4")
    assert rules.grade("q", "4", "5", draw=0) == judge.Ruling(False, "5 against 4")
    assert judge.RuleJudge(lambda q, r, a: r is None).grade("q", None, "a", 0).is_right is True
    assert rules.compare("q", "abc", "ab", draw=0) == judge.Comparison(1.0, "")
    assert rules.compare("q", "", "abcdef", draw=0).score == -2.0


@pytest.mark.parametrize(
    ("found", "error"),
    [(1, "no bool"), ("correct", "no bool"), (None, "no bool"), ((1.0, "why"), "no bool")],
)
def test_what_is_no_verdict_is_none(found, error):
    ruling = judge.RuleJudge(lambda *texts: found).grade("q", "r", "a", 0)
    assert (ruling.is_right, ruling.error) == (None, error)
    assert ruling.verdict().outcome == verdict.Outcome.CRASH and ruling.verdict().value == 0.0


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (True, "no number"), ("first", "no number"), (None, "no number"),
        (2.1, "not in [-2, 2]"), (math.nan, "not in [-2, 2]"), (-math.inf, "not in [-2, 2]"),
    ],
)  # fmt: skip
def test_what_is_no_score_is_none(found, error):
    compared = judge.RuleJudge(better=lambda *texts: found).compare("q", "a", "b", 0)
    assert (compared.score, compared.error) == (None, error)


def test_a_rule_that_raises_is_told_and_no_verdict():
    def broken(*texts):
        raise KeyError("no such thing")

    ruling = judge.RuleJudge(broken, broken).grade("q", "r", "a", 0)
    assert ruling.is_right is None and ruling.error == "raised"
    assert "KeyError" in ruling.analysis and "test_judge.py" in ruling.analysis
    assert judge.RuleJudge(broken, broken).compare("q", "a", "b", 0).error == "raised"


def test_rulings_as_rewards():
    assert judge.Ruling(True, "").verdict() == verdict.RIGHT
    assert judge.Ruling(False, "").verdict() == verdict.WRONG
    assert judge.Ruling(None, "", "not JSON").verdict().outcome.is_failure


def test_rules_are_found_by_name_and_bad_names_are_told():
    rules = judge.named("operator:eq")
    assert rules.right is not None and rules.better is None
    with pytest.raises(ValueError, match="judge 'operator' must have the form"):
        judge.named(better="operator")
    with pytest.raises(ValueError, match="has no function 'nothing'"):
        judge.named("operator:nothing")
    with pytest.raises(ValueError, match="no function `better`; give it one"):
        rules.compare("q", "a", "b", 0)
