"""Rows in order of length, in pieces, each cut to what its longest row fills.

Padding costs what tokens cost; rows of like length in one piece have little of it. A piece takes
one of a few fixed lengths. In a run the host, which knows all lengths, takes one piece after the
other (pipeline/pieces): a length is compiled when a piece first has it. As one program
(`make_update`, `make_logps`) every length is a branch to be compiled.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.core import types
from r1_jax.models import prefix, scoring
from r1_jax.sharding import place
from r1_jax.training import step


def lengths(capacity: int) -> tuple[int, ...]:
    """The lengths in tokens a piece may have: about fifths of `capacity`, which is the last.

    Each is one more than a multiple of scoring.CHUNK: scoring pads the rest to one anyway. More of
    them cost more to compile than they save on a small model. They are all that is ever compiled.
    """
    chunks = [-(-(capacity * fifth // 5 - 1) // scoring.CHUNK) for fifth in range(1, 5)]
    return (*sorted({1 + scoring.CHUNK * n for n in chunks} & set(range(2, capacity))), capacity)


def shared_lengths(capacity: int) -> tuple[int, ...]:
    """The tokens that rows of a group may share of prompts of `capacity`: at most eight lengths.

    Each is one less than a multiple of 8: a prompt's last token predicts a row's own. A piece is
    compiled for each of them that occurs with its length.
    """
    step = 8 * -(-capacity // 64)
    return tuple(range(step - 1, capacity, step))


def cuts(lengths: Sequence[int]) -> step.Cuts:
    """The cuts of a piece of Rows or PolicyBatch: [b, T, ...] arrays lose their last columns."""

    def which(piece) -> jax.Array:
        longest = jnp.max(piece.prompt_length_B + piece.length_B)
        return jnp.searchsorted(jnp.asarray(lengths, jnp.int32), longest)

    def to(length: int):
        return lambda piece: cut(piece, length)

    return step.Cuts(which, tuple(to(length) for length in lengths))


def cut(piece, length: int):
    """A piece of Rows or of a batch to learn from without the columns from `length` on."""
    return jax.tree.map(lambda x: x[:, :length] if x.ndim >= 2 else x, piece)


class Filled(NamedTuple):
    """Tokens of every row, on the host: what rows are sorted by."""

    prompt_B: np.ndarray  # int32
    all_B: np.ndarray  # int32, prompt and completion

    @classmethod
    def of(cls, batch) -> "Filled":
        prompt_B = place.to_host(batch.prompt_length_B)
        return cls(prompt_B, prompt_B + place.to_host(batch.length_B))


class Order(NamedTuple):
    """How rows are taken, decided on the host: alike on every host, for all know all lengths."""

    rows_b: np.ndarray  # int32: from the shortest to the longest
    as_given_b: np.ndarray  # int32: where each of the rows given went
    lengths: tuple[int, ...]  # of every piece, in tokens
    shared: prefix.Shared | None = None  # how the rows of every piece begin alike

    @property
    def num_positions(self) -> int:
        """Positions that are computed, all pieces together."""
        num = len(self.rows_b) // len(self.lengths) * sum(self.lengths)
        return num - self._num_saved

    @property
    def _num_saved(self) -> int:
        if self.shared is None:
            return 0
        return (len(self.rows_b) - len(self.rows_b) // self.shared.rows) * self.shared.length

    def padding_share(self, filled: Filled) -> float:
        """Share of the computed positions that hold no token."""
        return 1 - (float(filled.all_B[self.rows_b].sum()) - self._num_saved) / self.num_positions


def order(
    filled: Filled,
    rows_b: np.ndarray,
    num_pieces: int,
    lengths: Sequence[int],
    *,
    group_size: int = 1,
    shared_lengths: Sequence[int] = (),
    ways: int = 1,
) -> Order:
    """rows_b: those that are meant. group_size: rows, one after the other, that have one prompt.
    shared_lengths: tokens that may be shared of it, none if prompts are not. ways: devices that a
    piece's rows are split over.

    Prompts are shared where all rows of a group are meant, a device's part of a piece is of whole
    groups, and a tenth of the positions at least is saved: sorted by groups, rows have more padding
    than one by one, and each length would be compiled again.
    """
    alone = _in_groups(filled, rows_b, rows_b[:, None], num_pieces, lengths)
    groups_pg = np.sort(rows_b)[: len(rows_b) // group_size * group_size].reshape(-1, group_size)
    is_whole = groups_pg.size == len(rows_b) and np.all(
        groups_pg == groups_pg[:, :1] // group_size * group_size + np.arange(group_size)
    )
    shortest = int(filled.prompt_B[rows_b].min())
    common = [length for length in shared_lengths if length < shortest]
    if not is_whole or not common or len(groups_pg) % (num_pieces * ways):
        return alone
    found = _in_groups(filled, rows_b, groups_pg, num_pieces, lengths)
    found = found._replace(shared=prefix.Shared(group_size, common[-1]))
    return found if found.num_positions <= 0.9 * alone.num_positions else alone


def _in_groups(filled: Filled, rows_b, groups_pg, num_pieces: int, lengths) -> Order:
    """`order` of rows that stay together in groups."""
    longest_p = filled.all_B[groups_pg].max(axis=1)
    sorted_b = groups_pg[np.argsort(longest_p, kind="stable")].reshape(-1)
    longest = [filled.all_B[piece].max() for piece in np.split(sorted_b, num_pieces)]
    cut_to = tuple(lengths[i] for i in np.searchsorted(lengths, longest))
    place_of = {row: i for i, row in enumerate(sorted_b.tolist())}
    as_given_b = np.array([place_of[row] for row in rows_b.tolist()], np.int32)
    return Order(sorted_b.astype(np.int32), as_given_b, cut_to)


def padded(found_bT: jax.Array, num_positions: int) -> jax.Array:
    """[b, num_positions]: with 0 in the columns that were cut off."""
    return jnp.pad(found_bT, ((0, 0), (0, num_positions - found_bT.shape[1])))


def split(batch, rows_b: jax.Array, num_pieces: int):
    """Arrays [num_pieces, b, ...] of those rows of `batch`."""

    def one(x):
        x = x[rows_b]
        return x.reshape(num_pieces, x.shape[0] // num_pieces, *x.shape[1:])

    return jax.tree.map(one, batch)


def piece(pieces, index: jax.Array | int, length: int):
    """One piece of `split`, cut."""
    return cut(jax.tree.map(lambda x: x[index], pieces), length)


def join(found: Sequence[Any], as_given_b: jax.Array):
    """What was found of each piece's rows, [b, ...] each, in the order in which they were given."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[as_given_b], *found)


class Rows(NamedTuple):
    """What scoring needs of Rollouts."""

    tokens_BT: types.Array
    prompt_length_B: types.Array
    length_B: types.Array
    chosen_BTLX: types.Array | None = None  # to be replayed

    @classmethod
    def of(cls, rollouts: types.Rollouts, *, replay: bool = False) -> "Rows":
        chosen_BTLX = rollouts.chosen_BTLX if replay else None
        return cls(rollouts.tokens_BT, rollouts.prompt_length_B, rollouts.length_B, chosen_BTLX)


def _order(batch, rows_b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(rows_b from the shortest to the longest, where each of rows_b went)."""
    by_length_b = jnp.argsort((batch.prompt_length_B + batch.length_B)[rows_b])
    return rows_b[by_length_b], jnp.argsort(by_length_b)


def make_update(update):
    """update(state, PolicyBatch, rows): one update on those rows, shortest first.

    metrics["rows"] comes back in the order of `rows`.
    """

    def on_rows(state, batch: types.PolicyBatch, rows_b):
        sorted_b, as_given_b = _order(batch, rows_b)
        state, metrics = update(state, jax.tree.map(lambda x: x[sorted_b], batch))
        return state, metrics | {"rows": jax.tree.map(lambda x: x[as_given_b], metrics["rows"])}

    return on_rows


def make_logps(
    score: Callable[[Any, Rows], jax.Array], num_pieces: int, lengths: Sequence[int]
) -> Callable[[Any, Rows], jax.Array]:
    """logps(params, Rows) -> logps_BT in nats, 0 where a row's piece was cut off.

    score: (params, Rows) -> logps_BT. num_pieces: divides B; lengths: as for `cuts`.
    """
    of_length = cuts(lengths)

    def logps(params, rows: Rows) -> jax.Array:
        B, T = rows.tokens_BT.shape
        sorted_B, as_given_B = _order(rows, jnp.arange(B))

        def one(piece):
            return padded(score(params, piece), T)

        pieces = jax.tree.map(
            lambda x: x[sorted_B].reshape(num_pieces, B // num_pieces, *x.shape[1:]), rows
        )
        logps_BT = jax.lax.map(lambda piece: of_length.apply(one, piece), pieces)
        return logps_BT.reshape(B, T)[as_given_B]

    return logps
