"""The length reward by hand."""

import pytest

from r1_jax.rewards import length


@pytest.mark.parametrize(
    ("tokens", "paid"), [(100, 0.0), (50, -0.5), (150, -0.5), (0, -1.0), (200, -1.0), (10**6, -1.0)]
)
def test_distance_from_the_target_in_parts_of_it(tokens, paid):
    assert length.to_target(tokens, 100) == paid


def test_neither_padding_nor_cutting_beats_the_target():
    paid = [length.to_target(tokens, 40) for tokens in range(200)]
    assert max(paid) == paid[40] == 0.0
    assert paid.count(0.0) == 1


@pytest.mark.parametrize(("tokens", "target"), [(5, 0), (5, -1), (-1, 5)])
def test_lengths_that_cannot_be_are_errors(tokens, target):
    with pytest.raises(ValueError, match="in tokens"):
        length.to_target(tokens, target)
