"""The corpus: its shares, its arithmetic, its verdicts, and that it knows no held-out problem."""

import dataclasses
import itertools
import re
from fractions import Fraction

import pytest

from r1_jax.data import corpus
from r1_jax.data.tasks import countdown, general
from r1_jax.data.tasks import task as tasks
from r1_jax.rewards import countdown as reward
from r1_jax.rewards import extract, format, language, verdict
from r1_jax.text import chat, tokenizer

TAGS = chat.Tags()
DIFFICULTY = countdown.Difficulty()
EN = corpus.PHRASES["en"]
CONFIG = corpus.CorpusConfig(num_documents=3000)
QUESTION = re.compile(r"User: Using the numbers \[([\d, ]+)\], .* equals (\d+)\. .*Assistant:$")
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def _documents(config=CONFIG, seed=0, difficulty=DIFFICULTY):
    return list(corpus.documents(config, difficulty, seed, TAGS))


@pytest.fixture(scope="module")
def documents():
    return _documents()


def _problem(document):
    numbers, target = QUESTION.search(document.prompt).groups()
    return [int(n) for n in numbers.split(", ")], int(target)


def _verdict(document):
    answer = extract.answer(document.completion, TAGS)
    return reward.verdict(answer, *_problem(document)).outcome


def _behaviour(document):
    thought = extract.thought(document.completion, TAGS)
    if EN.resign.strip() in thought:
        return "give_up"
    if EN.check in thought:
        return "search"
    return "guess" if thought == EN.guess else "steps"


def _split(documents):
    """Documents by behaviour."""
    ordered = sorted(documents, key=_behaviour)
    return {name: list(group) for name, group in itertools.groupby(ordered, key=_behaviour)}


def _attempts(document):
    """(steps, said value, verdict word, said target) of every checked attempt."""
    thought = extract.thought(document.completion, TAGS)
    pattern = re.compile(r"([^.]*?)\. check: (\d+) is (not )?(\d+)\.")
    return [(m[1], int(m[2]), m[3] is None, int(m[4])) for m in pattern.finditer(thought)]


def test_every_document_has_the_template_and_the_asked_form(documents):
    for document in documents:
        numbers, target = _problem(document)
        assert document.prompt == chat.render(countdown.question(numbers, target), TAGS)
        assert format.strict(document.completion, TAGS) == 1.0


def test_shares_are_those_of_the_configuration(documents):
    found = {name: len(group) / len(documents) for name, group in _split(documents).items()}
    # Three standard deviations of a share of 3000 are below 0.027.
    for name in ("guess", "steps", "search", "give_up"):
        assert found[name] == pytest.approx(getattr(CONFIG, name), abs=0.027)


def test_answers_are_right_as_often_as_configured(documents):
    groups = _split(documents)
    right = {
        name: sum(_verdict(d) == verdict.Outcome.RIGHT for d in group) / len(group)
        for name, group in groups.items()
    }
    assert right["guess"] == pytest.approx(CONFIG.guess_right, abs=0.05)
    assert right["steps"] == pytest.approx(CONFIG.steps_right, abs=0.05)
    assert right["search"] == pytest.approx(1 - CONFIG.search_settles, abs=0.06)
    assert right["give_up"] == 0
    assert {_verdict(d) for d in groups["give_up"]} == {verdict.Outcome.UNPARSED}
    for name in ("guess", "steps", "search"):
        assert verdict.Outcome.UNPARSED not in {_verdict(d) for d in groups[name]}


def test_only_problems_of_the_train_split_occur(documents):
    for document in documents:
        assert countdown.split_of(*_problem(document)) == "train"


def test_every_step_is_right_arithmetic_within_bounds(documents):
    num_steps = 0
    for document in documents:
        for a, operator, b, result in STEP.findall(document.completion):
            a, b, result = int(a), int(b), int(result)
            value = {"+": a + b, "-": a - b, "*": a * b, "/": Fraction(a, b)}[operator]
            assert value == result and 1 <= result <= CONFIG.max_value
            num_steps += 1
    assert num_steps > 3000


def test_steps_use_the_numbers_once_and_lead_to_the_value(documents):
    for document in documents:
        numbers, _ = _problem(document)
        thought = extract.thought(document.completion, TAGS)
        for attempt in [steps for steps, *_ in _attempts(document)] or [thought]:
            steps = STEP.findall(attempt)
            if not steps:
                continue
            left = sorted(numbers)
            for a, _, b, result in steps:
                left.remove(int(a))
                left.remove(int(b))
                left.append(int(result))
            assert len(left) == 1, document


def test_verdict_words_are_true_and_the_answer_is_the_last_attempt(documents):
    num_attempts, checked = 0, _split(documents)
    for document in checked["search"] + checked["give_up"]:
        numbers, target = _problem(document)
        attempts = _attempts(document)
        num_attempts += len(attempts)
        for i, (steps, said, is_right, said_target) in enumerate(attempts):
            assert STEP.findall(steps)[-1][3] == str(said)
            assert said_target == target
            assert is_right == (said == target)
            assert not is_right or i == len(attempts) - 1  # a search that succeeds ends
        assert 1 <= len(attempts) <= CONFIG.search_attempts
        if _behaviour(document) == "search":
            answer = extract.answer(document.completion, TAGS)
            outcome = reward.verdict(answer, numbers, target).outcome
            assert (outcome == verdict.Outcome.RIGHT) == attempts[-1][2]
        else:
            assert len(attempts) <= 2 and not attempts[-1][2]
    assert num_attempts > 1500


def test_a_search_does_not_try_the_same_steps_twice(documents):
    for document in _split(documents)["search"]:
        tried = [steps.removeprefix(" wait, ") for steps, *_ in _attempts(document)]
        tried = [STEP.findall(steps).__str__() for steps in tried]
        assert len(set(tried)) == len(tried)


def test_the_corpus_is_a_function_of_its_seed():
    few = dataclasses.replace(CONFIG, num_documents=50)
    assert _documents(few) == _documents(few)
    assert _documents(few) != _documents(few, seed=1)
    assert len(_documents(few)) == 50


def test_one_override_takes_searching_out():
    groups = _split(_documents(dataclasses.replace(CONFIG, search=0.0, num_documents=500)))
    assert "search" not in groups
    only_search = dataclasses.replace(CONFIG, guess=0.0, steps=0.0, give_up=0.0, num_documents=100)
    assert set(_split(_documents(only_search))) == {"search"}


def test_without_searching_and_resigning_nothing_checks():
    texts = _documents(dataclasses.replace(CONFIG, search=0.0, give_up=0.0, num_documents=500))
    assert not any(EN.check in d.completion for d in texts)
    assert not any(word in d.completion for d in texts for word in ("wait", "wrong", "retry"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guess", 0.1), ("steps", 0.1), ("search", 0.5), ("give_up", 0.5),
        ("guess_right", 0.9), ("steps_right", 0.9), ("search_attempts", 2),
        ("search_on", 0.2),
        ("search_settles", 0.9), ("near_of", 1), ("max_value", 120), ("num_documents", 299),
        ("languages", ("zh",)), ("switch", 0.5), ("statements", 0.1),
    ],
)  # fmt: skip
def test_changing_a_setting_changes_the_corpus(name, value):
    few = dataclasses.replace(CONFIG, num_documents=300)
    if name == "switch":  # between languages, so there must be two
        few = dataclasses.replace(few, languages=("en", "zh"))
    assert _documents(few) != _documents(dataclasses.replace(few, **{name: value}))


def test_every_setting_is_tried_above():
    marks = test_changing_a_setting_changes_the_corpus.pytestmark[0].args[1]
    assert {name for name, _ in marks} == {f.name for f in dataclasses.fields(CONFIG)}


def test_a_failed_attempt_is_the_nearest_of_several():
    def mean_distance(near_of):
        config = dataclasses.replace(CONFIG, num_documents=400, near_of=near_of)
        distances = [
            abs(said - target)
            for document in _documents(config)
            for _, said, is_right, target in _attempts(document)
            if not is_right
        ]
        return sum(distances) / len(distances)

    assert mean_distance(5) < 0.6 * mean_distance(1)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, documents):
    texts = [d.prompt + d.completion for d in documents[:500]]
    symbols = corpus.symbols(CONFIG, TAGS)
    path = tmp_path_factory.mktemp("corpus") / "t.model"
    return tokenizer.train_sentencepiece(texts, path, 560, symbols=symbols)


def test_every_symbol_is_one_token(tokens):
    for symbol in corpus.symbols(CONFIG, TAGS):
        assert len(tokens.encode(symbol)) == 1, symbol


def test_completions_are_written_in_symbols_alone(tokens, documents):
    """One token a number, an operator, a phrase: a length in tokens counts steps of reasoning."""
    symbols = set(corpus.symbols(CONFIG, TAGS))
    for document in documents[500:800]:
        ids = tokens.encode(document.completion)
        pieces = [tokens.decode([i]) for i in ids]
        assert "".join(pieces) == document.completion
        assert set(pieces) <= symbols, set(pieces) - symbols


def test_prompt_and_completion_tokenise_alike_apart_and_together(tokens, documents):
    for document in documents[:300]:
        together = tokens.encode(document.prompt + document.completion)
        assert together == tokens.encode(document.prompt) + tokens.encode(document.completion)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"guess": -0.1}, "must be shares >= 0, not all 0"),
        ({"guess": 0, "steps": 0, "search": 0, "give_up": 0}, "not all 0"),
        ({"near_of": 0}, "near_of and num_documents must be at least 1"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **wrong)


def test_a_corpus_that_can_hold_no_document_is_an_error_not_a_loop():
    with pytest.raises(ValueError, match="max_value=9; raise it, or lower"):
        _documents(dataclasses.replace(CONFIG, max_value=9))


def test_of_other_tasks_only_answers_are_written():
    problems = [tasks.Prompt(i, f"What is {i} + 1?", "") for i in range(40)]
    config = dataclasses.replace(CONFIG, num_documents=400, guess_right=0.3)

    def written(seed=0):
        return list(corpus.answers(config, problems, lambda p: str(p.uid + 1), seed, chat.Tags()))

    documents = written()
    assert len(documents) == 400 and documents == written() != written(seed=1)
    right = 0
    for i, document in enumerate(documents):
        assert document.prompt == chat.render(problems[i % 40].question, chat.Tags())
        answer = extract.answer(document.completion, chat.Tags())
        assert answer in {str(n) for n in range(1, 41)}
        right += answer == str(i % 40 + 1)
    assert 0.25 < right / 400 < 0.40  # 0.3, and 1 in 40 of the others by chance


# --- two languages --------------------------------------------------------------------------------

BOTH = dataclasses.replace(CONFIG, languages=("en", "zh"), switch=0.15, num_documents=2000)


def _share(document):
    """Share of English in the chain of thought."""
    return language.share(extract.thought(document.completion, TAGS), "en")


def test_a_chain_is_in_either_language_whatever_the_question_is_in():
    found = list(corpus.documents(BOTH, DIFFICULTY, 0, TAGS, ("en", "zh")))
    asked = [language.of(document.prompt.removeprefix(chat.head(TAGS))) for document in found]
    assert asked == ["en", "zh"] * 1000
    for wanted in ("en", "zh"):
        shares = [_share(d) for d, name in zip(found, asked, strict=True) if name == wanted]
        assert 0.4 < sum(shares) / len(shares) < 0.6


def test_a_search_changes_its_language_as_often_as_is_said():
    changes = turns = 0
    for document in corpus.documents(BOTH, DIFFICULTY, 0, TAGS):
        thought = extract.thought(document.completion, TAGS)
        spoken = [is_zh for _, is_zh in re.findall(r"(check: |(检查))", thought)]
        changes += sum(a != b for a, b in itertools.pairwise(spoken))
        turns += max(len(spoken) - 1, 0)
    assert turns > 500 and 0.11 < changes / turns < 0.19


def test_without_a_switch_every_chain_has_one_language_and_some_words():
    config = dataclasses.replace(BOTH, switch=0.0)
    shares = [_share(document) for document in corpus.documents(config, DIFFICULTY, 0, TAGS)]
    assert set(shares) == {0.0, 1.0}
    for document in corpus.documents(config, DIFFICULTY, 0, TAGS):
        thought = extract.thought(document.completion, TAGS)
        assert language.share(thought, "en") + language.share(thought, "zh") == 1.0


def test_statements_are_a_share_and_know_every_fact():
    config = dataclasses.replace(CONFIG, statements=0.25)
    stated = [d.completion for d in _documents(config) if not d.prompt]
    assert 0.2 < len(stated) / config.num_documents < 0.3
    assert set(stated) == set(general.statements())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"languages": ()}, r"languages=\(\)"),
        ({"languages": ("en", "fr")}, "must be some of en, zh"),
        ({"switch": 0.2}, "0 with one language"),
        ({"statements": 1.0}, "statements=1.0"),
    ],
)
def test_languages_and_statements_that_make_no_sense_are_refused(change, what):
    with pytest.raises(ValueError, match=what):
        corpus.CorpusConfig(**change)
