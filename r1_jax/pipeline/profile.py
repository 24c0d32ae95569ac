"""Where a step of R1-Zero spends its time: a few steps of a run under the profiler."""

import dataclasses
import pathlib
from functools import partial

import jax

from r1_jax.data.tasks import load
from r1_jax.metrics import clock as metrics_clock
from r1_jax.metrics import regions
from r1_jax.pipeline import assemble, experiment, general_reward, programs, r1_zero
from r1_jax.pipeline import score as scoring
from r1_jax.sharding import mesh as meshes
from r1_jax.training import grpo

WARM_UP = 2  # rollouts: the first compiles


def run(
    config: experiment.ExperimentConfig, workdir: pathlib.Path, num_steps: int
) -> tuple[list[regions.Region], dict[str, float]]:
    """(regions, the costliest first; seconds by phase) of num_steps rollouts and their updates.

    The programs, prompts and graders are the run's own; nothing is saved or evaluated. The trace
    goes into `workdir`. Raises ValueError for a run with a critic or a teacher, which it does not
    know.
    """
    for name in ("ppo", "teacher"):
        if getattr(config, name):
            raise ValueError(
                f"profile knows the policy and its own reference alone, and this configuration has "
                f"{name}; profile one without it"
            )
    equipped = programs.equip(load.load(config.task), config.sandbox, config.graders)
    last = (WARM_UP + num_steps) * config.grpo.updates_per_rollout
    config = dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, num_steps=last))
    stage = assemble.setup(config, last)
    clock = metrics_clock.Clock()
    encode = partial(r1_zero.encode, config, stage.tokens)
    prompts = general_reward.stream(config, equipped.task)
    scorer = scoring.Scorer(
        equipped.task,
        config.reward,
        stage.tokens,
        config.tags,
        seed=config.seed,
        clock=clock,
        graders=equipped.graders,
    )

    def next_prompts():
        problems = next(prompts)
        return problems, encode(problems)

    with scorer, meshes.activate(stage.mesh):
        compiled = assemble.make_programs(
            config, stage.mesh, stage.tokens, stage.tx, stage.shardings, frozen=stage.frozen
        )
        score = general_reward.add(config, scorer.start, equipped.task, stage.tokens, stage.mesh)
        hooks = grpo.Hooks(next_prompts, score, _nothing, _nothing, _nothing)
        reference = None
        if config.grpo.kl_coef:
            reference = jax.tree.map(lambda x: x.copy(), stage.state.params)

        def train(state, num_rollouts: int):
            steps = int(state.step) + num_rollouts * config.grpo.updates_per_rollout
            until = dataclasses.replace(config.grpo, num_steps=steps)
            state = grpo.train(
                until, state, reference, compiled, hooks, seed=config.seed, clock=clock
            )
            return jax.block_until_ready(state)

        state = train(stage.state, WARM_UP)
        before = clock.totals()
        found = regions.traced(lambda: train(state, num_steps), workdir)
        seconds = {name: total - before.get(name, 0.0) for name, total in clock.totals().items()}
    return found, seconds


def _nothing(*_):
    pass
