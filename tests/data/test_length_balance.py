"""Balanced pairs: length tells nobody who won, and no more is dropped than that takes."""

import math
import random

import pytest

from r1_jax.data import length_balance, preferences


def _pair(uid, chosen, rejected):
    return preferences.Preference(uid, "q", "x" * chosen, "x" * rejected, 2.0, "summary")


def _biased(num=500, longer=0.7, seed=0):
    """Pairs in which the longer answer won in `longer` of all cases."""
    rng = random.Random(seed)
    pairs = []
    for uid in range(num):
        short, long = sorted((rng.randint(5, 100), rng.randint(5, 100)))
        lengths = (long, short) if rng.random() < longer else (short, long)
        pairs.append(_pair(uid, *lengths))
    return pairs


def test_bins_by_hand():
    # ln(3 / 2) = 0.41 and ln(14 / 10) = 0.34 share the bin (0.25, 0.5], ln(20 / 1) = 3.0 does not
    pairs = [_pair(0, 3, 2), _pair(1, 3, 2), _pair(2, 10, 14), _pair(3, 20, 1), _pair(4, 7, 7)]
    kept = length_balance.balance(pairs, len, seed=0)
    assert [pair.uid for pair in kept] in ([0, 2, 4], [1, 2, 4])
    assert length_balance.measure(pairs, len)["longer_chosen_share"] == (3 + 0.5) / 5
    assert length_balance.measure(kept, len)["longer_chosen_share"] == 0.5
    ratio = (math.log(3 / 2) + math.log(10 / 14)) / 3
    assert length_balance.measure(kept, len)["log_ratio_mean"] == pytest.approx(ratio)


def test_a_judge_s_love_of_length_is_taken_out_of_its_pairs():
    pairs = _biased()
    before = length_balance.measure(pairs, len)
    assert before["longer_chosen_share"] > 0.65 and before["log_ratio_mean"] > 0.2
    kept = length_balance.balance(pairs, len, seed=0)
    after = length_balance.measure(kept, len)
    assert after["longer_chosen_share"] == 0.5 and abs(after["log_ratio_mean"]) < 0.01
    # 0.3 + 0.3 of all could stay if every bin were biased alike
    assert 0.5 * len(pairs) < len(kept) < 0.65 * len(pairs)
    assert kept == [pair for pair in pairs if pair in kept]


def test_what_is_balanced_already_stays_whole():
    pairs = [_pair(uid, *lengths) for uid, lengths in enumerate([(3, 2), (2, 3), (9, 9)])]
    assert length_balance.balance(pairs, len, seed=0) == pairs


def test_which_ones_go_is_a_function_of_the_seed_and_not_of_the_order():
    pairs = _biased(200)
    kept = {pair.uid for pair in length_balance.balance(pairs, len, seed=0)}
    turned = {pair.uid for pair in length_balance.balance(pairs[::-1], len, seed=0)}
    other = {pair.uid for pair in length_balance.balance(pairs, len, seed=1)}
    assert kept == turned != other


def test_nothing_is_balanced_and_bad_bins_are_refused():
    assert length_balance.balance([], len, seed=0) == []
    assert length_balance.measure([], len) == {"longer_chosen_share": 0.5, "log_ratio_mean": 0.0}
    with pytest.raises(ValueError, match="bin_width=0 must be above 0"):
        length_balance.balance([], len, seed=0, bin_width=0)
