"""AIME, MATH-500, GSM8K: records as published become problems; boxes are read; votes agree."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from r1_jax.data.tasks import mathematics
from r1_jax.rewards import verdict

OUTCOME = verdict.Outcome


def _answers(prompts):
    return [json.loads(prompt.reference)["answer"] for prompt in prompts]


def test_aime_in_both_spellings():
    records = [
        {"Problem": "p ", "Answer": 33, "Solution": "s"},
        {"problem": "q", "answer": "033", "url": "u"},
        {"question": "r", "answer": "336^\\circ"},
    ]
    prompts = mathematics.aime(mathematics.AIME_2025, records)
    assert _answers(prompts) == ["33", "33", "336"]
    assert [p.question[0] for p in prompts] == ["p", "q", "r"]
    assert all("\\boxed{}" in p.question for p in prompts)
    assert [p.uid for p in prompts] == [0, 1, 2]


@pytest.mark.parametrize("answer", ["1000", "-1", "1/2", "", "m"])
def test_what_is_no_aime_answer_is_an_error(answer):
    with pytest.raises(ValueError, match=r"aime_2024: record 0 has the answer .* 0..999"):
        mathematics.aime(mathematics.AIME_2024, [{"problem": "p", "answer": answer}])


def test_math_500_and_gsm8k():
    records = [{"problem": "p", "answer": "\\frac{1}{2}", "level": 3, "solution": ""}]
    assert _answers(mathematics.math_500(mathematics.MATH_500, records)) == ["\\frac{1}{2}"]
    records = [{"question": "q", "answer": "9 * 2 = <<9*2=18>>18\n#### 1,018"}]
    assert _answers(mathematics.gsm8k(mathematics.GSM8K, records)) == ["1018"]
    with pytest.raises(ValueError, match='gsm8k: record 0 has no "#### answer"'):
        mathematics.gsm8k(mathematics.GSM8K, [{"question": "q", "answer": "18"}])


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("so \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{1} or \\boxed{ 2 }", "2"),
        ("\\boxed{1", None),
        ("\\boxed{1} and \\boxed{2", None),  # the last counts, and it is not complete
        ("1", None),
    ],
)
def test_boxes(text, inner):
    assert mathematics.boxed(text) == inner


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("33", OUTCOME.RIGHT),
        ("033", OUTCOME.RIGHT),
        ("The answer is \\boxed{33}", OUTCOME.RIGHT),
        ("$33$", OUTCOME.RIGHT),
        ("\\boxed{34} not 33", OUTCOME.WRONG),
        ("33 or 34", OUTCOME.WRONG),
        ("\\boxed{}", OUTCOME.UNPARSED),
        (None, OUTCOME.UNPARSED),
    ],
)
def test_grading(answer, outcome):
    (prompt,) = mathematics.aime(mathematics.AIME_2024, [{"problem": "p", "answer": "33"}])
    assert mathematics.accuracy(answer, prompt).outcome == outcome
    assert mathematics.accuracy(mathematics.ideal(prompt), prompt) == verdict.RIGHT


def test_latex_answers_are_graded_by_value():
    (prompt,) = mathematics.math_500(
        mathematics.MATH_500, [{"problem": "p", "answer": "\\frac{\\sqrt{2}}{2}"}]
    )
    assert mathematics.accuracy("\\boxed{\\frac{1}{\\sqrt 2}}", prompt) == verdict.RIGHT
    assert mathematics.accuracy("\\boxed{\\frac{1}{2}}", prompt) == verdict.WRONG
    assert mathematics.equal("\\dfrac12", "0.5") and not mathematics.equal("0.5", "0.49")


def test_votes_of_one_answer_are_equal_however_spelt():
    keys = [mathematics.vote(text) for text in ("\\boxed{1,234}", "1234.0", "$1234$", "1,234")]
    assert None not in keys
    assert all(mathematics.equal(a, b) for a in keys for b in keys if a and b)
    assert not mathematics.equal("1234", "1235")
    assert mathematics.vote("(1,23)") == "(1,23)"  # a pair, not a number
    assert mathematics.vote(" ") is None and mathematics.vote("\\boxed{}") is None


@hypothesis.given(st.text(alphabet="\\boxed{}$, 1", max_size=40))
@hypothesis.settings(deadline=None)
def test_no_text_makes_reading_raise(text):
    mathematics.vote(text)
    mathematics.equal(text, text[::-1])
