"""Selection: right, readable, new, and not too many a prompt; everything dropped is counted."""

import pytest

from r1_jax.data import demonstrations, selection
from r1_jax.text import chat

TAGS = chat.Tags()


def _row(uid, thought, answer="3 + 5", outcome="right", question=None):
    question = question or f"Using the numbers [3, {uid}], write an expression that equals 8."
    completion = chat.completion(thought, answer, TAGS)
    return {"uid": uid, "question": question, "completion": completion, "outcome": outcome}


SAMPLES = [
    _row(1, "We try: 3 + 5 = 8."),
    _row(1, "We try: 3 + 5 = 8."),
    _row(1, "We try: 5 + 3 = 8."),
    _row(1, "We try: 5 + 3 = 8. check: 8 is 8."),
    _row(2, "We try: 4 + 5 = 9.", outcome="wrong"),
    _row(2, "We try", outcome="timeout"),
    _row(2, "我们试：3 + 5 = 8。"),
]


def test_what_is_kept_and_what_became_of_the_others():
    config = selection.SelectionConfig(per_prompt=2)
    kept, fate = selection.select(SAMPLES, config, TAGS, "here")
    assert [(one.uid, one.completion) for one in kept] == [
        (1, SAMPLES[0]["completion"]), (1, SAMPLES[2]["completion"])
    ]  # fmt: skip
    assert {one.source for one in kept} == {"here"}
    assert fate == {
        "kept": 2, "duplicate": 1, "over per_prompt": 1, "language": 1,
        "not right: wrong": 1, "not right: timeout": 1,
    }  # fmt: skip
    assert sum(fate.values()) == len(SAMPLES)


def says_eight(question: str, reference: str | None, answer: str) -> bool:
    """A judge who knows one reference, and does not know what to say of another."""
    if reference not in ("8", "9"):
        raise ValueError(f"what is {reference}?")
    return reference == "8"


def test_a_judge_is_asked_of_what_no_rule_could_grade_and_of_nothing_else():
    rows = [
        _row(uid, f"We try: {uid} + 5.", outcome=outcome) | {"sample": 0}
        for uid, outcome in enumerate(("bad_reference", "crash", "timeout", "wrong", "unparsed"))
    ]
    config = selection.SelectionConfig(judge=f"{__name__}:says_eight")
    references = {0: "8", 1: "9", 2: "?", 3: "8", 4: "8"}
    kept, fate = selection.select(rows, config, TAGS, "here", references)
    assert [one.uid for one in kept] == [0]
    assert fate == {
        "kept": 1, "not right: judge: wrong": 1, "not right: judge: raised": 1,
        "not right: wrong": 1, "not right: unparsed": 1,
    }  # fmt: skip


def test_a_rewriter_comes_before_the_filters():
    config = selection.SelectionConfig(rewriter="r1_jax.data.rewrite:countdown")
    kept, fate = selection.select([SAMPLES[6], _row(3, "")], config, TAGS, "here")
    assert [one.uid for one in kept] == [2] and "We try: 3 + 5 = 8." in kept[0].completion
    assert fate == {"kept": 1, "not rewritten": 1}


@pytest.mark.parametrize("name", ["nowhere:f", "json:nothing", "json", ":"])
def test_a_rewriter_that_leads_nowhere_is_refused(name):
    with pytest.raises(ValueError, match="rewriter="):
        selection.resolve(name)


@pytest.mark.parametrize("name", ["num_prompts", "num_samples", "per_prompt"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        selection.SelectionConfig(**{name: 0})


def test_examples_are_the_first_of_a_file_and_no_fewer_than_asked_for(tmp_path):
    path = tmp_path / "shots.jsonl"
    shots = [demonstrations.Demonstration(i, f"q{i}", f" a{i}", "mine") for i in range(3)]
    demonstrations.write(path, shots)
    config = selection.SelectionConfig(examples=str(path), num_examples=2)
    assert config.shown() == [("q0", " a0"), ("q1", " a1")]
    assert selection.SelectionConfig().shown() == []
    with pytest.raises(ValueError, match="holds 3 demonstrations, fewer than num_examples=4"):
        selection.SelectionConfig(examples=str(path), num_examples=4).shown()
    for alone in ({"examples": str(path)}, {"num_examples": 2}):
        with pytest.raises(ValueError, match="go together"):
            selection.SelectionConfig(**alone)
