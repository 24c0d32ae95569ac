"""Documents packed into rows of one length, for pre-training and fine-tuning."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from r1_jax.core import types


class Packed(NamedTuple):
    """B rows of T positions. A document never sees another: attention stays in its segment."""

    tokens_BT: types.Array  # int32; pad_id where segment is 0
    segment_BT: types.Array  # int32: 0 is padding, 1, 2, ... the documents of a row
    position_BT: types.Array  # int32: index within the document, 0 on padding
    weight_BT: types.Array  # float32: what predicting this token counts in the loss, 0 on padding


def pack(
    documents: Sequence[Sequence[int]],
    *,
    row_length: int,
    pad_id: int,
    weights: Sequence[Sequence[float]] | None = None,
) -> Packed:
    """All of `documents` (token ids, the stop token included) in as few rows as best fit gives.

    Longest first, each goes to the row with the least room that still holds it; so rows come
    sorted, and a trainer shuffles them. Equal input gives equal rows. Every token is in exactly
    one place, each document whole and in one row. `weights` has a number for every token, by
    default 1; a document's first token always weighs 0, as nothing precedes it. Raises ValueError
    for an empty document, one longer than row_length, and weights of another length.
    """
    if weights is not None and [len(w) for w in weights] != [len(d) for d in documents]:
        raise ValueError("weights must give one number for every token of every document")
    for index, document in enumerate(documents):
        if not 1 <= len(document) <= row_length:
            raise ValueError(
                f"document {index} has {len(document)} tokens, row_length={row_length}; a document "
                "must be 1 to row_length tokens long: raise row_length or drop it"
            )
    order = sorted(range(len(documents)), key=lambda index: -len(documents[index]))
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(row_length + 1)]  # by their free positions
    has_open = 0  # bit i: open_rows[i] is not empty
    for index in order:
        length = len(documents[index])
        fitting = has_open >> length
        if fitting:
            free = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[free].pop()
            if not open_rows[free]:
                has_open ^= 1 << free
        else:
            free, row = row_length, len(rows)
            rows.append([])
        rows[row].append(index)
        open_rows[free - length].append(row)
        has_open |= 1 << (free - length)

    shape = (len(rows), row_length)
    tokens_BT = np.full(shape, pad_id, np.int32)
    segment_BT, position_BT = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    weight_BT = np.zeros(shape, np.float32)
    for row, indices in enumerate(rows):
        start = 0
        for segment, index in enumerate(indices, start=1):
            length = len(documents[index])
            span = slice(start, start + length)
            tokens_BT[row, span] = documents[index]
            segment_BT[row, span] = segment
            position_BT[row, span] = np.arange(length)
            weight_BT[row, span] = 1.0 if weights is None else weights[index]
            weight_BT[row, start] = 0.0
            start += length
    return Packed(tokens_BT, segment_BT, position_BT, weight_BT)
