"""What a row's seconds were worth: tokens a second, and the share of what the machine can do."""

from collections.abc import Mapping
from typing import Any

from r1_jax.models import flops
from r1_jax.pipeline import experiment


def speeds(
    config: experiment.ExperimentConfig, row: Mapping[str, Any], peak: float
) -> dict[str, float]:
    """{"speed/...": ...} of a row of metrics.jsonl. peak: FLOP/s of all devices (metrics.ceiling).

    FLOPs are those of the model on the rollout's tokens: what is computed twice, for another model
    or on padding counts as nothing, so a share is of useful work. Of the rollout they are those of
    decoding; prompts are left out. Phases that took no time are left out.
    """
    cfg, cost = config.grpo, flops.of(config.model)
    drawn, read = row["tokens/rollout"], row["tokens/sequences"]
    learnt = row["length/mean"] * cfg.prompts_per_rollout * cfg.group_size
    forward = cost.forward(read, learnt, row["pairs/sequences"])
    passes = bool(cfg.kl_coef) + bool(cfg.importance_cap)
    of_update = (2 if config.lora else 3) * cfg.inner_epochs  # frozen weights have no gradient
    decoded = cost.forward(drawn, drawn, row["pairs/completions"])
    work = {  # tokens, FLOPs
        "rollout": (drawn, decoded),
        "reference": (read * passes, forward * passes),
        "update": (read * cfg.inner_epochs, forward * of_update),
    }
    found = {}
    for phase, (tokens, operations) in work.items():
        if tokens and (seconds := row.get(f"seconds/{phase}")):
            found[f"speed/{phase}_tokens"] = tokens / seconds
            found[f"speed/{phase}_share"] = operations / seconds / peak
    return found
