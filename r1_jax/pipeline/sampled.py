"""Graded samples of a policy on a task's train split, batch by batch, each batch a file."""

import json
import pathlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from r1_jax.checkpoints import atomic
from r1_jax.core import interrupt, keys
from r1_jax.data.tasks import load
from r1_jax.metrics import clock as metrics_clock
from r1_jax.metrics import jsonl
from r1_jax.models import lora
from r1_jax.pipeline import assemble, experiment, r1_zero
from r1_jax.pipeline import score as scoring
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place


def draw(
    config: experiment.ExperimentConfig,
    workdir: str | pathlib.Path,
    *,
    num_prompts: int,
    num_samples: int,
    examples: Sequence[tuple[str, str]] = (),
) -> Iterator[dict[str, Any]]:
    """num_samples rows (as in samples/) for each of the first num_prompts train problems.

    The policy is config.base; every problem stands behind `examples` (chat.few_shot). A batch is a
    file, workdir/samples/BATCH.jsonl, written whole: a second call draws only what is missing. The
    noise of a sample is a function of (seed, batch, problem, sample). Raises ValueError for more
    prompts than there are.
    """
    folder = pathlib.Path(workdir) / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    size = config.grpo.prompts_per_rollout
    paths = [folder / f"{i:05}.jsonl" for i in range(-(-num_prompts // size))]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        _fill(config, paths, missing, num_prompts, num_samples, examples)
    for path in paths:
        rows, _ = jsonl.read(path)
        yield from rows


def _fill(config, paths, missing, num_prompts, num_samples, examples):
    stage = assemble.setup(config, 1)
    task = load.load(config.task)
    problems = task.splits["train"]
    if num_prompts > len(problems):
        raise ValueError(
            f"num_prompts={num_prompts}, but {task.name}'s train split holds {len(problems)}; ask "
            "for fewer or prepare more (task.num_train)"
        )
    scorer = scoring.Scorer(
        task,
        config.reward,
        stage.tokens,
        config.tags,
        seed=config.seed,
        clock=metrics_clock.Clock(),
        graders=config.graders,
    )
    size = config.grpo.prompts_per_rollout
    encode = partial(r1_zero.encode, config, stage.tokens, examples=examples)
    with scorer, meshes.activate(stage.mesh):
        generate = assemble.make_generate(config, stage.mesh, stage.tokens, num_samples)
        params = lora.join(stage.frozen, stage.state.params)
        for i in missing:
            interrupt.leave_if_asked(f"samples are kept in {paths[i].parent}")
            batch = [problems[j] for j in range(i * size, min((i + 1) * size, num_prompts))]
            padded = batch + batch[:1] * (size - len(batch))  # one shape, one program
            key = keys.at(keys.root(config.seed), "sampled", i)
            limit = config.grpo.response_limit(0)
            rollouts = place.to_host(generate(params, encode(padded), key, 0, limit))
            count = len(batch) * num_samples
            rollouts = jax.tree.map(lambda x, count=count: x[:count] if np.ndim(x) else x, rollouts)
            samples = scorer.judge(batch, rollouts, i).samples
            lines = [json.dumps(row, ensure_ascii=False) for row in samples]
            atomic.write(paths[i], "".join(f"{line}\n" for line in lines).encode())
