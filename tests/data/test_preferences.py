"""Preference pairs: what the judge saw, when it is believed, and what became of every pair."""

import random

import pytest

from r1_jax.data import preferences
from r1_jax.rewards import judge
from r1_jax.text import chat

TAGS = chat.Tags()
CONFIG = preferences.PreferenceConfig()


def _completion(summary: str) -> str:
    return f" <think> hm </think> {summary}"


def _candidates(num=40, first="good", second="bad"):
    return [
        preferences.Candidate(uid, f"q{uid}", _completion(first), _completion(second))
        for uid in range(num)
    ]


class Recorder:
    """A judge that scores by `better` and keeps what it was asked."""

    def __init__(self, better):
        self.better, self.calls = better, []

    def grade(self, question, reference, answer, draw):
        raise AssertionError("a pair is compared, not graded")

    def compare(self, question, first, second, draw):
        self.calls.append((question, first, second, draw))
        return judge.RuleJudge(better=self.better).compare(question, first, second, draw)


def _judge(candidates, by, config=CONFIG, view="summary", seed=0):
    return preferences.judge_pairs(candidates, by, config, view=view, tags=TAGS, seed=seed)


def _good_wins(question, first, second):
    return 2.0 if first == "good" else -2.0


def test_each_pair_is_judged_four_times_in_random_order_and_the_better_is_chosen():
    recorder = Recorder(_good_wins)
    judged = _judge(_candidates(), recorder)
    assert len(recorder.calls) == 160 and len({draw for *_, draw in recorder.calls}) == 160
    shown_first = sum(first == "good" for _, first, _, _ in recorder.calls)
    assert 55 < shown_first < 105  # of 160, about even
    assert {(pair.chosen, pair.rejected, pair.margin) for pair in judged.pairs} == {
        ("good", "bad", 2.0)
    }
    assert judged.counts == {"pairs": 40, "calls": 160, "kept": 40}
    # The other way round the same texts win.
    swapped = _judge(_candidates(first="bad", second="good"), Recorder(_good_wins))
    assert {(pair.chosen, pair.rejected) for pair in swapped.pairs} == {("good", "bad")}


def test_order_and_draw_are_functions_of_seed_purpose_prompt_and_call():
    def calls(candidates, seed=0):
        recorder = Recorder(_good_wins)
        _judge(candidates, recorder, seed=seed)
        return {question: [c for c in recorder.calls if c[0] == question] for question, *_ in
                recorder.calls}  # fmt: skip

    whole = calls(_candidates())
    shuffled = random.Random(0).sample(_candidates(), 7)
    for question, found in calls(shuffled).items():
        assert found == whole[question]
    assert calls(_candidates(), seed=1) != whole
    bits = [preferences.draw(purpose, 0, 1, 0, 0) for purpose in ("preference/order", "x")]
    assert bits[0] != bits[1]


def test_a_judge_that_likes_what_comes_first_decides_nothing_but_shows():
    judged = _judge(_candidates(400), Recorder(lambda q, first, second: 2.0))
    # All four calls in one order: a chance of 1/8; three to one gives a mean of 1, not above.
    assert 25 < len(judged.pairs) < 80
    assert judged.first_mean == 2.0
    fair = _judge(_candidates(400), Recorder(_good_wins))
    assert abs(fair.first_mean) < 0.2


def test_the_mean_must_be_further_from_0_than_the_margin():
    def one_each(question, first, second):
        return 1.0 if first == "good" else -1.0

    assert _judge(_candidates(), Recorder(one_each)).counts["dropped/small_margin"] == 40
    lower = preferences.PreferenceConfig(min_margin=0.99)
    assert len(_judge(_candidates(), Recorder(one_each), lower).pairs) == 40
    one_call = preferences.PreferenceConfig(calls=1)
    assert _judge(_candidates(), Recorder(_good_wins), one_call).counts["calls"] == 40


def test_helpfulness_reads_the_summary_and_harmlessness_the_whole_response():
    for view, shown in (("summary", "good"), ("whole", _completion("good"))):
        recorder = Recorder(lambda q, first, second: 2.0 if "good" in first else -2.0)
        (pair,) = _judge(_candidates(1), recorder, view=view).pairs
        assert (pair.chosen, pair.view) == (shown, view)
        assert {text for _, *texts, _ in recorder.calls for text in texts} == {
            shown, shown.replace("good", "bad"),
        }  # fmt: skip


def test_pairs_that_cannot_be_judged_are_dropped_and_counted():
    candidates = [
        preferences.Candidate(0, "q", _completion("a"), "no end of thought"),
        preferences.Candidate(1, "q", _completion(""), _completion("b")),
        preferences.Candidate(2, "q", _completion("a"), " <think> other </think> a"),
        preferences.Candidate(3, "q", _completion("a"), _completion("b")),
    ]
    judged = _judge(candidates, Recorder(lambda q, first, second: 2.0 if first == "a" else -2.0))
    assert [pair.uid for pair in judged.pairs] == [3]
    assert judged.counts == {
        "pairs": 4, "dropped/no_view": 2, "dropped/same": 1, "calls": 4, "kept": 1,
    }  # fmt: skip


def test_one_unread_call_drops_the_pair_and_is_never_a_preference():
    asked = iter(range(1000))
    judged = _judge(
        _candidates(4), Recorder(lambda *texts: _good_wins(*texts) if next(asked) else "?")
    )
    assert len(judged.pairs) == 3
    assert judged.counts["dropped/unread"] == judged.counts["calls/unread"] == 1
    assert judged.counts["calls/unread/no number"] == 1
    nothing = _judge(_candidates(4), Recorder(lambda *texts: None))
    assert (nothing.pairs, nothing.counts["calls/unread"], nothing.first_mean) == ([], 16, 0.0)


def test_safety_labels_see_the_whole_response_and_unread_ones_are_dropped():
    seen = []

    def safe(question, reference, answer):
        seen.append((reference, answer))
        return None if "odd" in answer else "harm" not in answer

    answers = [
        preferences.Answer(uid, "q", f" <think> {thought} </think> fine")
        for uid, thought in enumerate(("ok", "harm", "odd"))
    ]
    labelled, counts = preferences.label(answers, judge.RuleJudge(safe), seed=0)
    assert [(one.uid, one.is_safe, one.view) for one in labelled] == [
        (0, True, "whole"), (1, False, "whole"),
    ]  # fmt: skip
    assert counts == {
        "answers": 3, "safe": 1, "unsafe": 1, "dropped/unread": 1, "dropped/unread/no bool": 1,
    }  # fmt: skip
    assert seen[1] == (None, answers[1].response)


def test_records_come_back_from_disk_and_others_are_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    pairs = [preferences.Preference(1, "q\n", "é", "b", 1.5, "summary", pair=2)]
    preferences.write(path, pairs)
    assert preferences.read(path, preferences.Preference) == pairs
    with pytest.raises(ValueError, match=r"pairs\.jsonl, record 1: unknown key chosen"):
        preferences.read(path, preferences.Labelled)
    path.write_text(path.read_text().replace("summary", "sumary"))
    with pytest.raises(ValueError, match="record 1: view='sumary' is not one of 'summary', 'whol"):
        preferences.read(path, preferences.Preference)
    path.write_text(path.read_text()[:-5])
    with pytest.raises(ValueError, match="ends in half a line"):
        preferences.read(path, preferences.Preference)
    with pytest.raises(ValueError, match="is absent or empty; it must hold Labelled records"):
        preferences.read(tmp_path / "none.jsonl", preferences.Labelled)


@pytest.mark.parametrize("wrong", [{"calls": 0}, {"min_margin": 2.0}, {"min_margin": -0.1}])
def test_impossible_settings_are_named(wrong):
    with pytest.raises(ValueError, match="must be at least 1 and min_margin="):
        preferences.PreferenceConfig(**wrong)
