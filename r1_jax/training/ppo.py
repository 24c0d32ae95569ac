"""PPO's loop: GRPO's, but a critic says what each token was worth. One page.

Proximal policy optimisation (arXiv:1707.06347) as RLHF runs it, the comparison of DeepSeek-R1's
revised A.3. Rollouts, rewards, minibatches, reference and what is logged are those of grpo.train.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from r1_jax.core import keys, types
from r1_jax.metrics import clock as metrics_clock
from r1_jax.sharding import place
from r1_jax.training import actor_critic, grpo, rollout, switches


class Critic(NamedTuple):
    """The jitted functions that GRPO does not need."""

    values: Callable[[Any, types.Rollouts], jax.Array]  # (critic's params, rollouts) -> values_BT
    batch: Callable[..., tuple[types.ActorCriticBatch, dict[str, jax.Array]]]  # actor_critic's


def train(
    config: switches.GRPOConfig,
    state: actor_critic.State,
    reference: Any,
    programs: grpo.Programs,
    hooks: grpo.Hooks,
    *,
    critic: Critic,
    seed: int,
    clock: metrics_clock.Clock,
) -> actor_critic.State:
    """Runs updates state.step..num_steps of policy and critic and returns the last state.

    programs.update: of actor_critic.make_update. All else is as in grpo.train.
    """
    root = keys.root(seed)
    step = int(state.step)
    if reference is not None and config.reference_every:
        programs.mix(reference, state.params)  # compiled now: no later step waits for it
    while step < config.num_steps:
        hooks.evaluate(state.params, step)
        limit = config.response_limit(step)
        rollouts, scored = rollout.sample_and_score(
            config, state, programs, hooks, root=root, step=step, limit=limit, clock=clock
        )
        with clock.phase("reference"):
            reference_logps = old_logps = None
            if reference is not None:
                reference_logps = programs.reference_logps(reference, rollouts)
            if config.importance_cap:
                old_logps = programs.logps(state.params, rollouts)
            values = critic.values(state.critic.params, rollouts)  # before any update, as GAE asks
            finished = scored()  # graded while the device scored
            reward_B, include_B = rollout.shaped_reward(config, rollouts, finished.scores, limit)
            batch, of_critic = critic.batch(
                rollouts, reward_B, include_B, values, reference_logps, old_logps
            )
            facts = rollout.facts(config, rollouts, finished.scores, limit)
            facts |= {name: float(x) for name, x in place.to_host(of_critic).items()}
        with clock.phase("update"):
            state, row = rollout.learn(
                config, state, programs.update, batch, finished.samples, root=root, step=step
            )
        row |= facts | finished.facts | clock.lap()
        hooks.log(step, row, finished.samples)
        grpo.check_gap(config, step, row["gap/sampler_learner_max"])
        before, step = step, int(state.step)
        every = config.reference_every
        if reference is not None and every and step // every > before // every:
            reference = programs.mix(reference, state.params)
        hooks.save(state, reference)
    hooks.evaluate(state.params, step)
    return state
