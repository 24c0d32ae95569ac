"""The base's corpus and rows: of the task asked for, packed whole, a function of the seed."""

import numpy as np
import pytest

from configs import r1_tiny
from r1_jax.core import build
from r1_jax.data.tasks import load
from r1_jax.pipeline import assemble, base, experiment
from r1_jax.rewards import extract, verdict
from r1_jax.text import tokenizer


def _config(tmp_path, **changes) -> experiment.ExperimentConfig:
    mapping = {
        "task": {
            "data_dir": str(tmp_path), "num_train": 20, "num_validation": 4, "num_test": 4,
        },
        "corpus": {"num_documents": 60, "max_value": 60},
        "tokenizer": {"train_documents": 30},
        "model": {"vocab_size": 360},
    }  # fmt: skip
    for name, value in changes.items():
        mapping = build.merge(mapping, name.replace("__", "."), value)
    return build.build(experiment.ExperimentConfig, mapping)


@pytest.mark.parametrize(
    "changes",
    [
        {"task__name": "arithmetic"},
        {"task__name": "reasoning_gym", "task__dataset": "chain_sum"},
    ],
)
def test_a_task_without_a_solver_has_a_corpus_of_answers(changes, tmp_path):
    config = _config(tmp_path, corpus__guess_right=1.0, **changes)
    task = load.load(config.task)
    documents = list(base.documents(config))
    assert len(documents) == 60
    for document, problem in zip(documents, list(task.splits["train"]) * 3, strict=True):
        answer = extract.answer(document.completion, config.tags)
        assert problem.question in document.prompt
        assert task.accuracy(answer, problem) == verdict.RIGHT
    held_out = {p.question for name in ("validation", "test") for p in task.splits[name]}
    assert not any(question in d.prompt for d in documents for question in held_out)


def test_a_tokenizer_is_trained_on_the_task_s_own_documents(tmp_path):
    config = _config(tmp_path, task__name="arithmetic")
    tokens = base.train_tokenizer(config, tmp_path / "t.model")
    assert tokens.vocab_size == 360
    for document in base.documents(config):
        text = document.prompt + document.completion
        ids = tokens.encode(text)
        assert tokens.decode(ids) == text and len(ids) < len(text) / 8


def test_rows_hold_every_document_that_fits_once_with_its_stop_token(tmp_path, caplog):
    tokens = tokenizer.ByteTokenizer()
    config = _config(tmp_path, pretrain__row_length=900)
    lengths = [
        len(tokens.encode(document.prompt + document.completion)) + 1
        for document in base.documents(config)
    ]
    fits = [length for length in lengths if length <= 900]
    assert 0 < len(fits) < len(lengths)
    rows = base.packed_rows(config, tokens)
    assert rows.tokens_BT.shape[1] == 900
    assert int(np.sum(rows.segment_BT > 0)) == sum(fits)
    assert int(np.sum(rows.tokens_BT[rows.segment_BT > 0] == tokens.stop_ids[0])) == len(fits)
    assert f"{len(lengths) - len(fits)} documents are longer than row_length=900" in caplog.text


def test_a_base_that_is_there_is_copied_and_not_trained(tmp_path):
    config = build.build(experiment.ExperimentConfig, r1_tiny.get_config("smoke").base.to_dict())
    path = base.run(config, tmp_path / "base")
    assert path.read_bytes() == assemble.project_path(config.base).read_bytes()
    assert path.with_suffix(".model").exists() and base.run(config, tmp_path / "base") == path


def test_a_folder_of_convert_stays_where_it_is(tmp_path):
    given = tmp_path / "converted"
    given.mkdir()
    (given / "manifest.json").write_text("{}")
    config = build.build(experiment.ExperimentConfig, {"base": str(given)})
    assert base.run(config, tmp_path / "work") == given == base.weights_of(config, tmp_path)
    assert not (tmp_path / "work").exists()
    other = build.build(experiment.ExperimentConfig, {"base": "bases/countdown.safetensors"})
    assert base.weights_of(other, tmp_path) == tmp_path / "base.safetensors"
