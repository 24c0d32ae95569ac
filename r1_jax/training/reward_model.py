"""A reward model from preference pairs or labelled answers. One page."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.core import keys
from r1_jax.sharding import place
from r1_jax.training import by_length, preference_losses, step
from r1_jax.training import optim as optimizers
from r1_jax.training import state as train_state


@dataclasses.dataclass(frozen=True)
class RewardModelConfig:
    """Defaults are those of DeepSeek-R1 (Nature, 2025) 3.1 for both kinds.

    pairwise: the helpful model, on pairs; pointwise: the safety model, on labelled answers.
    """

    kind: Literal["pairwise", "pointwise"] = "pairwise"
    batch_size: int = 256  # examples: pairs, or labelled answers
    num_microbatches: int = 1
    num_epochs: int = 1
    max_tokens: int = 8192  # of prompt, response and stop token; longer examples are left out
    held_out_share: float = 0.05  # of the prompts; not published
    optim: optimizers.OptimConfig = dataclasses.field(
        default_factory=lambda: optimizers.OptimConfig(learning_rate=6e-6)
    )

    def __post_init__(self):
        sizes = (self.batch_size, self.num_microbatches, self.num_epochs)
        if min(sizes) < 1 or self.max_tokens < 2:
            raise ValueError(
                "batch_size, num_microbatches and num_epochs must be at least 1, max_tokens 2"
            )
        if self.batch_size % self.num_microbatches:
            raise ValueError(
                f"batch_size={self.batch_size} does not split into num_microbatches="
                f"{self.num_microbatches}"
            )
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share={self.held_out_share} must be a share in (0, 1)")


class Example(NamedTuple):
    """One pair (chosen, rejected) or one labelled answer (alone), as token ids."""

    texts: tuple[Sequence[int], ...]  # prompt, response, stop token each
    is_good: bool = True

    @property
    def longest(self) -> int:
        return max(map(len, self.texts))


def rows(
    examples: Sequence[Example], num_positions: int, pad_id: int
) -> preference_losses.ResponseRows:
    """Host rows of `examples`, padded on the right to num_positions."""
    shape = (len(examples), len(examples[0].texts))
    tokens_BXT = np.full((*shape, num_positions), pad_id, np.int32)
    for b, example in enumerate(examples):
        for x, ids in enumerate(example.texts):
            tokens_BXT[b, x, : len(ids)] = ids
    length_BX = np.array([[len(ids) for ids in e.texts] for e in examples], np.int32)
    return preference_losses.ResponseRows(
        tokens_BXT, length_BX, np.array([example.is_good for example in examples])
    )


def cuts(capacity: int) -> step.Cuts:
    """Microbatches of ResponseRows lose the positions that none of their texts fills."""
    lengths = by_length.lengths(capacity)

    def which(batch: preference_losses.ResponseRows) -> jax.Array:
        return jnp.searchsorted(jnp.asarray(lengths, jnp.int32), jnp.max(batch.length_BX))

    def to(length: int):
        return lambda batch: batch._replace(tokens_BXT=batch.tokens_BXT[:, :, :length])

    return step.Cuts(which, tuple(to(length) for length in lengths))


def num_steps(config: RewardModelConfig, num_examples: int) -> int:
    """Updates in all epochs; the last, incomplete batch of each is left out."""
    if num_examples < config.batch_size:
        raise ValueError(
            f"{num_examples} examples to train on are fewer than batch_size={config.batch_size}; "
            "judge more answers or lower reward_model.batch_size"
        )
    return config.num_epochs * (num_examples // config.batch_size)


def train(
    config: RewardModelConfig,
    state: train_state.TrainState,
    examples: Sequence[Example],
    update: Callable[..., tuple[train_state.TrainState, dict[str, Any]]],
    put: Callable[[preference_losses.ResponseRows], preference_losses.ResponseRows],
    *,
    pad_id: int,
    seed: int,
    log: Callable[[int, dict[str, Any]], None],
    save: Callable[[train_state.TrainState], None],
) -> train_state.TrainState:
    """Runs updates state.step..num_steps over the shuffled examples and returns the last state.

    put: host rows -> device arrays. The order of an epoch is a function of the seed and the epoch:
    a resume needs no other state. Inside a batch the examples stand from short to long, so that
    the microbatches' cuts bite.
    """
    steps_per_epoch = num_steps(config, len(examples)) // config.num_epochs
    order: np.ndarray | None = None
    for step_index in range(int(state.step), config.num_epochs * steps_per_epoch):
        epoch, place_in_epoch = divmod(step_index, steps_per_epoch)
        if order is None or not place_in_epoch:
            key = keys.at(keys.root(seed), "reward_model/order", epoch)
            order = np.asarray(jax.random.permutation(key, len(examples)))
        start = place_in_epoch * config.batch_size
        chosen = [examples[i] for i in order[start : start + config.batch_size]]
        chosen.sort(key=lambda example: example.longest)
        state, metrics = update(state, put(rows(chosen, config.max_tokens, pad_id)))
        log(step_index, {k: v for k, v in place.to_host(metrics).items() if k != "rows"})
        save(state)
    return state
