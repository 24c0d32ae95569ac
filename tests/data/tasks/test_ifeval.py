"""IF-Eval: every verified kind accepts a text that follows it and refuses one that does not."""

import json
import time

import pytest

from r1_jax.data.tasks import ifeval, task
from r1_jax.rewards import verdict

CASES = {  # kind -> (arguments, texts that follow, texts that do not)
    "keywords:existence": ({"keywords": ["Foo", "bar"]}, ["a foo BAR"], ["foo only"]),
    "keywords:frequency": (
        {"keyword": "ab", "frequency": 2, "relation": "at least"}, ["ab Ab"], ["ab"],
    ),
    "keywords:forbidden_words": ({"forbidden_words": ["cat"]}, ["category"], ["a Cat."]),
    "keywords:letter_frequency": (
        {"letter": "e", "let_frequency": 2, "let_relation": "less than"}, ["Eat"], ["eE"],
    ),
    "length_constraints:number_words": (
        {"num_words": 3, "relation": "less than"}, ["one two."], ["one two three"],
    ),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2}, ["a *** b", "a\n***\nb\n***"], ["a", "a *** *** b", "***"],
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Hello"},
        ["a b\n\n'hello, you"], ["hello\n\nyou", "a\n\nhello\n\nb", "hello", "a\n\n"],
    ),
    "detectable_content:number_placeholders": (
        {"num_placeholders": 2}, ["[a] and [b c]"], ["[a]", "[a\n] [b]"],
    ),
    "detectable_content:postscript": (
        {"postscript_marker": "P.S."}, ["Bye\n\nP. S. more", "p.s. x"], ["Bye", "ps x"],
    ),
    "detectable_format:number_bullet_lists": (
        {"num_bullets": 2}, ["* a\n  - b", "x\n- a\n- b"], ["* a", "**a**\n* b", "- a\n- b\n- c"],
    ),
    "detectable_format:constrained_response": (
        {}, ["So: My answer is no."], ["no", "My answer is"],
    ),
    "detectable_format:number_highlighted_sections": (
        {"num_highlights": 2}, ["*a* and *b c*"], ["*a*", "* *\n*a*"],
    ),
    "detectable_format:multiple_sections": (
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb"], ["Section 1\na", "Section A Section B"],
    ),
    "detectable_format:json_format": (
        {}, ['{"a": [1]}', '```json\n{"a": 1}\n```'], ["{a: 1}", "so: {}", "[" * 100_000],
    ),
    "detectable_format:title": ({}, ["<<A title>>\ntext"], ["<<>>", "<<a\nb>>", "< <a> >"]),
    "combination:two_responses": ({}, ["a ****** b"], ["a", "a ****** a", "a ****** b ****** c"]),
    "combination:repeat_prompt": (
        {"prompt_to_repeat": "Say it."}, [" say it. Done"], ["I say it."],
    ),
    "startend:end_checker": ({"end_phrase": "The end."}, ['"x. the end."\n'], ["The end. Or not"]),
    "startend:quotation": ({}, [' "a b" '], ['"', '"a" b', "a"]),
    "punctuation:no_comma": ({}, ["a; b"], ["a, b"]),
    "change_case:english_capital": ({}, ["ALL, OF 1T!"], ["aLL"]),
    "change_case:english_lowercase": ({}, ["all of it"], ["All"]),
}  # fmt: skip


def _prompt(*instructions):
    return task.Prompt(0, "q", json.dumps({"instructions": instructions}))


def test_every_kind_that_is_verified_has_its_cases():
    assert set(CASES) == set(ifeval.CHECKS) and len(CASES) == 22


@pytest.mark.parametrize("kind", CASES)
def test_what_follows_an_instruction_is_right_and_what_does_not_is_wrong(kind):
    arguments, follow, fail = CASES[kind]
    for text in follow:
        assert ifeval.accuracy(text, _prompt((kind, arguments))).outcome == 0, text
    for text in fail:
        assert ifeval.accuracy(text, _prompt((kind, arguments))).outcome == 1, text


def test_all_instructions_must_be_followed_and_their_share_is_kept():
    both = _prompt(("punctuation:no_comma", {}), ("startend:quotation", {}))
    assert ifeval.accuracy('"a"', both).outcome == verdict.Outcome.RIGHT
    half = ifeval.accuracy("a", both)
    assert (half.value, half.outcome, half.parts["instructions"]) == (0.0, 1, 0.5)
    assert ifeval.accuracy(" ", both) == ifeval.accuracy(None, both) == verdict.UNPARSED


def test_arguments_that_a_kind_cannot_have_are_a_bad_reference():
    for arguments in ({"relation": "about", "num_words": 3}, {"words": 3}):
        prompt = _prompt(("length_constraints:number_words", arguments))
        assert ifeval.accuracy("a", prompt).outcome == verdict.Outcome.BAD_REFERENCE


def test_prompts_that_cannot_be_verified_are_left_out_and_counted():
    records = [
        {"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {
            "prompt": "q",
            "instruction_id_list": ["punctuation:no_comma", "language:response_language"],
            "kwargs": [{}, {"language": "de"}],
        },
        {
            "prompt": "r", "instruction_id_list": ["startend:end_checker"],
            "kwargs": [{"end_phrase": "so", "keyword": None}],  # parquet's empty columns
        },
    ]  # fmt: skip
    prompts, num_left_out = ifeval.problems(ifeval.SOURCE, records)
    assert [p.question for p in prompts] == ["p", "r"] and num_left_out == 1
    assert ifeval.accuracy("and so", prompts[1]).outcome == verdict.Outcome.RIGHT
    with pytest.raises(ValueError, match="record 0 has 1 instructions and 0 sets"):
        ifeval.problems(ifeval.SOURCE, [records[0] | {"kwargs": []}])


@pytest.mark.parametrize("text", ["[" * 200_000, "<" * 200_000, "*" * 200_000, "\n " * 100_000])
def test_hostile_texts_take_no_time(text):
    start = time.monotonic()
    for kind, (arguments, _, _) in CASES.items():
        ifeval.accuracy(text + "x", _prompt((kind, arguments)))
    assert time.monotonic() - start < 5  # seconds; a quadratic pattern takes minutes


def test_there_is_no_ideal_answer_and_no_vote():
    with pytest.raises(ValueError, match="no worked answer"):
        ifeval.ideal(_prompt())
    assert ifeval.vote is None
