"""Nothing is lost, nothing is mixed, rows are used well."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from r1_jax.data import packing

DOCUMENTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), max_size=30)


def _unpack(packed):
    """(tokens, weights) of every document, found from segments alone."""
    found = []
    for row in range(packed.tokens_BT.shape[0]):
        segments = packed.segment_BT[row]
        for segment in range(1, segments.max() + 1):
            (positions,) = np.nonzero(segments == segment)
            assert np.array_equal(np.diff(positions), np.ones(len(positions) - 1))
            assert np.array_equal(packed.position_BT[row, positions], np.arange(len(positions)))
            tokens, weights = packed.tokens_BT[row, positions], packed.weight_BT[row, positions]
            found.append((tokens.tolist(), weights.tolist()))
    return found


@hypothesis.given(DOCUMENTS, st.integers(8, 20))
@hypothesis.settings(deadline=None)
def test_every_document_comes_back_whole_and_nothing_else(documents, row_length):
    packed = packing.pack(documents, row_length=row_length, pad_id=7)
    expected = [(d, [0.0] + [1.0] * (len(d) - 1)) for d in documents]
    assert sorted(_unpack(packed)) == sorted(expected)
    padding = packed.segment_BT == 0
    assert padding.sum() == packed.tokens_BT.size - sum(map(len, documents))
    assert np.all(packed.tokens_BT[padding] == 7)
    assert not packed.weight_BT[padding].any() and not packed.position_BT[padding].any()


@hypothesis.given(DOCUMENTS, st.integers(8, 20))
@hypothesis.settings(deadline=None)
def test_at_most_one_row_is_half_empty(documents, row_length):
    packed = packing.pack(documents, row_length=row_length, pad_id=0)
    used = (packed.segment_BT > 0).sum(axis=1)
    assert (2 * used <= row_length).sum() <= 1


def test_by_hand():
    packed = packing.pack([[1, 2], [3, 4, 5], [6], [7, 8, 9]], row_length=5, pad_id=0)
    # longest first: 345 and 789 open rows, 12 fills the later one opened, 6 goes to the other
    assert packed.tokens_BT.tolist() == [[3, 4, 5, 6, 0], [7, 8, 9, 1, 2]]
    assert packed.segment_BT.tolist() == [[1, 1, 1, 2, 0], [1, 1, 1, 2, 2]]
    assert packed.position_BT.tolist() == [[0, 1, 2, 0, 0], [0, 1, 2, 0, 1]]
    assert packed.weight_BT.tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 1]]
    assert [a.dtype for a in packed] == [np.int32, np.int32, np.int32, np.float32]


def test_the_least_room_that_fits_is_taken():
    documents = [[1] * 7, [2] * 5, [3] * 3]
    packed = packing.pack(documents, row_length=10, pad_id=0)
    assert packed.tokens_BT.tolist() == [[1] * 7 + [3] * 3, [2] * 5 + [0] * 5]


def test_weights_travel_with_their_tokens():
    packed = packing.pack(
        [[1, 2], [3, 4, 5]], row_length=5, pad_id=0, weights=[[9.0, 0.5], [9.0, 0.0, 2.0]]
    )
    assert packed.tokens_BT.tolist() == [[3, 4, 5, 1, 2]]
    assert packed.weight_BT.tolist() == [[0.0, 0.0, 2.0, 0.0, 0.5]]


def test_no_documents_are_no_rows():
    assert packing.pack([], row_length=4, pad_id=0).tokens_BT.shape == (0, 4)


@pytest.mark.parametrize("document, length", [([], 0), ([1] * 5, 5)])
def test_a_document_that_does_not_fit_is_named(document, length):
    with pytest.raises(ValueError, match=f"document 1 has {length} tokens, row_length=4"):
        packing.pack([[1], document], row_length=4, pad_id=0)


def test_weights_of_another_length_are_an_error():
    with pytest.raises(ValueError, match="weights must give one number"):
        packing.pack([[1, 2]], row_length=4, pad_id=0, weights=[[1.0]])
