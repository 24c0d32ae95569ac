"""The two losses of reward models: pairwise and point-wise. Formulas first, then over a model."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1_jax.core import types
from r1_jax.models import config as model_config
from r1_jax.models import reward
from r1_jax.training import step


class ResponseRows(NamedTuple):
    """B examples of X texts each: X = 2 for pairs, the chosen first; X = 1 for labelled answers."""

    tokens_BXT: types.Array  # int32: prompt, response, stop token, padding
    length_BX: types.Array  # int32, tokens without padding
    is_good_B: types.Array  # bool: the label (safe); True for pairs


def bradley_terry(chosen_B: jax.Array, rejected_B: jax.Array) -> jax.Array:
    """-log sigmoid(r_chosen - r_rejected) [B], nats; its gradient by r_chosen is -sigmoid(-d).

    InstructGPT (arXiv:2203.02155) Eq. 1 for one pair. Finite for any finite rewards.
    """
    return -jax.nn.log_sigmoid(chosen_B - rejected_B)


def cross_entropy(reward_B: jax.Array, is_good_B: jax.Array) -> jax.Array:
    """-log p(label) [B], nats, with p(good) = sigmoid(reward); its gradient: sigmoid - label."""
    return -jax.nn.log_sigmoid(jnp.where(is_good_B, reward_B, -reward_B))


def row_rewards(model: model_config.ModelConfig, params, batch: ResponseRows) -> jax.Array:
    """reward_BX of every text."""
    B, X, T = batch.tokens_BXT.shape
    flat_N = reward.rewards(
        model, params, batch.tokens_BXT.reshape(B * X, T), batch.length_BX.reshape(B * X)
    )
    return flat_N.reshape(B, X)


def make_pairwise(model: model_config.ModelConfig) -> step.Loss:
    """loss(params, ResponseRows of pairs): mean Bradley-Terry loss (helpful, R1's Nature 3.1)."""

    def loss(params, batch: ResponseRows) -> step.LossOutput:
        reward_BX = row_rewards(model, params, batch)
        chosen_B, rejected_B = reward_BX[:, 0], reward_BX[:, 1]
        means = {
            "accuracy": _mean(chosen_B > rejected_B),
            "margin": _mean(chosen_B - rejected_B),
            "reward": _mean(jnp.mean(reward_BX, axis=1)),
        }
        return step.LossOutput(_mean(bradley_terry(chosen_B, rejected_B)), means, {}, {})

    return loss


def make_pointwise(model: model_config.ModelConfig) -> step.Loss:
    """loss(params, ResponseRows of labelled answers): mean cross-entropy (safety, 3.1)."""

    def loss(params, batch: ResponseRows) -> step.LossOutput:
        reward_B = row_rewards(model, params, batch)[:, 0]
        sign_B = jnp.where(batch.is_good_B, 1.0, -1.0)
        means = {
            "accuracy": _mean(reward_B * sign_B > 0),
            "margin": _mean(reward_B * sign_B),
            "reward": _mean(reward_B),
        }
        return step.LossOutput(_mean(cross_entropy(reward_B, batch.is_good_B)), means, {}, {})

    return loss


LOSSES = {"pairwise": make_pairwise, "pointwise": make_pointwise}


def _mean(x_B: jax.Array) -> types.WeightedSum:
    return types.WeightedSum(jnp.sum(x_B.astype(jnp.float32)), jnp.float32(x_B.shape[0]))
