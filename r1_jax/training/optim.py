"""OptimConfig -> an optax chain: clip by norm, AdamW, a schedule."""

import dataclasses
from typing import Literal

import optax


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW (arXiv:1711.05101). R1 publishes its RL learning rate (3e-6) but no optimiser; betas,
    decay and clipping default to those of DeepSeek-V3's pre-training."""

    learning_rate: float = 3e-6
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0  # updates of linear rise from 0
    final_share: float = 0.1  # cosine: last learning rate as a share of the peak
    b1: float = 0.9
    b2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # global norm of the gradient; 0 switches clipping off

    def __post_init__(self):
        if self.learning_rate < 0 or self.clip_norm < 0 or self.warmup_steps < 0:
            raise ValueError(
                f"learning_rate={self.learning_rate}, clip_norm={self.clip_norm} and "
                f"warmup_steps={self.warmup_steps} cannot be negative"
            )


def learning_rate(config: OptimConfig, num_steps: int) -> optax.Schedule:
    """update number -> learning rate, over a run of num_steps updates."""
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if config.warmup_steps else config.learning_rate,
            config.learning_rate,
            config.warmup_steps,
            max(num_steps, config.warmup_steps + 1),
            config.learning_rate * config.final_share,
        )
    if config.warmup_steps:
        return optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.constant_schedule(config.learning_rate)


def make_optimizer(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """The optimiser of a run of num_steps updates."""
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    adamw = optax.adamw(
        learning_rate(config, num_steps),
        config.b1,
        config.b2,
        config.epsilon,
        weight_decay=config.weight_decay,
    )
    return optax.chain(clip, adamw)
