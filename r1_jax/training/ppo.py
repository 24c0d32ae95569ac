"""What PPO changes in GRPO's loop: a critic says what each token was worth.

Proximal policy optimisation (arXiv:1707.06347) as RLHF runs it, the comparison of DeepSeek-R1's
revised A.3. Rollouts, rewards, minibatches, reference and what is logged are those of grpo.train.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from r1_jax.core import types
from r1_jax.sharding import place
from r1_jax.training import grpo, rollout


class Critic(NamedTuple):
    """The jitted functions that GRPO does not need."""

    values: Callable[[Any, types.Rollouts], jax.Array]  # (critic's params, rollouts) -> values_BT
    batch: Callable[..., tuple[types.ActorCriticBatch, dict[str, jax.Array]]]  # actor_critic's


def make_batch(critic: Critic):
    """grpo.train's make_batch for PPO: a token is worth more or less than the critic expected.

    The state is an actor_critic.State and the update one of actor_critic.make_update.
    """

    def batch(config, state, rollouts, scored, reference_logps, old_logps, limit) -> grpo.Learning:
        values = critic.values(state.critic.params, rollouts)  # before any update, as GAE asks
        finished = scored()  # graded while the device scored
        rewards = rollout.shaped(config, rollouts, finished.scores, limit)
        rows, of_critic = critic.batch(
            rollouts, rewards.reward_B, rewards.include_B, values, reference_logps, old_logps
        )
        facts = rollout.facts(rollouts, rewards, limit)
        facts |= {name: float(x) for name, x in place.to_host(of_critic).items()}
        return grpo.Learning(finished, rows, facts)

    return batch
