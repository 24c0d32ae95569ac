"""R1-Zero's loop: sample a group per prompt, score it by rules, move the policy. One page.

The loop knows no sandbox, no tokenizer and no benchmark: it is handed functions. Randomness is a
function of (seed, purpose, step), so a resume needs only the arrays and the data iterator's place.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.core import keys, masked, types
from r1_jax.metrics import clock as metrics_clock
from r1_jax.rl import advantages, diagnostics, overlong
from r1_jax.sharding import place
from r1_jax.training import losses
from r1_jax.training import state as train_state


@dataclasses.dataclass(frozen=True)
class GRPOConfig(losses.PolicyLossConfig):
    """R1's RL. A step is one optimiser update on prompts_per_rollout * group_size /
    num_minibatches completions; defaults are the paper's (R1_FACTS 1.3) where it gives a number.

    advantage: "zscore" (Eq. 3), "mean_only" (Dr. GRPO) or "leave_one_out" (RLOO).
    reference_every: updates between refreshes of the reference, 0 for never; then
    reference <- reference_mix * policy + (1 - reference_mix) * reference: 1 copies, less is an EMA.
    truncated: what a completion cut off at the limit gets: reward 0, no part in the loss ("mask"),
    or DAPO's penalty over the last overlong_buffer tokens ("soft_penalty").
    resample: at most this many further rollouts a step to replace groups without spread (DAPO's
    dynamic sampling); all that was generated is counted in tokens/rollout.
    response_schedule: ((step, tokens), ...): from that step on, completions may be so long.
    """

    num_steps: int = 10_400
    prompts_per_rollout: int = 512
    group_size: int = 16
    num_minibatches: int = 16
    inner_epochs: int = 1
    num_microbatches: int = 1  # pieces a minibatch is cut into to bound memory; same gradient
    advantage: Literal["zscore", "mean_only", "leave_one_out"] = "zscore"
    reference_every: int = 400
    reference_mix: float = 1.0
    truncated: Literal["zero_reward", "mask", "soft_penalty"] = "zero_reward"
    overlong_buffer: int = 4096  # tokens
    resample: int = 0
    max_prompt: int = 1024  # tokens
    max_response: int = 65_536  # tokens; the cache's capacity
    response_schedule: tuple[tuple[int, int], ...] = ()
    gap_bound: float = 0.05  # nats; a larger sampler-learner gap of any token stops the run

    def __post_init__(self):
        super().__post_init__()
        at_least_one = (
            "num_steps", "prompts_per_rollout", "num_minibatches", "inner_epochs",
            "num_microbatches", "max_prompt", "max_response",
        )  # fmt: skip
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.resample < 0 or self.reference_every < 0:
            raise ValueError(
                f"resample={self.resample} and reference_every={self.reference_every} cannot be "
                "negative; 0 switches them off"
            )
        if self.group_size < 2:
            raise ValueError(
                f"group_size={self.group_size}: advantage={self.advantage!r} compares a prompt's "
                "completions with each other and needs at least 2"
            )
        num_rows = self.prompts_per_rollout * self.group_size
        if num_rows % (self.num_minibatches * self.num_microbatches):
            raise ValueError(
                f"prompts_per_rollout * group_size = {num_rows} completions do not split into "
                f"num_minibatches={self.num_minibatches} x num_microbatches="
                f"{self.num_microbatches}; use divisors"
            )
        if not 0 < self.reference_mix <= 1:
            raise ValueError(f"reference_mix={self.reference_mix} must lie in (0, 1]; 1 copies")
        for step, tokens in self.response_schedule:
            if not 0 < tokens <= self.max_response or step < 0:
                raise ValueError(
                    f"response_schedule entry ({step}, {tokens}): tokens must lie in 1.."
                    f"max_response={self.max_response} and the step cannot be negative"
                )
        if self.truncated == "soft_penalty":
            for _, tokens in ((0, self.max_response), *self.response_schedule):
                if not 0 < self.overlong_buffer <= tokens:
                    raise ValueError(
                        f"overlong_buffer={self.overlong_buffer} must lie in 1..{tokens}, the "
                        "shortest response limit of this run"
                    )

    @property
    def updates_per_rollout(self) -> int:
        return self.num_minibatches * self.inner_epochs

    def response_limit(self, step: int) -> int:
        """Tokens a completion may take at `step`: the schedule's last entry that has begun."""
        begun = [tokens for start, tokens in sorted(self.response_schedule) if start <= step]
        return begun[-1] if begun else self.max_response


ADVANTAGES = {
    "zscore": advantages.zscore,
    "mean_only": advantages.mean_only,
    "leave_one_out": advantages.leave_one_out,
}


class Scored(NamedTuple):
    """What the scorer says of a rollout, host side."""

    scores: types.Scores
    facts: dict[str, Any]  # means over completions, for the log
    samples: list[dict[str, Any]]  # one row a completion, for samples/


class Programs(NamedTuple):
    """The jitted functions of the loop, compiled once each."""

    generate: Callable[..., types.Rollouts]  # (params, PromptBatch, key, step, limit)
    logps: Callable[[Any, jax.Array], jax.Array]  # (params, tokens_BT) -> logps_BT
    update: Callable[..., tuple[train_state.TrainState, dict[str, jax.Array]]]
    mix: Callable[[Any, Any], Any]  # (reference, params) -> new reference


class Hooks(NamedTuple):
    """What the loop calls and does not know."""

    next_prompts: Callable[[], tuple[list[Any], types.PromptBatch]]  # problems, and their tokens
    score: Callable[[list[Any], types.Rollouts, int], Callable[[], Scored]]  # starts; () waits
    log: Callable[[int, dict[str, Any], list[dict[str, Any]]], None]
    evaluate: Callable[[Any, int], None]
    save: Callable[[train_state.TrainState, Any], None]


def train(
    config: GRPOConfig,
    state: train_state.TrainState,
    reference: Any,
    programs: Programs,
    hooks: Hooks,
    *,
    seed: int,
    clock: metrics_clock.Clock,
) -> train_state.TrainState:
    """Runs updates state.step..num_steps and returns the last state.

    reference: parameters of the reference policy, None when kl_coef is 0. Raises RuntimeError when
    the sampler-learner gap leaves gap_bound: what is trained would not be what was sampled.
    """
    root = keys.root(seed)
    step = int(state.step)
    if reference is not None and config.reference_every:
        programs.mix(reference, state.params)  # compiled now: no later step waits for it
    while step < config.num_steps:
        hooks.evaluate(state.params, step)
        limit = config.response_limit(step)
        rollouts, scored = sample_and_score(
            config, state, programs, hooks, root=root, step=step, limit=limit, clock=clock
        )
        with clock.phase("reference"):
            reference_logps = old_logps = None
            if reference is not None:
                reference_logps = programs.logps(reference, rollouts.tokens_BT)
            if config.importance_cap:
                old_logps = programs.logps(state.params, rollouts.tokens_BT)
            finished = scored()  # graded while the device scored
            batch, facts = policy_batch(
                config, rollouts, finished.scores, reference_logps, old_logps, limit
            )
            jax.block_until_ready((reference_logps, old_logps))  # or the update's clock counts it
        with clock.phase("update"):
            metrics = []
            orders = minibatches(config, root, step, len(batch.advantage_B))
            for order in orders:
                state, row = programs.update(state, batch, order)
                metrics.append(row)
            metrics = [place.to_host(row) for row in metrics]
        # Only the first update sees the weights that sampled.
        gap, gap_b = float(metrics[0]["gap"]), metrics[0]["rows"]["gap"]
        for i, row_gap in zip(orders[0], gap_b, strict=True):
            finished.samples[i]["gap"] = float(row_gap)
        names = metrics[0].keys() - {"rows", "gap"}
        row = {name: np.mean([m[name] for m in metrics]) for name in sorted(names)} | facts
        row["ratio/max"] = max(m["ratio/max"] for m in metrics)
        row |= finished.facts | {"gap/sampler_learner_max": gap} | clock.lap()
        hooks.log(step, row, finished.samples)
        if not gap <= config.gap_bound:
            raise RuntimeError(
                f"step {step}: sampler and learner differ by {gap:.3g} nats on one token, above "
                f"gap_bound={config.gap_bound}; look for stale weights or a numerics difference, "
                "or raise the bound if compute_dtype is bfloat16"
            )
        before, step = step, int(state.step)
        every = config.reference_every
        if reference is not None and every and step // every > before // every:
            reference = programs.mix(reference, state.params)
        hooks.save(state, reference)
    hooks.evaluate(state.params, step)
    return state


def sample_and_score(config, state, programs, hooks, *, root, step, limit, clock):
    """(Rollouts, function that waits for Scored), groups without spread resampled.

    Without resampling, grading goes on while the caller keeps the device busy; with it the rewards
    decide what is sampled next and are waited for here.
    """
    drawn, scored, groups = [], [], []
    for attempt in range(config.resample + 1):
        prompts, batch = hooks.next_prompts()
        with clock.phase("rollout"):
            key = keys.at(root, "sample", step, attempt)
            rollouts = programs.generate(state.params, batch, key, step, limit)
            rollouts = place.to_host(rollouts)
        wait = hooks.score(prompts, rollouts, step)
        if not config.resample:
            return rollouts, wait
        drawn.append(rollouts)
        scored.append(wait())
        groups.append(_has_spread(config, rollouts, scored[-1].scores, limit))
        if sum(g.sum() for g in groups) >= config.prompts_per_rollout:
            break
    has_spread = np.concatenate(groups)
    # Groups with spread first, in the order drawn; then the others, until the batch is full.
    chosen = np.argsort(~has_spread, kind="stable")[: config.prompts_per_rollout]
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


def _has_spread(config, rollouts, scores: types.Scores, limit: int) -> np.ndarray:
    """bool [P]: groups whose rewards differ, as the advantages will see them."""
    shape = (-1, config.group_size)
    reward_B, _ = shaped_reward(config, rollouts, scores, limit)
    return ~np.asarray(
        advantages.zero_spread(reward_B.reshape(shape), jnp.asarray(scores.valid_B).reshape(shape))
    )


def shaped_reward(
    config: GRPOConfig, rollouts, scores: types.Scores, limit: int
) -> tuple[jax.Array, jax.Array]:
    """(reward_B, include_B): rewards and the loss' rows after `truncated` had its way."""
    reward_B, include_B = jnp.asarray(scores.reward_B), jnp.asarray(scores.valid_B)
    truncated_B = overlong.is_truncated(jnp.asarray(rollouts.stop_B))
    if config.truncated == "zero_reward":
        return overlong.zero_reward(reward_B, truncated_B), include_B
    if config.truncated == "mask":
        return reward_B, overlong.leave_out(include_B, truncated_B)
    length_B = jnp.asarray(rollouts.length_B)
    penalty_B = overlong.soft_penalty(length_B, max_length=limit, buffer=config.overlong_buffer)
    return reward_B + penalty_B, include_B


def policy_batch(
    config: GRPOConfig, rollouts, scores: types.Scores, reference_logps, old_logps, limit: int
) -> tuple[types.PolicyBatch, dict[str, Any]]:
    """The rows of the update, and facts for the log. limit: tokens, of soft_penalty."""
    valid_B = jnp.asarray(scores.valid_B)
    reward_B, include_B = shaped_reward(config, rollouts, scores, limit)
    groups = (-1, config.group_size)
    zero_spread_share = diagnostics.zero_spread_share(
        reward_B.reshape(groups), valid_B.reshape(groups)
    )
    if reference_logps is not None and config.kl_place == "reward":
        # Shaping by the summed estimate, as in PPO-style RLHF; R1's v2 A.3 says why it does not.
        mask_BT = masked.completion_mask(
            rollouts.prompt_length_B, rollouts.length_B, rollouts.tokens_BT.shape[1]
        )
        mask_BT = mask_BT & losses.is_reachable(reference_logps)
        estimate = losses.KL[config.kl_estimator]
        kl_BT = estimate(jnp.asarray(rollouts.logps_BT), reference_logps)
        reward_B -= config.kl_coef * masked.sum(kl_BT, mask_BT, axis=1)
    advantage_PG = ADVANTAGES[config.advantage](reward_B.reshape(groups), valid_B.reshape(groups))
    batch = types.PolicyBatch(
        tokens_BT=rollouts.tokens_BT,
        prompt_length_B=rollouts.prompt_length_B,
        length_B=rollouts.length_B,
        behavior_logps_BT=rollouts.logps_BT,
        old_logps_BT=old_logps,
        reference_logps_BT=reference_logps,
        advantage_B=np.asarray(advantage_PG.ravel()),
        include_B=np.asarray(include_B),
    )
    length_B = np.asarray(rollouts.length_B)
    ended_B = np.asarray(rollouts.stop_B) >= 0
    facts = {
        "length/mean": length_B.mean(),
        "length/terminated_mean": length_B[ended_B].mean() if ended_B.any() else 0.0,
        "length/clipped_share": 1 - ended_B.mean(),
        "length/limit": limit,
        "tokens/rollout": int(length_B.sum()),
        "tokens/useful_share": length_B.sum() / float(rollouts.slot_steps),
        "groups/zero_spread_share": zero_spread_share,
        "rows/included_share": jnp.mean(include_B.astype(jnp.float32)),
    }
    return batch, {name: float(value) for name, value in facts.items()}


def minibatches(config: GRPOConfig, root, step: int, num_rows: int) -> Sequence[np.ndarray]:
    """Row indices of every update on one rollout: cut at random, once over per inner epoch."""
    orders = []
    for epoch in range(config.inner_epochs):
        key = keys.at(root, "minibatch", step, epoch)
        order = np.asarray(jax.random.permutation(key, num_rows))
        orders += np.split(order, config.num_minibatches)
    return orders


def make_update(update):
    """update(state, PolicyBatch, rows): one update on those rows, shortest first.

    Sorting by length puts rows of like length into one microbatch, where padding is cut off;
    metrics["rows"] comes back in the order of `rows`.
    """

    def on_rows(state, batch: types.PolicyBatch, rows_b):
        length_b = (batch.prompt_length_B + batch.length_B)[rows_b]
        by_length_b = jnp.argsort(length_b)
        sorted_b = rows_b[by_length_b]
        state, metrics = update(state, jax.tree.map(lambda x: x[sorted_b], batch))
        as_given_b = jnp.argsort(by_length_b)
        return state, metrics | {"rows": jax.tree.map(lambda x: x[as_given_b], metrics["rows"])}

    return on_rows
