"""Reward models, the stage: judged pairs or labelled answers in, a reward model out."""

import os
import pathlib
from functools import partial
from typing import Any

import jax
import numpy as np

from r1_jax.checkpoints import atomic, manifest, weights
from r1_jax.core import build, interrupt
from r1_jax.evaluation import pass_at_k
from r1_jax.metrics import clock as metrics_clock
from r1_jax.metrics import log as metrics_log
from r1_jax.metrics import progress
from r1_jax.models import heads, reward
from r1_jax.pipeline import assemble, experiment, folders, preference_data, reward_score
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.text import tokenizer as text_tokenizer
from r1_jax.training import optim, preference_losses
from r1_jax.training import reward_model as reward_loop
from r1_jax.training import step as train_step

WEIGHTS = "reward_model.safetensors"
ROW = ("loss", "accuracy", "margin", "reward", "gradient/norm", "update/skipped")
EVAL_ROW = ("accuracy", "accuracy_low", "accuracy_high", "num_examples")


def run(
    config: experiment.ExperimentConfig, workdir: str | pathlib.Path, data: str | pathlib.Path
) -> pathlib.Path:
    """Trains on `data` in `workdir`, resuming; returns the weights file, WORKDIR/reward_model.*.

    The weights file is there when the stage is done, and not before: its manifest names the base,
    the tokenizer (a copy lies beside it) and the data by digest, the view, and the rewards and the
    accuracy on held-out examples. Raises ValueError when the run there had another config or data.
    """
    if config.lora is not None:
        raise ValueError("lora would change nothing: reward models are trained whole; leave it out")
    workdir = pathlib.Path(workdir)
    folders.same_run(workdir, config)
    cfg, path = config.reward_model, workdir / WEIGHTS
    data_digest = preference_data.digest(data)
    if path.exists():
        done = manifest.read(workdir / "manifest.json")
        _same_data(path, done["parents"]["data"], data_digest)
        return path
    tokens = assemble.load_tokenizer(config)
    found = preference_data.load(config, data, tokens)
    num_steps = reward_loop.num_steps(cfg, len(found.train))
    mesh = assemble.make_mesh(config.mesh)
    reward_score.rows_that_split(
        "reward_model.batch_size / num_microbatches", cfg.batch_size // cfg.num_microbatches, mesh
    )
    with (
        meshes.activate(mesh),
        folders.checkpoints(workdir, config) as checkpoints,
    ):
        base, parents = assemble.initial_params(config, mesh, tokens)
        parents |= {"tokenizer": tokens.digest, "data": data_digest}
        params = reward.from_policy(config.model, base)
        boxed = jax.eval_shape(partial(heads.init_scalar_boxed, config.model))
        params["scalar"] = jax.device_put(params["scalar"], place.shardings(boxed, mesh))
        tx = optim.make_optimizer(cfg.optim, num_steps)
        state, shardings = assemble.make_state(params, tx, mesh)
        host: dict[str, Any] = {"data": data_digest, "seconds": {}}
        if saved := checkpoints.restore_newest(state):
            latest, state, host = saved
            _same_data(checkpoints.path(latest), host["data"], data_digest)
        first_step = int(state.step)
        folders.claim(workdir, config, tokens)
        clock = metrics_clock.Clock(host["seconds"])
        loss = preference_losses.LOSSES[cfg.kind](config.model)
        traced = jax.jit(
            train_step.make_update(
                loss, tx, num_microbatches=cfg.num_microbatches,
                cuts=reward_loop.cuts(cfg.max_tokens),
            ),
            donate_argnums=0,
            out_shardings=(shardings, place.replicated(mesh)),
        )  # fmt: skip

        def update(state, batch):
            with clock.phase("update"):
                return jax.block_until_ready(traced(state, batch))

        with (
            metrics_log.MetricsLog(
                workdir, first_step=first_step, required=ROW, eval_required=EVAL_ROW
            ) as log,
            progress.Progress(num_steps, first_step=first_step) as bar,
        ):

            def log_row(step, row):
                log.row(step, row)
                bar.update(step, loss=float(row["loss"]), accuracy=float(row["accuracy"]))

            def save(state):
                step, every = int(state.step), config.checkpoint.every
                ends = interrupt.is_asked()
                if step == num_steps or (every and step % every == 0) or ends:
                    checkpoints.save(step, state, host | {"seconds": clock.totals()})
                if ends:
                    raise interrupt.Interrupted(f"step {step} of {num_steps} is kept in {workdir}")

            state = reward_loop.train(
                cfg, state, found.train, update, lambda batch: assemble.put(batch, mesh),
                pad_id=tokens.pad_id, seed=config.seed, log=log_row, save=save,
            )  # fmt: skip
            with clock.phase("eval"):
                row, rewards = held_out(config, mesh, state.params, found.held_out, tokens)
            log.eval_row(num_steps, row)
        params = place.to_host(state.params)
    seconds = clock.totals()
    record = manifest.collect(
        seed=config.seed, config=build.to_dict(config), parents=parents, seconds=seconds
    )
    manifest.write(workdir / "manifest.json", record | {"held_out": row, "rewards": rewards})
    atomic.write(path.with_suffix(".model"), tokens.model)
    commit = record["commit"] + ("+" if record["dirty"] else "")
    about = {"commit": commit, "config": build.to_dict(config), "seed": config.seed}
    about |= {"tokenizer_digest": tokens.digest, "parents": parents, "num_steps": num_steps}
    about |= {"view": found.view, "held_out": row, "rewards": rewards}
    weights.save_weights(path, params, about)
    return path


def held_out(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    params: reward.Params,
    examples: list[reward_loop.Example],
    tokens: text_tokenizer.Tokenizer,
) -> tuple[dict[str, Any], dict[str, float]]:
    """(row of eval.jsonl, rewards: mean, std, min) on held-out examples.

    accuracy: pairs whose chosen text has the higher reward, a tie counted as wrong, or answers on
    the right side of 0; with its 95% interval over examples, as if they were independent.
    """
    cfg = config.reward_model
    score = reward_score.make_score(
        config.model,
        mesh,
        batch_rows=cfg.batch_size // cfg.num_microbatches,
        capacity=cfg.max_tokens,
        pad_id=tokens.pad_id,
    )
    texts = [text for example in examples for text in example.texts]
    reward_EX = score(params, texts).reshape(len(examples), -1)
    if cfg.kind == "pairwise":
        is_right_E = reward_EX[:, 0] > reward_EX[:, 1]
    else:
        is_good_E = np.array([example.is_good for example in examples])
        is_right_E = np.where(is_good_E, reward_EX[:, 0] > 0, reward_EX[:, 0] < 0)
    low, high = pass_at_k.interval(is_right_E)
    row = {"accuracy": float(is_right_E.mean()), "accuracy_low": low, "accuracy_high": high}
    rewards = {name: float(getattr(reward_EX, name)()) for name in ("mean", "std", "min")}
    return row | {"num_examples": len(examples)}, rewards


def _same_data(path: os.PathLike[str], trained_on: str, given: str) -> None:
    if trained_on != given:
        raise ValueError(
            f"{path} was trained on data of digest {trained_on[:12]}, this file has {given[:12]}; "
            "use another --workdir, or the same data to go on"
        )
