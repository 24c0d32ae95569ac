"""General requests: good answers are right, other items' answers are not, statements know all."""

import itertools

import pytest

from r1_jax.data.tasks import general, task
from r1_jax.rewards import verdict


def _prompts():
    return [p for prompts in general.problems(0).values() for p in prompts]


def test_every_item_is_asked_once_and_its_ideal_answer_is_right():
    prompts = _prompts()
    assert len(prompts) == len({p.question for p in prompts}) == 531
    assert len({p.uid for p in prompts}) == 531
    for prompt in prompts:
        assert general.accuracy(general.ideal(prompt), prompt) == verdict.RIGHT
        boxed = f"Well. \\boxed{{{general.ideal(prompt)}}}"
        assert general.accuracy(boxed, prompt) == verdict.RIGHT


def test_no_other_item_s_answer_is_right():
    prompts = _prompts()
    for prompt in prompts:
        kind = general.json.loads(prompt.reference)["kind"]
        for other in prompts:
            is_self = kind == "self" and general.json.loads(other.reference)["kind"] == "self"
            if other is not prompt and not is_self:
                assert general.accuracy(general.ideal(other), prompt) == verdict.WRONG


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is the capital of France?", "Paris Rome"),
        ("What is the capital of France?", "Paris " * 2),
        ("What is the capital of France?", "Paris" + " very" * 16),
        ("Say in Chinese: red", "红 蓝"),
        ("Say in Chinese: red", "red"),
        ("Say in Chinese: red horse", "马红"),
        ("Say in Chinese: red horse", "马"),
        ("What are the capitals of France and Italy?", "Paris"),
        ("What are the capitals of France and Italy?", "Rome and Paris"),
        ("Write a line about the sea and the garden.", "The sea is quiet and I like it."),
        ("Write a line about the sea.", "sea"),
        ("Write a line about the sea.", "The sea and the garden are quiet."),
        ("Who are you?", "I am R1."),
    ],
)
def test_lists_of_answers_and_bare_words_are_wrong(question, text):
    (prompt,) = [p for p in _prompts() if p.question == question]
    assert general.accuracy(text, prompt) == verdict.WRONG


def test_nothing_is_unparsed_and_a_strange_reference_is_bad():
    prompt = _prompts()[0]
    assert general.accuracy(None, prompt) == general.accuracy(" ", prompt) == verdict.UNPARSED
    strange = task.Prompt(0, "?", '{"kind": "capital", "item": ["Mars"]}')
    assert general.accuracy("Paris", strange) == verdict.BAD_REFERENCE


def test_statements_hold_the_answer_to_every_fact_held_out_ones_too():
    stated = " ".join(general.statements())
    for kind in ("capital", "translate"):
        for item in general.items()[kind]:
            for name in item:
                assert name in stated and general.answer(kind, (name,)) in stated


def test_there_are_enough_held_out_requests_to_tell_models_apart():
    splits = general.problems(0)
    assert len(splits["test"]) >= 64 and len(splits["validation"]) >= 48
    assert len(splits["train"]) > 350


def test_a_judge_prefers_the_right_answer_whatever_the_order_and_the_tags():
    question = "What is the capital of France?"
    right, wrong = "<answer> The capital of France is Paris. </answer>", "Rome"
    assert general.better(question, right, wrong) == 2
    assert general.better(question, wrong, right) == -2
    assert general.better(question, wrong, "Madrid") == general.better(question, right, right) == 0
    wish = "Write a line about the sea and the garden."
    both, one = "The garden and the sea are quiet, and I like them.", "The sea is quiet."
    other, none = "The sea and the train are quiet.", "The train and the city are quiet."
    ranked = [both, one, none]
    assert general.better(wish, one, other) == 0  # one of two asked for, in either
    assert [general.better(wish, a, b) for a, b in itertools.pairwise(ranked)] == [2, 2]
    assert general.better(wish, none, other) == -2
    many = "sea train city star night"
    assert general.better(wish, many, one) == -2  # naming everything is no better
    assert general.briefer(question, right, wrong) == -2 and general.briefer("?", "a", "a b") == 2
    assert general.briefer("?", "<answer> a b </answer>", "c d") == 0
