"""A base model from nothing: next-token loss on packed documents. One page."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from r1_jax.core import keys
from r1_jax.data import packing
from r1_jax.sharding import place
from r1_jax.training import state as train_state


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """How long, on rows of which shape. One pass over the corpus; a row is a bag of documents."""

    batch_rows: int = 32
    row_length: int = 256  # tokens
    num_microbatches: int = 1
    storage: str = "float32"  # of the weights file that the base is shipped as

    def __post_init__(self):
        if min(self.batch_rows, self.row_length, self.num_microbatches) < 1:
            raise ValueError("batch_rows, row_length and num_microbatches must be at least 1")
        if self.batch_rows % self.num_microbatches:
            raise ValueError(
                f"batch_rows={self.batch_rows} does not split into num_microbatches="
                f"{self.num_microbatches}"
            )


def num_steps(config: PretrainConfig, rows: packing.Packed) -> int:
    """Updates in one pass; the last, incomplete batch is left out."""
    steps = len(rows.tokens_BT) // config.batch_rows
    if not steps:
        raise ValueError(
            f"the corpus packs into {len(rows.tokens_BT)} rows, fewer than batch_rows="
            f"{config.batch_rows}; raise corpus.num_documents or lower batch_rows"
        )
    return steps


def train(
    config: PretrainConfig,
    state: train_state.TrainState,
    rows: packing.Packed,
    update: Callable[..., tuple[train_state.TrainState, dict[str, jax.Array]]],
    put: Callable[[packing.Packed], packing.Packed],
    *,
    seed: int,
    log: Callable[[int, dict[str, Any]], None],
    save: Callable[[train_state.TrainState], None],
) -> train_state.TrainState:
    """Runs updates state.step..num_steps over the shuffled rows and returns the last state.

    put: host rows -> device arrays. The order of rows is a function of the seed: a resume needs
    no other state.
    """
    key = keys.at(keys.root(seed), "pretrain/order")
    order = np.asarray(jax.random.permutation(key, len(rows.tokens_BT)))
    for step in range(int(state.step), num_steps(config, rows)):
        chosen = order[step * config.batch_rows : (step + 1) * config.batch_rows]
        state, metrics = update(state, put(packing.Packed(*(x[chosen] for x in rows))))
        log(step, {k: v for k, v in place.to_host(metrics).items() if k != "rows"})
        save(state)
    return state
