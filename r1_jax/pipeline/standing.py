"""Where every model of the road stands: the paper's table of stages (v2 Table 3) in small."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from r1_jax.checkpoints import atomic, weights
from r1_jax.core import keys
from r1_jax.data import filters
from r1_jax.data.tasks import load
from r1_jax.metrics import clock as metrics_clock
from r1_jax.pipeline import assemble, experiment, r1_zero
from r1_jax.pipeline import score as scoring
from r1_jax.rewards import combine, extract, language
from r1_jax.sampling import logits
from r1_jax.sharding import mesh as meshes

TABLE = "table.json"


def run(
    models: Mapping[str, tuple[experiment.ExperimentConfig, pathlib.Path]],
    sampling: logits.SamplingConfig,
    workdir: pathlib.Path,
) -> pathlib.Path:
    """Measures each model (its configuration, its weights) on reasoning and on general requests.

    All are sampled alike, whatever they were trained with. Writes a row a model to
    WORKDIR/table.json, whose path is returned, and every sample to WORKDIR/MODEL.jsonl. A model
    that was measured is not measured again.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, (config, path) in models.items():
        cache = workdir / f"{name.replace(' ', '_')}.jsonl"
        if not cache.exists():
            # How many are drawn at one time changes no sample: the model's own, which is fast.
            how = dataclasses.replace(sampling, num_slots=config.sampling.num_slots)
            given = dataclasses.replace(config, base=str(path.absolute()), sampling=how)
            row, samples = measure(given)
            lines = [row | {"model": name}, *samples]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            atomic.write(cache, text.encode())
        with open(cache, encoding="utf-8") as file:
            rows.append(json.loads(file.readline()))
    atomic.write(workdir / TABLE, (json.dumps(rows, indent=2) + "\n").encode())
    return workdir / TABLE


def measure(
    config: experiment.ExperimentConfig,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(row, samples) of the policy config.base on the held-out problems of both worlds.

    pass@1 with its interval, cons@16, mean length; `language`: mean share of the thinking's words
    in the question's language; `readable`: share of completions that pass data.filters; `general`:
    pass@1 on general requests; `updates`: of the stage that made the policy.
    """
    stage = assemble.setup(config, 1)
    with meshes.activate(stage.mesh):
        generate = assemble.make_generate(
            config, stage.mesh, stage.tokens, config.eval.num_samples, frozen=stage.frozen
        )
        row, samples = _held_out(config, "countdown", stage, generate)
        general, others = _held_out(config, "general", stage, generate)
    tags, limits = config.tags, filters.FilterConfig()
    shares = [_share(s["question"], s["completion"], tags) for s in samples]
    readable = [
        filters.why_dropped(s["question"], s["completion"], tags, limits) is None for s in samples
    ]
    _, manifest = weights.load_weights(config.base)
    row |= {"language": float(np.mean(shares)), "readable": float(np.mean(readable))}
    row |= {"updates": manifest["num_steps"]}
    row |= {f"general/{name}": general[name] for name in ("pass@1", "pass@1_low", "pass@1_high")}
    return row | {"general/num_problems": general["num_problems"]}, samples + others


def _share(question: str, completion: str, tags: extract.Tags) -> float:
    thought = extract.thought(completion, tags)
    return language.share(completion if thought is None else thought, language.of(question))


def _held_out(config: experiment.ExperimentConfig, name: str, stage: assemble.Setup, generate):
    task = load.load(dataclasses.replace(config.task, name=name))
    num = min(config.eval.num_problems, len(task.splits[config.eval.split]))
    asked = dataclasses.replace(config.eval, num_problems=num)
    config = dataclasses.replace(config, eval=asked, reward=combine.RewardConfig())
    scorer = scoring.Scorer(
        task,
        config.reward,
        stage.tokens,
        config.tags,
        seed=config.seed,
        clock=metrics_clock.Clock(),
        graders=config.graders,
    )
    with scorer:
        encode = partial(r1_zero.encode, config, stage.tokens)
        held_out = r1_zero.evaluator(config, task, generate, scorer, encode)
        key = keys.at(keys.root(config.seed), "standing")
        return held_out(stage.state.params, 0, key, is_end=True)
