"""The monitor speaks when reward rises and held-out accuracy falls, and then alone."""

import pytest

from r1_jax.metrics import hacking


def _rows(first, last, num=40):
    return [{"step": i, "reward/mean": first + (last - first) * i / (num - 1)} for i in range(num)]


def _evals(*values):
    return [
        {"step": 20 * i, "pass@1": v, "pass@1_low": v - 0.05, "pass@1_high": v + 0.05}
        for i, v in enumerate(values)
    ]


def test_reward_up_and_accuracy_down_is_told_with_both():
    found = hacking.warning(_rows(1.0, 2.0), _evals(0.3, 0.6, 0.4))
    assert "reward hacking?" in found and "from 0.600 to 0.400" in found
    assert "step 20" in found and "step 40" in found and "to 1.88" in found


@pytest.mark.parametrize(
    ("rows", "evals"),
    [
        (_rows(1.0, 2.0), _evals(0.3, 0.6, 0.7)),  # both rise
        (_rows(1.0, 2.0), _evals(0.6, 0.55)),  # within the intervals
        (_rows(2.0, 1.0), _evals(0.3, 0.6, 0.4)),  # both fall
        (_rows(1.0, 2.0), _evals(0.6)),
        ([], _evals(0.6, 0.1)),
    ],
)
def test_it_is_silent_otherwise(rows, evals):
    assert hacking.warning(rows, evals) == ""


def test_a_fall_since_the_start_is_seen_in_a_short_run():
    assert hacking.warning(_rows(0.0, 1.0, num=21), _evals(0.6, 0.2))
