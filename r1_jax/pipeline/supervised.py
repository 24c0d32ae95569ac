"""What every supervised stage does: packed rows in, a weights file with its manifest out."""

import pathlib

import numpy as np

from r1_jax.checkpoints import manifest, weights
from r1_jax.core import build, interrupt
from r1_jax.data import packing
from r1_jax.metrics import log as metrics_log
from r1_jax.metrics import progress
from r1_jax.pipeline import adapters, assemble, experiment, folders, interruption
from r1_jax.sharding import hosts, place
from r1_jax.sharding import mesh as meshes
from r1_jax.training import supervised

ROW = ("loss", "entropy", "gradient/norm", "update/skipped")


def run(
    config: experiment.ExperimentConfig,
    loop: supervised.SupervisedConfig,
    rows: packing.Packed,
    workdir: pathlib.Path,
    path: pathlib.Path,
    *,
    claimed: experiment.ExperimentConfig,
    parents: dict[str, str] | None = None,
) -> None:
    """Trains on `rows` in `workdir`, going on from its last checkpoint, and writes `path`.

    config: with base and tokenizer where they lie; claimed: as the user gave it, for config.json.
    parents: digests of what the rows were made from, by name, for the manifest.
    """
    tokens = assemble.load_tokenizer(config)
    num_steps = supervised.num_steps(loop, rows)
    stage = assemble.setup(config, num_steps)
    folders.claim(workdir, claimed, tokens)
    with (
        meshes.activate(stage.mesh),
        folders.checkpoints(workdir, config) as checkpoints,
    ):
        state = stage.state
        if found := checkpoints.restore_newest(state):
            latest, state, host = found
            adapters.same_base(checkpoints.path(latest), host, stage.frozen, stage.parents)
        first_step = int(state.step)
        update = assemble.make_supervised_update(
            config, loop, tokens, stage.tx, stage.shardings, stage.frozen
        )
        with (
            metrics_log.MetricsLog(workdir, first_step=first_step, required=ROW)
            if hosts.is_first()
            else metrics_log.Silent() as log,
            progress.Progress(num_steps, first_step=first_step, is_shown=hosts.is_first()) as bar,
        ):

            def log_row(step, row):
                log.row(step, row)
                bar.update(step, loss=float(row["loss"]))

            def save(state):
                step, every = int(state.step), config.checkpoint.every
                ends = interruption.is_asked()
                if step == num_steps or (every and step % every == 0) or ends:
                    checkpoints.save(step, state, adapters.left_out(stage.frozen, stage.parents))
                if ends:
                    raise interrupt.Interrupted(f"step {step} of {num_steps} is kept in {workdir}")

            state = supervised.train(
                loop,
                state,
                rows,
                update,
                lambda batch: assemble.put(batch, stage.mesh),
                seed=config.seed,
                log=log_row,
                save=save,
            )
        params = place.to_host(adapters.merged(stage.frozen, state.params))
    record = weights_record(claimed, tokens.digest, stage.parents | (parents or {}))
    record |= {"num_steps": num_steps, "num_tokens": int(np.sum(rows.segment_BT > 0))}
    if hosts.is_first():
        weights.save_weights(path, params, record, storage=loop.storage)
    hosts.meet(f"{path.name} is written")


def weights_record(
    config: experiment.ExperimentConfig, tokenizer_digest: str, parents: dict[str, str]
) -> dict[str, object]:
    """What the manifest of a weights file says of the run that made it."""
    commit, is_dirty = manifest.git_commit()
    return {
        "commit": commit + ("+" if is_dirty else ""),
        "config": build.to_dict(config),
        "seed": config.seed,
        "tokenizer_digest": tokenizer_digest,
        "parents": parents,
    }
