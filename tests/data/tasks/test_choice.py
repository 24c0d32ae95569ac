"""GPQA and MMLU: the right choice keeps its letter, and only a stated letter is an answer."""

import json

import pytest

from r1_jax.data.tasks import choice
from r1_jax.rewards import verdict

GPQA = [
    {
        "Question": f"q{i}?", "Correct Answer": "right\n", "Incorrect Answer 1": "w1",
        "Incorrect Answer 2": "w2", "Incorrect Answer 3": "w3", "Explanation": "x",
    }
    for i in range(40)
]  # fmt: skip


def _letter(prompt):
    return json.loads(prompt.reference)["answer"]


def test_gpqa_shuffles_by_the_question_alone():
    prompts = choice.gpqa(choice.GPQA_DIAMOND, GPQA)
    assert choice.gpqa(choice.GPQA_DIAMOND, GPQA[::-1])[0].question == prompts[-1].question
    assert {_letter(p) for p in prompts} == set("ABCD")  # the right one is first in the file
    for prompt in prompts:
        assert f"\n{_letter(prompt)}) right\n" in prompt.question
        assert all(f") {w}\n" in prompt.question for w in ("w1", "w2", "w3"))


def test_mmlu_by_letter_and_by_index():
    by_letter = {"question": "q", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "C"}
    by_index = {"question": "q", "choices": ["1", "2", "3", "4"], "answer": 2, "subject": "s"}
    a, b = choice.mmlu(choice.MMLU, [by_letter, by_index])
    assert a.question == b.question and a.reference == b.reference and _letter(a) == "C"
    for answer in ("E", 4, -1, "", "AB", "c"):
        with pytest.raises(ValueError, match="mmlu: record 0 has the answer"):
            choice.mmlu(choice.MMLU, [by_index | {"answer": answer}])


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: C", "C"),
        ("**Answer:** (C)", "C"),
        ("First answer: A. No.\nAnswer: C", "C"),
        ("the answer is C.", "C"),
        (" c ", "C"),
        ("(C)", "C"),
        ("so \\boxed{C}", "C"),
        ("I have no answer to this", None),
        ("the answer is a hard one", None),
        ("Answer: Carbon", None),
        ("", None),
        (None, None),
    ],
)
def test_letters(text, letter):
    assert choice.vote(text) == letter


def test_grading():
    prompt = choice.mmlu(choice.MMLU, [{"question": "q", "choices": ["1", "2", "3"], "answer": 1}])[
        0
    ]
    assert choice.accuracy(choice.ideal(prompt), prompt) == verdict.RIGHT
    assert choice.accuracy("A", prompt) == verdict.WRONG
    assert choice.accuracy("D", prompt) == verdict.UNPARSED  # there are three choices
    assert choice.accuracy(None, prompt) == verdict.UNPARSED
    assert choice.accuracy("Answer: A\n" * 20_000 + "Answer: B", prompt) == verdict.RIGHT
