"""Next-token loss on packed rows: pre-training, fine-tuning, distillation by text. One page."""

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
class SupervisedConfig:
    """How long, on rows of which shape. A row is a bag of documents."""

    epochs: int = 1  # passes over the rows, each in an order of its own
    batch_rows: int = 32
    row_length: int = 256  # tokens
    num_microbatches: int = 1
    storage: str = "float32"  # of the weights file that comes out
    teacher: str = ""  # weights whose distributions are learnt beside the tokens; "" is none
    teacher_weight: float = 0.5  # of the teacher's divergence; the rest is the tokens'
    teacher_temperature: float = 1.0
    balance_coef: float = 0.0  # of experts' sequence balance loss; DeepSeek-V3: 1e-4
    mtp_schedule: tuple[tuple[int, float], ...] = ()  # ((update, weight), ...) of multi-token
    # prediction's loss, from that update on; () is none. DeepSeek-V3: 0.3, in the end 0.1
    bias_rate: float = 0.0  # of experts' selection bias, by load; DeepSeek-V3: 1e-3

    def __post_init__(self):
        for name in ("epochs", "batch_rows", "row_length", "num_microbatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.teacher_weight <= 1 or self.teacher_temperature <= 0:
            raise ValueError(
                f"teacher_weight={self.teacher_weight} must be in (0, 1] and teacher_temperature="
                f"{self.teacher_temperature} above 0"
            )
        if self.balance_coef < 0 or self.bias_rate < 0:
            raise ValueError(
                f"balance_coef={self.balance_coef} and bias_rate={self.bias_rate} cannot be "
                "negative; 0 switches them off"
            )
        for step, weight in self.mtp_schedule:
            if step < 0 or weight < 0:
                raise ValueError(f"mtp_schedule entry ({step}, {weight}) cannot be negative")
        if self.batch_rows % self.num_microbatches:
            raise ValueError(
                f"batch_rows={self.batch_rows} does not split into num_microbatches="
                f"{self.num_microbatches}"
            )


def mtp_weight(config: SupervisedConfig, step: int) -> float:
    """The weight of multi-token prediction's loss at `step`: the schedule's last one begun."""
    begun = [weight for start, weight in sorted(config.mtp_schedule) if start <= step]
    return begun[-1] if begun else 0.0


def num_steps(config: SupervisedConfig, rows: packing.Packed) -> int:
    """Updates in all passes; each pass leaves its last, incomplete batch out."""
    steps = len(rows.tokens_BT) // config.batch_rows
    if not steps:
        raise ValueError(
            f"the documents pack into {len(rows.tokens_BT)} rows, fewer than batch_rows="
            f"{config.batch_rows}; bring more documents or lower batch_rows"
        )
    return steps * config.epochs


def train(
    config: SupervisedConfig,
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

    put: host rows -> device arrays. The order of an epoch's rows is a function of (seed, epoch): a
    resume needs no other state.
    """
    root = keys.root(seed)
    per_epoch = num_steps(config, rows) // config.epochs
    for step in range(int(state.step), num_steps(config, rows)):
        epoch, place_in_epoch = divmod(step, per_epoch)
        key = keys.at(root, "rows/order", epoch)
        order = np.asarray(jax.random.permutation(key, len(rows.tokens_BT)))
        chosen = order[place_in_epoch * config.batch_rows :][: config.batch_rows]
        state, metrics = update(state, put(packing.Packed(*(x[chosen] for x in rows))))
        log(step, {k: v for k, v in place.to_host(metrics).items() if k != "rows"})
        save(state)
    return state
