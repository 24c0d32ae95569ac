"""What 8 bits in the sampler change: log-prob gap and pass@1 of the shipped base, as a table.

    python -m bench.eight_bits [PROBLEMS] [SAMPLES]

The quickstart's configuration and test problems, every way with the same noise. The gap is between
the log-prob of a sampled token as the sampler recorded it and as the learner, whose weights are
floats, has it. Seconds are of the rollouts, the first batch (which compiles) left out.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from configs import r1_zero_countdown
from r1_jax.core import build, keys, masked
from r1_jax.data.tasks import load
from r1_jax.evaluation import pass_at_k
from r1_jax.metrics import clock
from r1_jax.pipeline import assemble, experiment, r1_zero
from r1_jax.pipeline import score as scoring
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

WAYS = {  # of SamplingConfig
    "floats": {},
    "int8 weights": {"weights": "int8"},
    "fp8 weights": {"weights": "fp8"},
    "int8 cache": {"cache": "int8"},
    "int8 weights and cache": {"weights": "int8", "cache": "int8"},
}
HEADS = ("sampler", "gap, mean", "gap, 99.9%", "gap, max", "pass@1", "tokens", "seconds")


def config(num_samples: int, **sampling: str) -> experiment.ExperimentConfig:
    """The quickstart's, with `sampling` beside its own and the gap weighed, as it must be."""
    found = build.build(experiment.ExperimentConfig, r1_zero_countdown.get_config())
    return dataclasses.replace(
        found,
        sampling=dataclasses.replace(found.sampling, **sampling),
        grpo=dataclasses.replace(
            found.grpo, group_size=num_samples, num_microbatches=1, importance_cap=2.0
        ),
    )


def measure(of: experiment.ExperimentConfig, num_problems: int) -> dict[str, Any]:
    """Gaps in nats, right answers and seconds of one way to sample."""
    task, stage = load.load(of.task), assemble.setup(of, of.grpo.num_steps)
    size, params = of.grpo.prompts_per_rollout, stage.state.params
    gaps, rights, seconds, num_tokens = [], [], [], 0
    scorer = scoring.Scorer(
        task,
        of.reward,
        stage.tokens,
        of.tags,
        seed=of.seed,
        clock=clock.Clock(),
        graders=of.graders,
    )
    with meshes.activate(stage.mesh), scorer:
        programs = assemble.make_programs(
            of, stage.mesh, stage.tokens, stage.tx, stage.shardings, None
        )
        for first in range(0, num_problems, size):
            problems = [task.splits["test"][i] for i in range(first, first + size)]
            batch, key = r1_zero.encode(of, stage.tokens, problems), keys.root(of.seed)
            start = time.perf_counter()
            sampled = programs.generate(params, batch, key, 0, of.grpo.max_response)
            rollouts = place.to_host(sampled)
            seconds.append(time.perf_counter() - start)
            learner_BT = np.asarray(place.to_host(programs.logps(params, rollouts)))
            mask_BT = masked.completion_mask(
                rollouts.prompt_length_B, rollouts.length_B, learner_BT.shape[1]
            )
            gaps.append(np.abs(learner_BT - rollouts.logps_BT)[np.asarray(mask_BT)])
            rights.append(np.reshape(scorer.judge(problems, rollouts, 0).is_right, (size, -1)))
            num_tokens += int(rollouts.length_B.sum())
    return {
        "gap": np.concatenate(gaps),
        "right_PG": np.concatenate(rights),
        "seconds": sum(seconds[1:]),
        "tokens": num_tokens,
    }


def cells(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    gap, score_P = found["gap"], pass_at_k.problem_pass_at_k(found["right_PG"], 1)
    low, high = pass_at_k.interval(score_P)
    return (
        name,
        f"{gap.mean():.2g}",
        f"{np.quantile(gap, 0.999):.2g}",
        f"{gap.max():.2g}",
        f"{score_P.mean():.3f} [{low:.3f}, {high:.3f}]",
        f"{found['tokens']:,}",
        f"{found['seconds']:.1f}",
    )


def main(num_problems: int = 128, num_samples: int = 8) -> None:
    """Prints the table, a line as soon as it is measured."""
    for line in (HEADS, ("---",) * len(HEADS)):
        say(line)
    for name, sampling in WAYS.items():
        say(cells(name, measure(config(num_samples, **sampling), num_problems)))


def say(line: Sequence[str]) -> None:
    """A line of the table on standard output."""
    sys.stdout.write(f"| {' | '.join(line)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
