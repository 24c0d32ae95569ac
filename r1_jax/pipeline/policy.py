"""A finished or running R1-Zero run, opened to use its policy: evaluate it, sample from it."""

import json
import pathlib
from functools import partial
from typing import Any

from r1_jax.checkpoints import atomic, weights
from r1_jax.core import build, keys
from r1_jax.data.tasks import load
from r1_jax.metrics import clock as metrics_clock
from r1_jax.pipeline import adapters, assemble, experiment, folders, programs, r1_zero, supervised
from r1_jax.pipeline import score as scoring
from r1_jax.sampling import engine
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place


def open_config(run: str | pathlib.Path) -> experiment.ExperimentConfig:
    """The configuration that `run` was made with; ValueError if it is no run.

    Base and tokenizer point into the run: neither needs to be where it was when the run began, but
    for the base of a run with adapters.
    """
    path = pathlib.Path(run) / "config.json"
    if not path.is_file():
        raise ValueError(f"{run} has no config.json: it is not the --workdir of a run")
    made_with = json.loads(path.read_text())
    own_tokenizer = str(path.with_name("tokenizer.model").absolute())
    base = made_with["base"] if made_with.get("lora") else ""
    mapping = build.merge(made_with | {"base": base}, "tokenizer.path", own_tokenizer)
    return build.build(experiment.ExperimentConfig, mapping)


def restore(
    run: str | pathlib.Path, config: experiment.ExperimentConfig, step: int | None
) -> tuple[assemble.Setup, Any, int]:
    """(setup, parameters, step) of a checkpoint of `run`, its newest unless `step` is given.

    The parameters are a whole model's: adapters come merged into their base.
    """
    stage = assemble.add_critic(config, assemble.setup(config, config.grpo.num_steps))
    like = {"state": stage.state}
    if config.keeps_reference:
        like["reference"] = stage.state.params
    if config.grpo.one_step_off:
        like["behind"] = stage.state.params
    with folders.checkpoints(pathlib.Path(run), config, read_only=True) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        if step is None:
            raise ValueError(f"{run} has no complete checkpoint yet; let it run a little longer")
        arrays, host = checkpoints.restore(step, like)
        adapters.same_base(checkpoints.path(step), host, stage.frozen, stage.parents)
    return stage, adapters.merged(stage.frozen, arrays["state"].params), step


def export(run: str | pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Writes the newest policy of `run` as a weights file with its tokenizer beside it.

    It is a base for what comes next; its manifest names what the run itself was made from.
    """
    config = open_config(run)
    stage, params, step = restore(run, config, None)
    made_from = json.loads((pathlib.Path(run) / "manifest.json").read_text())["parents"]
    record = supervised.weights_record(config, stage.tokens.digest, made_from)
    atomic.write(path.with_suffix(".model"), stage.tokens.model)
    weights.save_weights(path, place.to_host(params), record | {"num_steps": step})
    return path


def evaluate(
    run: str | pathlib.Path, config: experiment.ExperimentConfig, step: int | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(row as in eval.jsonl, samples) of a checkpoint, under `config`'s eval and sampling.

    `config` is the run's own, or that with other eval, sampling, task or reward settings.
    """
    stage, params, step = restore(run, config, step)
    task, graders, level = equipped = programs.equip(
        load.load(config.task), config.sandbox, config.graders
    )
    programs.refuse_unread(equipped, config.sandbox)
    scorer = scoring.Scorer(
        task,
        config.reward,
        stage.tokens,
        config.tags,
        seed=config.seed,
        clock=metrics_clock.Clock(),
        graders=graders,
    )
    with scorer, meshes.activate(stage.mesh):
        group = config.eval.num_samples
        generate = assemble.make_generate(config, stage.mesh, stage.tokens, group)
        encode = partial(r1_zero.encode, config, stage.tokens)
        held_out = r1_zero.evaluator(config, task, generate, scorer, encode)
        key = keys.at(keys.root(config.seed), "eval", step)
        row, samples = held_out(params, step, key, is_end=True)
    return {"step": step} | row | ({"sandbox": level} if level else {}), samples


def generate(
    run: str | pathlib.Path,
    config: experiment.ExperimentConfig,
    step: int | None,
    questions: list[str],
    num_samples: int,
) -> list[list[str]]:
    """num_samples completions of every question, under the run's template and `config`'s sampling.

    The noise of sample i is a function of (seed, the question's place in the list, i).
    """
    stage, params, step = restore(run, config, step)
    with meshes.activate(stage.mesh):
        sample = assemble.make_generate(config, stage.mesh, stage.tokens, num_samples)
        # One shape that splits over any mesh: padded with the first question.
        padded = questions + questions[:1] * (-len(questions) % stage.mesh.size)
        texts = [r1_zero.render(config, question) for question in padded]
        batch = engine.encode(texts, list(range(len(texts))), stage.tokens, config.grpo.max_prompt)
        key = keys.at(keys.root(config.seed), "generate")
        rollouts = place.to_host(sample(params, batch, key, step, config.grpo.response_limit(step)))
    found = engine.completions(rollouts, stage.tokens)
    return [found[i * num_samples : (i + 1) * num_samples] for i in range(len(questions))]
