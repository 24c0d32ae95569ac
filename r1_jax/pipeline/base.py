"""The base model, the stage: a synthetic corpus in, weights and tokenizer out."""

import pathlib
from collections.abc import Iterator

from absl import logging

from r1_jax.checkpoints import atomic
from r1_jax.core import build
from r1_jax.data import corpus, packing
from r1_jax.data.tasks import load
from r1_jax.pipeline import assemble, experiment, folders, supervised
from r1_jax.text import tokenizer as text_tokenizer


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


def weights_of(config: experiment.ExperimentConfig, workdir: pathlib.Path) -> pathlib.Path:
    """Where `run` leaves the base, or the folder of `convert` that config.base is."""
    given = assemble.project_path(config.base)
    return given if config.base and given.is_dir() else workdir / "base.safetensors"


def run(config: experiment.ExperimentConfig, workdir: str | pathlib.Path) -> pathlib.Path:
    """Trains tokenizer and base in `workdir`, resuming; returns the weights file, WORKDIR/base.*.

    The tokenizer lies beside the weights under the same name, where R1-Zero looks for it. A base
    that is there already (config.base) is copied, and nothing is trained; a folder of `convert` is
    too large for that and stays where it is: the path returned is its own.
    """
    if config.lora is not None:
        raise ValueError("lora adapts a base that there is; a base itself is trained whole")
    workdir = pathlib.Path(workdir)
    path = weights_of(config, workdir)
    if path.is_dir():
        return path
    folders.same_run(workdir, config)
    if path.exists():
        return path
    if config.base:
        folders.claim(workdir, config, assemble.load_tokenizer(config))
        given = assemble.project_path(config.base)
        atomic.write(path.with_suffix(".model"), assemble.tokenizer_path(config).read_bytes())
        atomic.write(path, given.read_bytes())
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
    supervised.run(config_here, config_here.pretrain, rows, workdir, path, claimed=config)
    return path
