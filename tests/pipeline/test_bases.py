"""The shipped base is what its manifest says, and what the configuration would build."""

import pathlib

import jax
import pytest

from r1_jax.checkpoints import weights
from r1_jax.core import build, trees
from r1_jax.models import config as model_config
from r1_jax.models import transformer
from r1_jax.pipeline import assemble, experiment
from r1_jax.text import tokenizer
from tests.pipeline import test_configs

BASES = sorted((pathlib.Path(__file__).parents[2] / "bases").glob("*.safetensors"))
ROOMS = ("task", "tags", "tokenizer", "model", "corpus", "pretrain", "optim")
FREE = {"data_dir"}  # where problems are kept says nothing about the weights


def test_a_base_is_shipped():
    assert {"countdown", "r1"} <= {path.stem for path in BASES}


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_weights_and_tokenizer_are_those_of_the_manifest(path):
    params, manifest = weights.load_weights(path)
    assert path.stat().st_size <= 4 * 2**20
    assert trees.digest(params) == manifest["digest"]
    tokens = tokenizer.SentencePieceTokenizer(path.with_suffix(".model"))
    assert tokens.digest == manifest["tokenizer_digest"]
    assert len(manifest["commit"]) == 40  # a clean checkout: no "+" at its end
    assert manifest["num_steps"] > 0 and manifest["num_tokens"] > 0


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_one_changed_byte_is_noticed(path, tmp_path):
    damaged = tmp_path / path.name
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(ValueError, match="digest"):
        weights.load_weights(damaged)


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_the_configuration_that_made_it_is_the_one_in_configs(path):
    _, manifest = weights.load_weights(path)
    # A field that is younger than the base had the value then that is its default now.
    made_with = build.to_dict(experiment.ExperimentConfig())
    for room in ROOMS:
        made_with[room] |= manifest["config"][room]
    now = build.to_dict(test_configs.load(f"base_{path.stem}"))
    assert manifest["config"]["seed"] == now["seed"]
    for room in ROOMS:
        for key in now[room].keys() - FREE:
            assert made_with[room][key] == now[room][key], (room, key)


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_it_fits_the_model_of_its_configuration(path):
    params, manifest = weights.load_weights(path)
    model = build.build(model_config.ModelConfig, manifest["config"]["model"])
    wanted = jax.eval_shape(lambda key: transformer.init(model, key), jax.random.key(0))
    shapes = {name: leaf.shape for name, leaf in trees.paths(params).items()}
    assert shapes == {name: leaf.shape for name, leaf in trees.paths(wanted).items()}


def test_another_model_or_tokenizer_than_the_base_was_made_for_is_an_error(tmp_path):
    config = test_configs.load("r1_zero_countdown")
    wider = build.build(
        experiment.ExperimentConfig, build.merge(build.to_dict(config), "model.mlp_dim", 256)
    )
    tokens = assemble.load_tokenizer(config)
    mesh = assemble.make_mesh(config.mesh)
    with pytest.raises(ValueError, match=r"model\.mlp_dim=384, the config says 256"):
        assemble.initial_params(wider, mesh, tokens)
    with pytest.raises(ValueError, match="was trained with tokenizer"):
        assemble.initial_params(config, mesh, tokenizer.ByteTokenizer())
