"""Overlap is found where ten words in a row agree, and only there."""

import hypothesis
import pytest
from hypothesis import strategies as st

from r1_jax.evaluation import contamination

TEN = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("train", "test", "is_found"),
    [
        (f"so {TEN} and", f"but {TEN} or", True),
        (TEN.upper().replace(" ", ",\n"), f"x {TEN}.", True),  # case, commas and lines are nothing
        (TEN.replace("five", "5"), TEN, False),
        (f"{TEN[:-4]} x", TEN, False),  # nine words
        ("a b c d", "b c", True),  # a short question that stands whole in the other
        ("a b c d", "b d", False),
        ("b c", "a b c d", False),  # the test question is not all there
        ("", TEN, False),
        (TEN, "?!", False),  # no word, no overlap
    ],
)
def test_by_hand(train, test, is_found):
    result = contamination.overlap(["nothing", train], [test])
    assert bool(result.found) == is_found
    assert result.share == float(is_found)


def test_the_questions_and_their_words_are_named():
    tests = ["fresh", f"a {TEN}", TEN, "x y"]
    result = contamination.overlap([TEN, TEN, "w x y z"], tests)
    assert result.found == [(1, TEN), (2, TEN), (3, "x y")]
    assert (result.num_test, result.share) == (4, 0.75)


WORDS = st.lists(st.sampled_from("abc"), max_size=7)


@hypothesis.given(st.lists(WORDS, max_size=4), st.lists(WORDS, min_size=1, max_size=4))
@hypothesis.settings(deadline=None)
def test_it_is_a_naive_search(train, test):
    def has_run(words, run):
        return any(words[i : i + len(run)] == run for i in range(len(words) - len(run) + 1))

    naive = []
    for index, words in enumerate(test):
        runs = [words[i : i + 3] for i in range(len(words) - 2)] or [words]
        if any(run and has_run(other, run) for other in train for run in runs):
            naive.append(index)
    texts = [" ".join(words) for words in test]
    result = contamination.overlap((" ".join(words) for words in train), texts, 3)
    assert [index for index, _ in result.found] == naive


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="no test question"):
        contamination.overlap(["a"], [])
    with pytest.raises(ValueError, match="num_words=0"):
        contamination.overlap(["a"], ["b"], 0)
