"""Rows by length: sorted, in pieces, cut to what they fill; and handed back in the order given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import types
from r1_jax.models import prefix, scoring
from r1_jax.training import by_length

PROMPT_B = np.array([2, 3, 1, 4, 2, 3, 1, 2], np.int32)
LENGTH_B = np.array([5, 1, 15, 3, 9, 2, 7, 4], np.int32)  # together 7 4 16 7 11 5 8 6
B, T = 8, 16


def _rows() -> by_length.Rows:
    tokens_BT = np.arange(B * T, dtype=np.int32).reshape(B, T)
    return by_length.Rows(tokens_BT, PROMPT_B, LENGTH_B)


def _positions(params, rows):
    """Every token, plus 1000 times how many positions its piece was given."""
    return params + rows.tokens_BT.astype(jnp.float32) + 1000 * rows.tokens_BT.shape[1]


@pytest.mark.parametrize("capacity", [2, 20, 33, 34, 80, 200, 1024 + 32_768])
def test_lengths_rise_to_the_capacity_in_whole_chunks(capacity):
    lengths = by_length.lengths(capacity)
    assert list(lengths) == sorted(set(lengths)) and lengths[-1] == capacity
    assert all(length % scoring.CHUNK == 1 for length in lengths[:-1])
    assert len(lengths) == 5 or capacity < 200


@pytest.mark.parametrize(("num_pieces", "cut_to"), [(1, {16}), (4, {6, 8, 16}), (8, {6, 8, 16})])
def test_a_piece_takes_the_shortest_length_that_holds_its_longest_row(num_pieces, cut_to):
    rows = _rows()
    logps = jax.jit(by_length.make_logps(_positions, num_pieces, (6, 8, 16)))
    found_BT = np.asarray(logps(jnp.float32(0.5), rows))
    assert found_BT.shape == (B, T)
    assert {int(x // 1000) for x in found_BT[found_BT > 0]} == cut_to
    for b in range(B):
        used = found_BT[b, found_BT[b] > 0]
        given = int(used[0] // 1000)
        assert len(used) == given >= PROMPT_B[b] + LENGTH_B[b]
        np.testing.assert_array_equal(used - 1000 * given, rows.tokens_BT[b, :given] + 0.5)


def test_pieces_hold_rows_of_like_length():
    found_BT = np.asarray(
        by_length.make_logps(_positions, 4, tuple(range(2, 17)))(jnp.float32(0.0), _rows())
    )
    given_B = found_BT[:, 0] // 1000
    np.testing.assert_array_equal(given_B, [7, 5, 16, 8, 16, 5, 8, 7])  # 4 5, 6 7, 7 8, 11 16


def test_rows_are_sorted_by_length_before_an_update_and_told_of_as_given():
    seen = {}

    def update(state, batch):
        seen["batch"] = batch
        return state, {"rows": {"reference": batch.reference_logps_BT}}

    rng = np.random.default_rng(0)
    reference_BT = rng.normal(size=(B, T)).astype(np.float32)
    batch = types.PolicyBatch(
        _rows().tokens_BT, PROMPT_B, LENGTH_B, reference_BT, None, reference_BT,
        np.zeros(B, np.float32), np.ones(B, bool),
    )  # fmt: skip
    rows = np.array([6, 1, 2, 5])
    _, metrics = by_length.make_update(update)(None, batch, rows)
    got = seen["batch"]
    np.testing.assert_array_equal(got.prompt_length_B + got.length_B, [4, 5, 8, 16])
    np.testing.assert_array_equal(got.reference_logps_BT, reference_BT[[1, 5, 6, 2]])
    np.testing.assert_array_equal(metrics["rows"]["reference"], reference_BT[rows])


FILLED = by_length.Filled(PROMPT_B, PROMPT_B + LENGTH_B)


def test_padding_is_what_the_cuts_leave():
    found = by_length.order(FILLED, np.arange(8), 4, (6, 8, 16))
    assert found.lengths == (6, 8, 8, 16)  # of 4 5, 6 7, 7 8, 11 16
    assert found.padding_share(FILLED) == pytest.approx(1 - 64 / (2 * (6 + 8 + 8 + 16)))
    some = by_length.order(FILLED, np.array([2, 1]), 1, (6, 8, 16))
    assert some.padding_share(FILLED) == pytest.approx(1 - 20 / 32)


def _in_groups(prompts=(17, 17, 19, 19, 16, 16, 30, 30), tails=(9, 3, 2, 2, 8, 1, 2, 6), **more):
    """The order of four prompts' two rows each, in an order that is no longer theirs."""
    filled = by_length.Filled(np.array(prompts), np.add(prompts, tails))
    rows_b = more.pop("rows_b", np.array([3, 7, 0, 2, 5, 6, 4, 1]))
    given: dict = {"num_pieces": 2, "lengths": (24, 40), "group_size": 2}
    given |= {"shared_lengths": (7, 15, 23)} | more
    return filled, by_length.order(filled, rows_b, **given)


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        (24, (7, 15, 23)),
        (7, ()),
        (64, tuple(range(7, 64, 8))),
        (1024, tuple(range(127, 1024, 128))),
    ],
)
def test_few_lengths_of_prompts_may_be_shared(capacity, expected):
    assert by_length.shared_lengths(capacity) == expected


def test_rows_of_a_prompt_stay_together_where_sharing_it_saves_work():
    filled, found = _in_groups()
    assert found.shared == prefix.Shared(rows=2, length=15)  # of 16; 15 predicts a row's own
    np.testing.assert_array_equal(found.rows_b, [2, 3, 4, 5, 0, 1, 6, 7])  # 21 24 | 26 36
    np.testing.assert_array_equal(
        found.rows_b[found.as_given_b], [3, 7, 0, 2, 5, 6, 4, 1]
    )  # as they were given
    assert found.lengths == (24, 40)
    assert found.num_positions == 4 * (24 + 40) - 4 * 15
    saved = filled.all_B.sum() - 4 * 15
    assert found.padding_share(filled) == pytest.approx(1 - saved / found.num_positions)


@pytest.mark.parametrize(
    "other",
    [
        {"group_size": 1},  # not asked for
        {"shared_lengths": ()},
        {"ways": 4},  # a device would have half a group
        {"rows_b": np.array([3, 7, 0, 2, 5, 6]), "num_pieces": 1},  # 1 and 4 are not meant
        {"rows_b": np.array([1, 2, 5, 6]), "num_pieces": 1},
        {"prompts": (7,) * 8},  # shorter than the shortest
        {"prompts": (9,) * 8, "tails": (9, 90) * 4, "lengths": (24, 100)},  # a tenth is not saved
    ],
)
def test_prompts_are_not_shared(other):
    _, found = _in_groups(**other)
    assert found.shared is None
    assert list(found.rows_b) != sorted(found.rows_b)
