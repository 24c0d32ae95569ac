"""From two completions to token ids: judged, balanced, split by prompt, encoded as scored later."""

import json
import random

import pytest

from r1_jax.data import preferences
from r1_jax.pipeline import assemble, preference_data, reward_score
from r1_jax.rewards import judge
from r1_jax.text import chat
from tests import tiny_preferences as world


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preference_data")
    world.train_tokenizer(folder)
    return folder


def _candidates(num=200):
    """Pairs in which the polite answer is the longer one in most cases."""
    rng = random.Random(0)

    def completion(is_polite):
        text = world.sentence(rng, is_polite)
        return f" <think> hm </think>{text}{' now' * (3 * is_polite)}"

    return [
        preferences.Candidate(uid, f"say {uid}", completion(True), completion(rng.random() < 0.1))
        for uid in range(num)
    ]


def test_candidates_become_balanced_pairs_and_every_loss_is_accounted_for(folder, tmp_path):
    preferences.write(tmp_path / "candidates.jsonl", _candidates())
    config, out = world.config(folder), tmp_path / "pairs.jsonl"
    by = judge.named(better="tests.tiny_preferences:better")
    stats = preference_data.collect(config, tmp_path / "candidates.jsonl", by, out)
    assert json.loads((tmp_path / "pairs.stats.json").read_text()) == stats
    counts = stats["counts"]
    pairs = preferences.read(out, preferences.Preference)
    assert counts["pairs"] == 200 and counts["kept"] == len(pairs) > 20
    dropped = sum(num for name, num in counts.items() if name.startswith("dropped/"))
    assert dropped + len(pairs) == 200
    assert counts["dropped/small_margin"] > 5 and counts["dropped/length"] > 20
    assert stats["before"]["longer_chosen_share"] > 0.75
    assert stats["after"]["longer_chosen_share"] == pytest.approx(0.5)
    for pair in pairs:
        assert world.WORD in pair.chosen and world.WORD not in pair.rejected
        assert pair.view == "summary" and "think" not in pair.chosen + pair.rejected
    whole = world.config(folder, preference__balance_lengths=False)
    unbalanced = preference_data.collect(whole, tmp_path / "candidates.jsonl", by, out)
    assert unbalanced["counts"]["kept"] == counts["kept"] + counts["dropped/length"]
    assert unbalanced["after"] == unbalanced["before"]


def test_examples_are_what_scoring_reads_and_no_prompt_is_in_both_parts(folder, tmp_path):
    config, path = world.config(folder), tmp_path / "pairs.jsonl"
    tokens = assemble.load_tokenizer(config)
    twice = [*world.pairs(100), *world.swapped(world.pairs(100))]  # each prompt twice
    preferences.write(path, twice)
    found = preference_data.load(config, path, tokens)
    assert len(found.train) + len(found.held_out) == 200 and 4 < len(found.held_out) < 40

    def prompts(examples):
        return {tokens.decode(e.texts[0]).split(chat.TAIL)[0] for e in examples}

    assert not prompts(found.train) & prompts(found.held_out)
    pair = twice[0]
    prompt = chat.render(pair.question, config.tags)
    texts = tuple(reward_score.encode(tokens, prompt, t) for t in (pair.chosen, pair.rejected))
    assert texts in [example.texts for example in (*found.train, *found.held_out)]
    assert all(ids[-1] == tokens.stop_ids[0] for ids in texts)
    assert tokens.decode(texts[0]) == prompt + pair.chosen


def test_long_examples_are_left_out_and_told(folder, tmp_path, caplog):
    config, path = world.config(folder), tmp_path / "labels.jsonl"
    config = world.config(folder, reward_model__kind="pointwise")
    records = world.labelled(60)
    long = preferences.Labelled(60, "say 60", " now" * 40, False)
    preferences.write(path, [*records, long])
    found = preference_data.load(config, path, assemble.load_tokenizer(config))
    assert len(found.train) + len(found.held_out) == 60 and found.view == "whole"
    assert "1 examples are longer than max_tokens=33" in caplog.text
    goods = sorted(example.is_good for example in (*found.train, *found.held_out))
    assert goods == sorted(record.is_safe for record in records)


def test_data_that_cannot_be_used_is_named(folder, tmp_path):
    config, path = world.config(folder), tmp_path / "pairs.jsonl"
    tokens = assemble.load_tokenizer(config)
    one = world.pairs(1)[0]
    preferences.write(path, [one])
    with pytest.raises(ValueError, match="none of 1 records is held out; bring more prompts"):
        preference_data.load(config, path, tokens)
    other = preferences.Preference(1, "q", "a", "b", 2.0, "whole")
    preferences.write(path, [one, other])
    with pytest.raises(ValueError, match="mixes the views summary, whole"):
        preference_data.load(config, path, tokens)
    pointwise = world.config(folder, reward_model__kind="pointwise")
    with pytest.raises(ValueError, match=r"pairs\.jsonl, record 1: unknown key chosen"):
        preference_data.load(pointwise, path, tokens)
