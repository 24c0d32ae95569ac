"""The pytrees that travel between rooms; every field says its shape, dtype and unit."""

import dataclasses
import typing
from typing import Any

import jax

Array = Any  # a jax.Array on devices, a np.ndarray on the host: the same pytrees travel both ways


@typing.dataclass_transform(frozen_default=True)
def _pytree(cls):
    """Freezes `cls` as a dataclass and registers all its fields as pytree children."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    return jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=[])


@_pytree
class PromptBatch:
    """P prompts, padded on the right."""

    tokens_PT: Array  # int32; row p holds length_P[p] prompt tokens, then padding
    length_P: Array  # int32, tokens
    uid_P: Array  # int32, the problem's identity: unique in its task over all splits


@_pytree
class Rollouts:
    """B = P*G completions in prompt-major order: row b is sample b % G of prompt b // G.

    A row is contiguous: prompt tokens, generated tokens, padding. Masks are computed from the
    lengths, never from a token's value.
    """

    tokens_BT: Array  # int32
    prompt_length_B: Array  # int32, tokens
    length_B: Array  # int32, generated tokens, the stop token included
    logps_BT: Array  # float32 nats: log p of tokens_BT[b, t] as sampled; 0 off the completion
    stop_B: Array  # int32: the stop token that ended the row, -1 if it was cut off
    uid_B: Array  # int32, the prompt's uid
    sample_B: Array  # int32, index within the group
    policy_step: Array  # int32 scalar: optimiser updates behind the sampling policy
    slot_steps: Array  # int32 scalar: tokens the decode loop had room for; sum(length_B) used
    chosen_BTLX: Array | None = None  # int16: each token's experts by layer; anything on padding


@_pytree
class Scores:
    """What the rewards said of B completions."""

    reward_B: Array  # float32: weighted sum of the parts
    parts: dict[str, Array]  # float32 [B] each, unweighted
    outcome_B: Array  # int32: rewards.verdict.Outcome of the accuracy part
    valid_B: Array  # bool: False where a grader failed; such rows leave baseline and loss


@_pytree
class PolicyBatch:
    """One minibatch of the policy update: B rows of T positions."""

    tokens_BT: Array  # int32, as in Rollouts
    prompt_length_B: Array  # int32, tokens
    length_B: Array  # int32, generated tokens
    behavior_logps_BT: Array  # float32 nats under the policy that sampled
    old_logps_BT: Array | None  # float32 nats, the learner's own before the first update
    reference_logps_BT: Array | None  # float32 nats; None when no KL term is used
    advantage_B: Array  # float32
    include_B: Array  # bool: rows that take part in the loss
    chosen_BTLX: Array | None = None  # int16, as in Rollouts, to be replayed; None: not


@_pytree
class ActorCriticBatch:
    """One minibatch of an update of policy and critic: a PolicyBatch whose tokens differ."""

    tokens_BT: Array  # int32, as in Rollouts
    prompt_length_B: Array  # int32, tokens
    length_B: Array  # int32, generated tokens
    behavior_logps_BT: Array  # float32 nats under the policy that sampled
    old_logps_BT: Array | None  # float32 nats, the learner's own before the first update
    reference_logps_BT: Array | None  # float32 nats; None when no KL term is used
    advantage_BT: Array  # float32; 0 off the completion
    old_value_BT: Array  # float32, the critic's before the first update
    return_BT: Array  # float32, what the critic is to learn
    include_B: Array  # bool: rows that take part in the losses
    chosen_BTLX: Array | None = None  # int16, as in Rollouts, to be replayed; None: not


@_pytree
class WeightedSum:
    """A mean in two parts, so that microbatches add up exactly: mean = total / weight."""

    total: Array
    weight: Array

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)
