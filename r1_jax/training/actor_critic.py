"""What PPO has and GRPO does not: a critic's switches, state, batch and update."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from r1_jax.core import masked, types
from r1_jax.rl import diagnostics, gae
from r1_jax.training import losses, step, switches
from r1_jax.training import state as train_state


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """The switches of PPO's critic: PPO arXiv:1707.06347, GAE arXiv:1506.02438.

    Rollouts, minibatches, clip range, aggregation, KL and reference are GRPOConfig's, read as GRPO
    reads them but for two: `advantage` is not read, and kl_place "reward" charges each token its
    own KL, as RLHF's PPO does.
    gamma: discount of rewards per token. gae_lambda: 1 takes the rewards to come, less the critic's
    word for them; in DeepSeek-R1's revised A.3, 1.0 comes close to GRPO and 0.95 is clearly worse.
    whiten: advantages to mean 0 and deviation 1 over a rollout. value_clip: how far from its value
    before the update the critic's loss follows (objectives.value_error); 0 is off. learning_rate:
    the critic's; all else of its optimiser is as the policy's.
    """

    gamma: float = 1.0
    gae_lambda: float = 1.0
    whiten: bool = True
    value_clip: float = 0.2
    learning_rate: float = 1e-5

    def __post_init__(self):
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in 0..1")
        if self.value_clip < 0 or self.learning_rate < 0:
            raise ValueError(
                f"value_clip={self.value_clip} and learning_rate={self.learning_rate} cannot be "
                "negative; value_clip=0 switches clipping off"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Policy and critic, each with its own optimiser; seen from outside, it is the policy's."""

    policy: train_state.TrainState
    critic: train_state.TrainState

    @property
    def step(self) -> jax.Array:
        return self.policy.step

    @property
    def params(self) -> Any:
        return self.policy.params


def make_batch(config: switches.GRPOConfig, ppo: PPOConfig):
    """batch(rollouts, reward_B, include_B, ...) -> (ActorCriticBatch, facts), to be jitted."""

    def batch(
        rollouts: types.Rollouts,
        reward_B: jax.Array,
        include_B: jax.Array,
        value_BT: jax.Array,
        reference_logps_BT: jax.Array | None,
        old_logps_BT: jax.Array | None,
    ) -> tuple[types.ActorCriticBatch, dict[str, jax.Array]]:
        """value_BT: the critic's before the update. reward_B of a row left out may be anything."""
        T = rollouts.tokens_BT.shape[1]
        mask_BT = masked.completion_mask(rollouts.prompt_length_B, rollouts.length_B, T)
        penalty_BT = 0.0
        if reference_logps_BT is not None and config.kl_place == "reward":
            kl_BT = losses.KL[config.kl_estimator](rollouts.logps_BT, reference_logps_BT)
            is_reachable_BT = losses.is_reachable(reference_logps_BT)
            penalty_BT = config.kl_coef * jnp.where(is_reachable_BT, kl_BT, 0.0)
        reward_B = jnp.where(include_B, reward_B, 0.0)
        reward_BT = gae.token_rewards(reward_B, penalty_BT, mask_BT)
        advantage_BT, return_BT = gae.estimate(
            reward_BT, value_BT, mask_BT, gamma=ppo.gamma, lam=ppo.gae_lambda
        )
        included_BT = mask_BT & include_B[:, None]
        explained = diagnostics.explained_variance(value_BT, return_BT, included_BT)
        if ppo.whiten:
            advantage_BT = gae.whiten(advantage_BT, included_BT)
        rows = types.ActorCriticBatch(
            tokens_BT=rollouts.tokens_BT,
            prompt_length_B=rollouts.prompt_length_B,
            length_B=rollouts.length_B,
            behavior_logps_BT=rollouts.logps_BT,
            old_logps_BT=old_logps_BT,
            reference_logps_BT=reference_logps_BT,
            advantage_BT=advantage_BT,
            old_value_BT=value_BT,
            return_BT=return_BT,
            include_B=include_B,
            chosen_BTLX=rollouts.chosen_BTLX,
        )
        return rows, {"value/explained_variance": explained}

    return batch


def make_update(update_policy, update_critic):
    """update(State, ActorCriticBatch) of two of step.make_update; neither sees what the other did.

    A non-finite gradient of the one skips the one alone. Metrics are the policy's under GRPO's
    names, the critic's as value/*.
    """

    def update(state: State, batch: types.ActorCriticBatch):
        policy, metrics = update_policy(state.policy, batch)
        critic, of_critic = update_critic(state.critic, batch)
        metrics |= {
            "value/loss": of_critic["loss"],
            "value/mean": of_critic["mean"],
            "value/clip_share": of_critic["clip_share"],
            "value/gradient_norm": of_critic["gradient/norm"],
            "value/skipped": of_critic["update/skipped"],
        }
        return State(policy, critic), metrics

    return update


def make_parts(policy: step.Parts, critic: step.Parts) -> step.Parts:
    """The parts of `make_update`: sums are pairs, a microbatch adds to both; rows the policy's."""

    def nothing(state: State, microbatch):
        return policy.nothing(state.policy, microbatch), critic.nothing(state.critic, microbatch)

    def add(state: State, sums, microbatch):
        of_policy, of_critic = (None, None) if sums is None else sums
        of_policy, rows = policy.add(state.policy, of_policy, microbatch)
        of_critic, _ = critic.add(state.critic, of_critic, microbatch)
        return (of_policy, of_critic), rows

    take = make_update(
        lambda state, sums: policy.take(state, sums[0]),
        lambda state, sums: critic.take(state, sums[1]),
    )
    return step.Parts(nothing, add, take)
