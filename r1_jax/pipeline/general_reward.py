"""General requests in R1's last stage: when they are asked, and what their answers are paid.

Reasoning is paid by rules alone; general requests by form, language and the reward model's opinion
(v2 Eq. 8-10). Both come late in the run (v2 3.2.3): a policy that sees an opinion for long learns
what the model is blind to (v2 B.5).

The language part of a general answer without thinking is paid whole: no word of it is in a wrong
language. Reasoning is not paid for silence, but for a request that needs no thought, 0 would be a
fine on answering at once.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from r1_jax.core import types
from r1_jax.data import batches
from r1_jax.data.tasks import task as tasks
from r1_jax.pipeline import assemble, experiment, reward_score
from r1_jax.rewards import extract
from r1_jax.text import tokenizer
from r1_jax.training import rollout

BOUND = 3.0  # standard deviations: no single opinion outweighs everything else


def stream(config: experiment.ExperimentConfig, task: tasks.Task) -> batches.Stream:
    """The run's prompts: those of reasoning alone until general requests are asked, then all."""
    cfg, last = config.grpo, config.general_reward.asked_last_steps

    def of(prompts) -> batches.Batches:
        return batches.Batches(prompts, batch_size=cfg.prompts_per_rollout, seed=config.seed)

    if not last or task.reasoning is None:
        return of(task.splits["train"])
    first = (cfg.num_steps - last) // cfg.updates_per_rollout
    return batches.Successive(of(task.reasoning), of(task.splits["train"]), first)


def add(
    config: experiment.ExperimentConfig,
    start: Callable[..., Callable[[], rollout.Scored]],
    task: tasks.Task,
    tokens: tokenizer.Tokenizer,
    mesh: jax.sharding.Mesh,
) -> Callable[..., Callable[[], rollout.Scored]]:
    """Scorer.start, for general requests with the reward model's part and without what is not paid.

    It is `start` itself where no reward model is named and rules pay everything. The part is called
    "preference": (reward - mean) / std of the model's held-out rewards, within BOUND, for general
    requests from the step on from which it pays, else 0. In the log its mean is over the requests
    that it paid for, 0 where there was none.
    """
    cfg, reward = config.general_reward, config.reward
    is_sum = reward.composition == "sum" and not reward.gates
    if is_sum and (reward.language_weight or not cfg.accuracy):
        start = _as_general(start, task, config)
    if not cfg.path:
        return start
    judge = reward_score.open_model(assemble.project_path(cfg.path), mesh)
    rewards = reward_score.make_rollout_rewards(
        judge,
        tokens,
        mesh,
        batch_rows=config.grpo.prompts_per_rollout,
        capacity=config.grpo.max_prompt + config.grpo.max_response,
    )
    first = config.grpo.num_steps - cfg.last_steps if cfg.last_steps else 0

    def begin(prompts, rollouts: types.Rollouts, step: int) -> Callable[[], rollout.Scored]:
        wait = start(prompts, rollouts, step)  # graded while the device reads
        general_B = _is_general(task, prompts, rollouts)
        opinion_B = np.zeros(len(general_B), np.float32)
        paid_B = general_B & (step >= first)
        if paid_B.any():
            theirs = jax.tree.map(lambda x: x[paid_B] if np.ndim(x) else x, rollouts)
            spread = (rewards(judge.params, theirs) - judge.mean) / (judge.std + 1e-6)
            opinion_B[paid_B] = np.clip(spread, -BOUND, BOUND)
        return lambda: _added(wait(), opinion_B, paid_B, cfg.weight)

    return begin


def _is_general(task: tasks.Task, prompts, rollouts: types.Rollouts) -> np.ndarray:
    group_size = len(rollouts.uid_B) // len(prompts)
    return np.repeat([task.is_general(prompt) for prompt in prompts], group_size)


def _as_general(start, task: tasks.Task, config: experiment.ExperimentConfig):
    """`start` whose general requests are paid as such; the parts are logged as they were graded."""
    unpaid = 0.0 if config.general_reward.accuracy else config.reward.accuracy_weight
    language = config.reward.language_weight

    def begin(prompts, rollouts: types.Rollouts, step: int) -> Callable[[], rollout.Scored]:
        wait = start(prompts, rollouts, step)
        general_B = _is_general(task, prompts, rollouts)

        def finish() -> rollout.Scored:
            scored = wait()
            parts = scored.scores.parts
            extra_B = -unpaid * parts["accuracy"]
            if language:
                silent_B = [
                    extract.thought(row["completion"], config.tags) == "" for row in scored.samples
                ]
                extra_B = extra_B + language * (1 - parts["language"]) * np.array(silent_B)
            return _plus(scored, extra_B * (np.asarray(scored.scores.valid_B) & general_B))

        return finish

    return begin


def _plus(scored: rollout.Scored, extra_B: np.ndarray) -> rollout.Scored:
    """`scored` with so much more reward a row, in the mean and in the samples too."""
    reward_B = scored.scores.reward_B + np.asarray(extra_B, np.float32)
    valid_B = np.asarray(scored.scores.valid_B)
    mean = float(np.mean(reward_B[valid_B])) if valid_B.any() else 0.0
    samples = [
        row | {"reward": row["reward"] + float(x)}
        for row, x in zip(scored.samples, extra_B, strict=True)
    ]
    scores = dataclasses.replace(scored.scores, reward_B=reward_B)
    return rollout.Scored(scores, scored.facts | {"reward/mean": mean}, samples)


def _added(
    scored: rollout.Scored, opinion_B: np.ndarray, paid_B: np.ndarray, weight: float
) -> rollout.Scored:
    paid = _plus(scored, weight * opinion_B)
    scores = dataclasses.replace(paid.scores, parts=paid.scores.parts | {"preference": opinion_B})
    opinion = float(np.mean(opinion_B[paid_B])) if paid_B.any() else 0.0
    samples = [
        row | {"parts": row["parts"] | {"preference": float(x)}}
        for row, x in zip(paid.samples, opinion_B, strict=True)
    ]
    return rollout.Scored(scores, paid.facts | {"reward/preference": opinion}, samples)
