"""Supervised fine-tuning, the stage: a starting policy and demonstrations in, a policy out."""

import pathlib
from functools import partial

from absl import logging

from r1_jax.checkpoints import atomic
from r1_jax.data import demonstrations
from r1_jax.pipeline import assemble, experiment, folders, r1_zero, supervised
from r1_jax.sharding import hosts

WEIGHTS = "policy.safetensors"  # in the workdir of every stage that trains a policy


def run(
    config: experiment.ExperimentConfig, data: str | pathlib.Path, workdir: str | pathlib.Path
) -> pathlib.Path:
    """Fine-tunes config.base on `data` (demonstrations.read), resuming; returns WORKDIR/policy.*.

    The loss is on completions and their stop token. The tokenizer lies beside the weights.
    """
    workdir = pathlib.Path(workdir)
    folders.same_run(workdir, config)
    path = workdir / WEIGHTS
    if hosts.gather("done", path.exists())[0]:  # process 0 writes it
        return path
    tokens = assemble.load_tokenizer(config)
    rows, num_long = demonstrations.pack(
        demonstrations.read(data), tokens, partial(r1_zero.render, config), config.sft.row_length
    )
    if num_long:
        logging.warning("%d demonstrations are longer than sft.row_length", num_long)
    if hosts.is_first():
        workdir.mkdir(parents=True, exist_ok=True)
        atomic.write(path.with_suffix(".model"), tokens.model)  # first: with the weights it is done
    supervised.run(
        config,
        config.sft,
        rows,
        workdir,
        path,
        claimed=config,
        parents={"data": demonstrations.digest(data)},
    )
    return path
