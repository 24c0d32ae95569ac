"""What can fail, fails before step 0: one rollout on real data, measured, and a verdict."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from r1_jax.core import keys, masked, types
from r1_jax.rl import diagnostics
from r1_jax.sharding import place
from r1_jax.training import grpo, rollout, switches


class Ideal(NamedTuple):
    """What the rewards say of the rendered ideal answer to one problem."""

    question: str
    completion: str
    parts: dict[str, float]


def check(
    config: switches.GRPOConfig,
    params: Any,
    programs: grpo.Programs,
    prompts: list[Any],
    batch: types.PromptBatch,
    score: Callable[[list[Any], types.Rollouts, int], Callable[[], rollout.Scored]],
    ideals: list[Ideal],
    *,
    seed: int,
) -> dict[str, Any]:
    """Measured facts of a run about to start. Raises ValueError, saying why, if it cannot learn.

    Refused are: an ideal answer that does not earn full accuracy and format (a template or a
    grader that defeats its own reward), a sampler-learner gap above gap_bound, and a rollout in
    which no group has any spread, so that no gradient exists.
    """
    for ideal in ideals:
        if ideal.parts["accuracy"] < 1 or ideal.parts["format"] < 1:
            raise ValueError(
                f"the ideal answer does not earn full reward: {ideal.parts} for "
                f"{ideal.completion!r} to {ideal.question!r}; template, tags and rewards disagree"
            )
    limit = config.response_limit(0)
    key = keys.at(keys.root(seed), "preflight")
    rollouts = place.to_host(programs.generate(params, batch, key, 0, limit))
    learner_BT = place.to_host(programs.logps(params, rollouts))
    mask_BT = masked.completion_mask(
        rollouts.prompt_length_B, rollouts.length_B, rollouts.tokens_BT.shape[1]
    )
    gap = diagnostics.gap_max(jnp.asarray(learner_BT), jnp.asarray(rollouts.logps_BT), mask_BT)
    scores, facts, _ = score(prompts, rollouts, 0)()
    is_flat_P = rollout.shaped(config, rollouts, scores, limit).is_flat_P
    measured = {
        "pass_rate": facts["reward/accuracy"],
        "truncated_share": float(np.mean(rollouts.stop_B < 0)),
        "zero_spread_share": float(np.mean(is_flat_P)),
        "gap": float(gap),
    }
    has_signal = measured["zero_spread_share"] < 1 or config.advantage == "none"
    learns = measured["gap"] <= config.gap_bound and has_signal
    if not learns:
        why = diagnostics.explain_flat(
            **measured, gap_bound=config.gap_bound, gradient_norm=1.0, entropy=1.0
        )
        raise ValueError(f"this run cannot learn ({measured}). {why}")
    return measured
