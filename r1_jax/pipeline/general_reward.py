"""The general reward of R1's last stage: a reward model's say, beside the rules (v2 3.2.3).

Reasoning is paid by rules alone; to general requests the reward model's opinion is added, late in
the run, because a policy that sees it for long learns what the model is blind to (v2 3.2.3, 4.6).
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from r1_jax.core import types
from r1_jax.data.tasks import task as tasks
from r1_jax.pipeline import assemble, experiment, reward_score
from r1_jax.text import tokenizer
from r1_jax.training import rollout

BOUND = 3.0  # standard deviations: no single opinion outweighs everything else


def add(
    config: experiment.ExperimentConfig,
    start: Callable[..., Callable[[], rollout.Scored]],
    task: tasks.Task,
    tokens: tokenizer.Tokenizer,
    mesh: jax.sharding.Mesh,
) -> Callable[..., Callable[[], rollout.Scored]]:
    """Scorer.start with the reward model's part; `start` itself where no reward model is named.

    The part is called "preference": (reward - mean) / std of the model's held-out rewards, within
    BOUND, for general requests from the step on from which it pays, else 0. In the log its mean
    is over the requests that it paid for, 0 where there was none.
    """
    cfg = config.general_reward
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
        group_size = len(rollouts.uid_B) // len(prompts)
        general_B = np.repeat([task.is_general(prompt) for prompt in prompts], group_size)
        opinion_B = np.zeros(len(general_B), np.float32)
        paid_B = general_B & (step >= first)
        if paid_B.any():
            theirs = jax.tree.map(lambda x: x[paid_B] if np.ndim(x) else x, rollouts)
            spread = (rewards(judge.params, theirs) - judge.mean) / (judge.std + 1e-6)
            opinion_B[paid_B] = np.clip(spread, -BOUND, BOUND)
        return lambda: _added(wait(), opinion_B, paid_B, cfg.weight)

    return begin


def _added(
    scored: rollout.Scored, opinion_B: np.ndarray, paid_B: np.ndarray, weight: float
) -> rollout.Scored:
    scores = dataclasses.replace(
        scored.scores,
        reward_B=scored.scores.reward_B + weight * opinion_B,
        parts=scored.scores.parts | {"preference": opinion_B},
    )
    valid_B = np.asarray(scores.valid_B)
    mean = float(np.mean(scores.reward_B[valid_B])) if valid_B.any() else 0.0
    opinion = float(np.mean(opinion_B[paid_B])) if paid_B.any() else 0.0
    samples = [
        row
        | {"reward": row["reward"] + weight * float(x)}
        | {"parts": row["parts"] | {"preference": float(x)}}
        for row, x in zip(scored.samples, opinion_B, strict=True)
    ]
    facts = scored.facts | {"reward/mean": mean, "reward/preference": opinion}
    return rollout.Scored(scores, facts, samples)
