"""The rule rewriter: one language, the same reasoning, a summary whose box is the answer."""

import re

import pytest

from r1_jax.data import corpus, filters, rewrite
from r1_jax.data.tasks import countdown, task
from r1_jax.rewards import extract, language
from r1_jax.text import chat

TAGS = chat.Tags()
BOTH = corpus.CorpusConfig(
    num_documents=400, languages=("en", "zh"), switch=0.3, search=0.6, search_attempts=4
)


def test_a_mixed_chain_is_said_in_one_language():
    mixed = "We try: 1 + 2 = 3. check: 3 is not 4。也许换成2 * 2 = 4。检查：4就是4。"
    assert rewrite.translate(mixed, "zh") == (
        "我们试：1 + 2 = 3。检查：3不是4。也许换成2 * 2 = 4。检查：4就是4。"
    )
    assert rewrite.translate(mixed, "en") == (
        "We try: 1 + 2 = 3. check: 3 is not 4. but maybe 2 * 2 = 4. check: 4 is 4."
    )
    spoken = rewrite.translate(mixed, "zh")
    assert rewrite.summary(spoken, "2 * 2") == r"2 * 2 = 4。 \boxed{2 * 2}"


def test_every_document_of_two_languages_becomes_readable_with_its_answer_kept():
    num_changed = 0
    for document in corpus.documents(BOTH, countdown.Difficulty(), 1, TAGS, ("en", "zh")):
        question = document.prompt.removeprefix(chat.head(TAGS) + " ").removesuffix(chat.TAIL)
        found = rewrite.countdown(question, document.completion, TAGS)
        num_changed += found != document.completion
        why = filters.why_dropped(question, found, TAGS, filters.FilterConfig())
        assert why in (None, "repetition")
        before, after = (extract.thought(x, TAGS) for x in (document.completion, found))
        assert re.findall(r"[\d+*/=-]+", before) == re.findall(r"[\d+*/=-]+", after)
        answer = extract.answer(found, TAGS)
        assert extract.boxed(answer) == extract.answer(document.completion, TAGS)
        assert language.share(after, language.of(question)) == 1.0
        again = rewrite.countdown(question, found, TAGS)
        assert again == found
    assert num_changed == 400


def test_a_boxed_right_answer_is_still_right():
    prompt = task.Prompt(0, countdown.question([3, 5], 8), '{"numbers": [3, 5], "target": 8}')
    text = chat.completion("We try: 5 + 3 = 8.", "5 + 3", TAGS)
    found = rewrite.countdown(prompt.question, text, TAGS)
    assert countdown.accuracy(extract.answer(found, TAGS), prompt).value == 1.0
    assert countdown.vote(extract.answer(found, TAGS)) == countdown.vote("3 + 5")


@pytest.mark.parametrize(
    "text", ["", "<think> </think>", " <think> a </think> <answer>  </answer>"]
)
def test_what_has_no_thought_or_no_answer_is_not_rewritten(text):
    assert rewrite.countdown("1?", text, TAGS) is None
