"""Whole words only, any case, nothing twice."""

from r1_jax.text import reflection


def test_the_words_of_the_paper():
    words = "wait mistake however but retry error verify wrong evaluate check"
    assert reflection.R1_WORDS == tuple(words.split())


def test_whole_words_in_any_case():
    text = "Wait, that is WRONG. wait... await butter errors; let me double-check: checked?"
    assert reflection.count(text) == 4  # Wait, WRONG, wait, check
    assert reflection.count("no such thing") == 0


def test_own_words_with_spaces_and_signs():
    text = "check again. go back! check; go back?"
    assert reflection.count(text, ("check", "check again")) == 2
    assert reflection.count(text, ["go back!"]) == 1
    assert reflection.count(text, ()) == 0
