"""R1-Zero's loop: sample a group per prompt, score it by rules, move the policy. One page.

The loop knows no sandbox, no tokenizer and no benchmark: it is handed functions. Randomness is a
function of (seed, purpose, step), so a resume needs only the arrays and the data iterator's place.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from r1_jax.core import keys, types
from r1_jax.metrics import clock as metrics_clock
from r1_jax.training import rollout, switches
from r1_jax.training import state as train_state


class GapError(RuntimeError):
    """Sampler and learner disagree: what is trained would not be what was sampled."""


class Programs(NamedTuple):
    """The jitted functions of the loop, compiled once each."""

    generate: Callable[..., types.Rollouts]  # (params, PromptBatch, key, policy_step, limit)
    logps: Callable[[Any, types.Rollouts], jax.Array]  # (params, rollouts) -> logps_BT
    reference_logps: Callable[[Any, types.Rollouts], jax.Array]  # the same, of the reference
    update: Callable[..., tuple[train_state.TrainState, dict[str, jax.Array]]]
    mix: Callable[[Any, Any], Any]  # (reference, params) -> new reference


class Hooks(NamedTuple):
    """What the loop calls and does not know."""

    next_prompts: Callable[[], tuple[list[Any], types.PromptBatch]]  # problems, and their tokens
    score: Callable[
        [list[Any], types.Rollouts, int], Callable[[], rollout.Scored]
    ]  # starts; () waits
    log: Callable[[int, dict[str, Any], list[dict[str, Any]]], None]
    evaluate: Callable[[Any, int], None]
    save: Callable[[Any, Any, Any], None]  # (state, reference, behind), as `train` takes them


class Learning(NamedTuple):
    """What an update is made of."""

    finished: rollout.Scored
    batch: Any  # what programs.update takes
    facts: dict[str, Any]  # for the log


def group_batch(config, state, rollouts, scored, reference_logps, old_logps, limit) -> Learning:
    """GRPO's rows: a completion is worth what it is better than its group."""
    finished = scored()  # graded while the device scored
    batch, facts = rollout.policy_batch(
        config, rollouts, finished.scores, reference_logps, old_logps, limit
    )
    return Learning(finished, batch, facts)


def train(
    config: switches.GRPOConfig,
    state: train_state.TrainState,
    reference: Any,
    programs: Programs,
    hooks: Hooks,
    *,
    seed: int,
    clock: metrics_clock.Clock,
    make_batch: Callable[..., Learning] = group_batch,
    behind: Any = None,
) -> train_state.TrainState:
    """Runs updates state.step..num_steps and returns the last state.

    reference: parameters of the reference policy, None when kl_coef is 0. make_batch: PPO's is
    ppo.make_batch, beside a state and an update of its own. behind: with one_step_off, those that
    sample for the first step, config.lag updates old, as they were saved; None: the state's own.
    Raises GapError when the sampler-learner gap leaves gap_bound.
    """
    root = keys.root(seed)
    step = int(state.step)
    if reference is not None and config.reference_every:
        programs.mix(reference, state.params)  # compiled now: no later step waits for it
    draw = partial(rollout.draw, config, programs, hooks, root=root, clock=clock)
    ahead = None
    while step < config.num_steps:
        hooks.evaluate(state.params, step)
        limit = config.response_limit(step)
        sampler = (state.params, step) if behind is None else (behind, step - config.lag)
        again = partial(draw, *sampler, step=step)
        drawn = ahead or again()
        rollouts, scored = rollout.score(config, drawn, again, hooks, step=step)
        following = step + config.lag
        is_more = step < following < config.num_steps
        ahead = draw(state.params, step, step=following) if is_more else None  # the host grades
        with clock.phase("reference"):
            reference_logps = old_logps = None
            if reference is not None:
                reference_logps = programs.reference_logps(reference, rollouts)
            if config.importance_cap:
                old_logps = programs.logps(state.params, rollouts)
            finished, batch, facts = make_batch(
                config, state, rollouts, scored, reference_logps, old_logps, limit
            )
            jax.block_until_ready((reference_logps, old_logps))  # or the update's clock counts it
        with clock.phase("update"):
            if config.lag:  # the update takes what drew `ahead`; a resume will draw it again
                jax.tree.map(lambda x: x.delete(), behind)
                behind = jax.tree.map(jnp.copy, state.params)
            state, row = rollout.learn(
                config,
                state,
                programs.update,
                batch,
                finished.samples,
                root=root,
                step=step,
                gap_B=drawn.gap_B,
            )
        row |= facts | finished.facts | clock.lap()
        row["policy/lag"] = step - int(rollouts.policy_step)
        hooks.log(step, row, finished.samples)
        check_gap(config, step, row["gap/sampler_learner_max"])
        before, step = step, int(state.step)
        every = config.reference_every
        if reference is not None and every and step // every > before // every:
            reference = programs.mix(reference, state.params)
        hooks.save(state, reference, behind)
    hooks.evaluate(state.params, step)
    return state


def check_gap(config: switches.GRPOConfig, step: int, gap: float) -> None:
    """Raises GapError for a gap in nats that is above gap_bound, or no number."""
    if not gap <= config.gap_bound:
        raise GapError(
            f"step {step}: sampler and learner differ by {gap:.3g} nats on one token, above "
            f"gap_bound={config.gap_bound}; look for stale weights or a numerics difference, or "
            "raise the bound if compute_dtype is bfloat16 or the sampler has 8 bits"
        )
