"""A rollout's way: draw, score, resample, shape, group, cut; then its updates and its row."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.core import keys, masked, types
from r1_jax.rl import advantages, diagnostics, overlong
from r1_jax.sharding import place
from r1_jax.training import losses, switches

ADVANTAGES = {
    "zscore": advantages.zscore,
    "mean_only": advantages.mean_only,
    "leave_one_out": advantages.leave_one_out,
    "none": advantages.none,
}


class Scored(NamedTuple):
    """What the scorer says of a rollout, host side."""

    scores: types.Scores
    facts: dict[str, Any]  # means over completions, for the log
    samples: list[dict[str, Any]]  # one row a completion, for samples/


class Drawn(NamedTuple):
    """Completions on the host that nobody has graded yet."""

    prompts: list[Any]
    rollouts: types.Rollouts
    gap_B: np.ndarray | None  # nats, where they are older than what will learn from them


def draw(config, programs, hooks, params, policy_step, *, root, step, clock, attempt=0) -> Drawn:
    """Completions for the updates from `step` on, by `params`, which have seen policy_step."""
    prompts, batch = hooks.next_prompts()
    with clock.phase("rollout"):
        key = keys.at(root, "sample", step, attempt)
        limit = config.response_limit(step)
        rollouts = place.to_host(programs.generate(params, batch, key, policy_step, limit))
    if policy_step == step:
        return Drawn(prompts, rollouts, None)  # the first update will see the gap
    with clock.phase("gap"):
        logps_BT = place.to_host(programs.logps(params, rollouts))
        mask_BT = masked.completion_mask(
            rollouts.prompt_length_B, rollouts.length_B, rollouts.tokens_BT.shape[1]
        )
        gap_B = diagnostics.gap_by_row(
            jnp.asarray(logps_BT), jnp.asarray(rollouts.logps_BT), mask_BT
        )
    return Drawn(prompts, rollouts, np.asarray(gap_B))


def score(config, first: Drawn, again: Callable[..., Drawn], hooks, *, step):
    """(Rollouts, function that waits for Scored), groups without spread resampled by `again`.

    Without resampling, grading goes on while the caller keeps the device busy; with it the rewards
    decide what is sampled next and are waited for here. again: (attempt=) -> other completions.
    """
    wait = hooks.score(first.prompts, first.rollouts, step)
    if not config.resample:
        return first.rollouts, wait
    limit = config.response_limit(step)
    drawn, scored = [first.rollouts], [wait()]
    is_flat = [np.asarray(shaped(config, drawn[0], scored[0].scores, limit).is_flat_P)]
    while sum(np.sum(~is_flat_P) for is_flat_P in is_flat) < config.prompts_per_rollout:
        if len(drawn) > config.resample:
            break
        more = again(attempt=len(drawn))
        drawn.append(more.rollouts)
        scored.append(hooks.score(more.prompts, more.rollouts, step)())
        is_flat.append(
            np.asarray(shaped(config, more.rollouts, scored[-1].scores, limit).is_flat_P)
        )
    # Groups with spread first, in the order drawn; then the others, until the batch is full.
    chosen = np.argsort(np.concatenate(is_flat), kind="stable")[: config.prompts_per_rollout]
    rows = (chosen[:, None] * config.group_size + np.arange(config.group_size)).ravel()
    samples = [row for s in scored for row in s.samples]

    def join(*parts):
        return np.concatenate(parts)[rows] if parts[0].ndim else parts[0]

    rollouts = jax.tree.map(join, *drawn)
    slot_steps = sum(r.slot_steps for r in drawn)
    num_tokens = sum(int(r.length_B.sum()) for r in drawn)
    facts = {name: np.mean([s.facts[name] for s in scored]) for name in scored[0].facts}
    facts |= {"tokens/rollout": num_tokens, "resample/rollouts": len(drawn)}
    joined = Scored(
        jax.tree.map(join, *[s.scores for s in scored]), facts, [samples[i] for i in rows]
    )
    rollouts = dataclasses.replace(rollouts, slot_steps=slot_steps)
    return rollouts, lambda: joined


class Shaped(NamedTuple):
    """Rewards as the advantages see them, and what becomes of their rows; on this host alone."""

    reward_B: jax.Array
    include_B: jax.Array  # bool: the loss' rows
    is_flat_P: jax.Array  # bool: groups whose rewards do not differ


def shaped(config: switches.GRPOConfig, rollouts, scores: types.Scores, limit: int) -> Shaped:
    """Rewards after `truncated` had its way. limit: tokens, of soft_penalty."""
    of_rows = scores.reward_B, scores.valid_B, rollouts.stop_B, rollouts.length_B
    return _shaped(config, *of_rows, limit)


# One program each of what is a few numbers a row: an operation at a time would be thirty.
@partial(jax.jit, static_argnames="config")
def _shaped(config: switches.GRPOConfig, reward_B, valid_B, stop_B, length_B, limit) -> Shaped:
    include_B, truncated_B = valid_B, overlong.is_truncated(stop_B)
    if config.truncated == "zero_reward":
        reward_B = overlong.zero_reward(reward_B, truncated_B)
    elif config.truncated == "mask":
        include_B = overlong.leave_out(include_B, truncated_B)
    else:
        buffer = config.overlong_buffer
        reward_B = reward_B + overlong.soft_penalty(length_B, max_length=limit, buffer=buffer)
    groups = (-1, config.group_size)
    is_flat_P = advantages.zero_spread(reward_B.reshape(groups), valid_B.reshape(groups))
    return Shaped(reward_B, include_B, is_flat_P)


@partial(jax.jit, static_argnames="config")
def _advantages(config: switches.GRPOConfig, reward_B, valid_B, is_flat_P) -> jax.Array:
    """float32 [B]; 0 in flat groups, whatever a KL term has made of their rewards."""
    groups = (-1, config.group_size)
    advantage_PG = ADVANTAGES[config.advantage](reward_B.reshape(groups), valid_B.reshape(groups))
    return jnp.where(is_flat_P[:, None], 0.0, advantage_PG).ravel()


def policy_batch(
    config: switches.GRPOConfig,
    rollouts,
    scores: types.Scores,
    reference_logps,
    old_logps,
    limit: int,
) -> tuple[types.PolicyBatch, dict[str, Any]]:
    """The rows of the update, and facts for the log. limit: tokens, of soft_penalty."""
    # Flat is judged before a KL term: a z-score would blow its noise up to a full-sized advantage.
    rewards = shaped(config, rollouts, scores, limit)
    reward_B = rewards.reward_B
    if reference_logps is not None and config.kl_place == "reward":
        # Shaping by the summed estimate, as in PPO-style RLHF; R1's v2 A.3 says why it does not.
        mask_BT = masked.completion_mask(
            rollouts.prompt_length_B, rollouts.length_B, rollouts.tokens_BT.shape[1]
        )
        mask_BT = mask_BT & losses.is_reachable(reference_logps)
        estimate = losses.KL[config.kl_estimator]
        kl_BT = estimate(jnp.asarray(rollouts.logps_BT), reference_logps)
        reward_B -= config.kl_coef * masked.sum(kl_BT, mask_BT, axis=1)
    advantage_B = _advantages(config, reward_B, scores.valid_B, rewards.is_flat_P)
    batch = types.PolicyBatch(
        tokens_BT=rollouts.tokens_BT,
        prompt_length_B=rollouts.prompt_length_B,
        length_B=rollouts.length_B,
        behavior_logps_BT=rollouts.logps_BT,
        old_logps_BT=old_logps,
        reference_logps_BT=reference_logps,
        advantage_B=np.asarray(advantage_B),
        include_B=np.asarray(rewards.include_B),
        chosen_BTLX=rollouts.chosen_BTLX,
    )
    return batch, facts(rollouts, rewards, limit)


def facts(rollouts, rewards: Shaped, limit: int) -> dict[str, float | None]:
    """What the log says of a rollout and its rewards, before any KL term."""
    reward_B, include_B, is_flat_P = (np.asarray(x) for x in rewards)
    length_B, prompt_B = (np.asarray(x) for x in (rollouts.length_B, rollouts.prompt_length_B))
    pairs_of_prompts, pairs = _pairs(prompt_B), _pairs(prompt_B + length_B)
    ended_B = np.asarray(rollouts.stop_B) >= 0
    found = {
        "length/mean": length_B.mean(),
        "length/terminated_mean": length_B[ended_B].mean() if ended_B.any() else None,
        "length/clipped_share": 1 - ended_B.mean(),
        "length/limit": limit,
        "tokens/rollout": int(length_B.sum()),
        "tokens/sequences": int((prompt_B + length_B).sum()),
        "pairs/sequences": pairs,
        "pairs/completions": pairs - pairs_of_prompts,
        "tokens/useful_share": length_B.sum() / float(rollouts.slot_steps),
        "groups/zero_spread_share": is_flat_P.mean(),
        "reward/shaped": reward_B[include_B].mean() if include_B.any() else 0,
        "rows/included_share": include_B.mean(),
    }
    return {k: None if value is None else float(value) for k, value in found.items()}


def _pairs(length_B: np.ndarray) -> float:
    """Pairs of a query and a key that causal attention looks at, all sequences together."""
    return float(np.sum(length_B.astype(np.float64) * (length_B + 1) / 2))


def minibatches(
    config: switches.GRPOConfig, root, step: int, num_rows: int
) -> Sequence[np.ndarray]:
    """Row indices of every update on one rollout: cut at random, once over per inner epoch."""
    orders = []
    for epoch in range(config.inner_epochs):
        key = keys.at(root, "minibatch", step, epoch)
        order = np.asarray(jax.random.permutation(key, num_rows))
        orders += np.split(order, config.num_minibatches)
    return orders


def learn(
    config: switches.GRPOConfig,
    state,
    update,
    batch,
    samples: list[dict[str, Any]],
    *,
    root,
    step,
    gap_B: np.ndarray | None = None,
) -> tuple[Any, dict[str, Any]]:
    """All updates on one rollout: (the state after them, their row of the log).

    The row holds means over the updates, but of ratio/max the largest, and as the gap gap_B's
    largest or, without it, that of the first update, which alone sees the weights that sampled.
    Completions' gaps go into `samples`.
    """
    metrics = []
    orders = minibatches(config, root, step, len(batch.include_B))
    for order in orders:
        state, of_update = update(state, batch, order)
        metrics.append(of_update)
    metrics = [place.to_host(of_update) for of_update in metrics]
    measured = zip(orders[0], metrics[0]["rows"]["gap"], strict=True)
    for i, gap in measured if gap_B is None else enumerate(gap_B):
        samples[i]["gap"] = float(gap)
    names = metrics[0].keys() - {"rows", "gap"}
    row = {name: np.mean([m[name] for m in metrics]) for name in sorted(names)}
    row["ratio/max"] = max(m["ratio/max"] for m in metrics)
    gap = metrics[0]["gap"] if gap_B is None else np.max(gap_B)
    return state, row | {"gap/sampler_learner_max": float(gap)}
