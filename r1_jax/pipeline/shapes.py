"""The shapes of RL's programs: which are compiled, and that no others ever are.

A run compiles a program when it first calls it, so the shorter pieces of scoring and update, and
evaluation where it draws another number of samples, may come later than the first step.
"""

import math
from typing import NamedTuple

import jax

from r1_jax.pipeline import experiment
from r1_jax.sharding import axes
from r1_jax.training import by_length


class Shapes(NamedTuple):
    """All that shapes depend on; text says it in a line."""

    num_prompts: int  # of a call of the sampler
    prompt: int  # tokens, its capacity
    response: int  # tokens, a completion's capacity
    num_samples: tuple[int, ...]  # completions a prompt: of training, then of evaluation
    num_slots: tuple[int, ...]  # that decode together, likewise
    num_rows: int  # of a piece
    lengths: tuple[int, ...]  # tokens, the ones a piece may have
    shared: tuple[int, ...]  # tokens, the ones its groups may share of their prompts, if they do

    def __str__(self) -> str:
        samplers = ", ".join(
            f"{samples} completions each in {slots} slots"
            for samples, slots in zip(self.num_samples, self.num_slots, strict=True)
        )
        shared = ", ".join(map(str, ("none", *self.shared)))
        return (
            f"{self.num_prompts} prompts of {self.prompt} tokens, {samplers}, {self.response} "
            f"tokens a completion; scoring and update in pieces of {self.num_rows} rows x "
            f"{', '.join(map(str, self.lengths))} tokens, of a group's prompt {shared} shared"
        )


def of(config: experiment.ExperimentConfig) -> Shapes:
    """The shapes of a run of `config`."""
    cfg = config.grpo
    num_samples = tuple(dict.fromkeys((cfg.group_size, config.eval.num_samples)))
    num_rows = cfg.prompts_per_rollout * cfg.group_size
    return Shapes(
        num_prompts=cfg.prompts_per_rollout,
        prompt=cfg.max_prompt,
        response=cfg.max_response,
        num_samples=num_samples,
        num_slots=tuple(_slots(config, samples) for samples in num_samples),
        num_rows=num_rows // (cfg.num_minibatches * cfg.num_microbatches),
        lengths=by_length.lengths(cfg.max_prompt + cfg.max_response),
        shared=by_length.shared_lengths(cfg.max_prompt),
    )


def _slots(config: experiment.ExperimentConfig, num_samples: int) -> int:
    num_requests = config.grpo.prompts_per_rollout * num_samples
    return min(config.sampling.num_slots or num_requests, num_requests)


def rows_that_split(config: experiment.ExperimentConfig, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError for batches of RL that do not split over the mesh's data axes."""
    found = of(config)
    for name, size, rules in (
        ("grpo.prompts_per_rollout", found.num_prompts, axes.SAMPLER_RULES),
        ("sampling.num_slots", found.num_slots[0], axes.SAMPLER_RULES),
        (
            "prompts_per_rollout * group_size / num_minibatches / num_microbatches",
            found.num_rows,
            axes.RULES,
        ),
    ):
        split = axes.mesh_axes("batch", rules, mesh.axis_names)
        ways = math.prod(mesh.shape[axis] for axis in split)
        if size % ways:
            raise ValueError(
                f"{name}={size} does not split over {'*'.join(split)}={ways} of "
                f"{dict(mesh.shape)}; use a multiple of {ways}, or set mesh.fsdp and mesh.tensor "
                f"so that {'*'.join(split)} divides it"
            )
