"""The base model, the stage: a synthetic corpus in, weights and tokenizer out."""

import pathlib
from collections.abc import Iterator

import numpy as np
from absl import logging

from r1_jax.checkpoints import manifest, store, weights
from r1_jax.core import build
from r1_jax.data import corpus, packing
from r1_jax.data.tasks import load
from r1_jax.metrics import log as metrics_log
from r1_jax.metrics import progress
from r1_jax.pipeline import assemble, experiment, r1_zero
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.text import tokenizer as text_tokenizer
from r1_jax.training import pretrain

ROW = ("loss", "entropy", "gradient/norm", "update/skipped")


def documents(config: experiment.ExperimentConfig) -> Iterator[corpus.Document]:
    """The corpus of this experiment; a function of its seed."""
    if config.task.name == "countdown":
        return corpus.documents(
            config.corpus,
            config.task.difficulty,
            config.seed,
            config.tags,
            config.task.languages,
        )
    task = load.load(config.task)
    train = task.splits["train"]
    return corpus.answers(config.corpus, train, task.ideal, config.seed, config.tags)


def train_tokenizer(config: experiment.ExperimentConfig, path: str | pathlib.Path):
    """Trains the SentencePiece model on the corpus' first documents and writes it to `path`."""
    texts = []
    for document in documents(config):
        texts.append(document.prompt + document.completion)
        if len(texts) == config.tokenizer.train_documents:
            break
    symbols = corpus.symbols(config.corpus, config.tags)
    return text_tokenizer.train_sentencepiece(texts, path, config.model.vocab_size, symbols=symbols)


def packed_rows(config: experiment.ExperimentConfig, tokens: text_tokenizer.Tokenizer):
    """The whole corpus as packed rows; documents longer than a row are left out and counted."""
    length = config.pretrain.row_length
    rows, num_long = [], 0
    for document in documents(config):
        ids = [*tokens.encode(document.prompt + document.completion), tokens.stop_ids[0]]
        if len(ids) <= length:
            rows.append(ids)
        else:
            num_long += 1
    if num_long:
        logging.warning("%d documents are longer than row_length=%d", num_long, length)
    return packing.pack(rows, row_length=length, pad_id=tokens.pad_id)


def run(config: experiment.ExperimentConfig, workdir: str | pathlib.Path) -> pathlib.Path:
    """Trains tokenizer and base in `workdir`, resuming; returns the weights file, WORKDIR/base.*.

    The tokenizer lies beside the weights under the same name, where R1-Zero looks for it.
    """
    workdir = pathlib.Path(workdir)
    r1_zero.same_run(workdir, config)
    path = workdir / "base.safetensors"
    if path.exists():
        return path
    model_path = path.with_suffix(".model")
    if not model_path.exists() or not (workdir / "config.json").exists():  # not yet this run's
        train_tokenizer(config, model_path)
    config_here = build.build(
        experiment.ExperimentConfig,
        build.merge(build.to_dict(config), "tokenizer.path", str(model_path.absolute())),
    )
    tokens = assemble.load_tokenizer(config_here)
    rows = packed_rows(config, tokens)
    num_steps = pretrain.num_steps(config.pretrain, rows)
    stage = assemble.setup(config_here, num_steps)
    r1_zero.claim(workdir, config, tokens)
    with (
        meshes.activate(stage.mesh),
        store.Store(workdir / "checkpoints", keep=config.checkpoint.keep) as checkpoints,
    ):
        state = stage.state
        latest = checkpoints.latest_step()
        if latest is not None:
            state, _ = checkpoints.restore(latest, state)
        first_step = int(state.step)
        update = assemble.make_pretrain_update(config, stage.tx, stage.shardings, stage.mesh)
        with (
            metrics_log.MetricsLog(workdir, first_step=first_step, required=ROW) as log,
            progress.Progress(num_steps, first_step=first_step) as bar,
        ):

            def log_row(step, row):
                log.row(step, row)
                bar.update(step, loss=float(row["loss"]))

            def save(state):
                step, every = int(state.step), config.checkpoint.every
                if step == num_steps or (every and step % every == 0):
                    checkpoints.save(step, state, {})

            state = pretrain.train(
                config.pretrain,
                state,
                rows,
                update,
                lambda batch: assemble.put(batch, stage.mesh),
                seed=config.seed,
                log=log_row,
                save=save,
            )
        params = place.to_host(state.params)
    commit, dirty = manifest.git_commit()
    record = {
        "commit": commit + ("+" if dirty else ""),
        "config": build.to_dict(config),
        "seed": config.seed,
        "tokenizer_digest": tokens.digest,
        "num_steps": num_steps,
        "num_tokens": int(np.sum(rows.segment_BT > 0)),
    }
    weights.save_weights(path, params, record, storage=config.pretrain.storage)
    return path
