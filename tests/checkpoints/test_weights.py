"""A weights file is what its manifest says, or it does not load."""

import json

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from r1_jax.checkpoints import weights
from r1_jax.core import trees

MANIFEST = {
    "commit": "0" * 40,
    "config": {"model": {"num_layers": 2}},
    "seed": 0,
    "tokenizer_digest": "f" * 64,
}


def _params():
    rng = np.random.default_rng(0)
    return {
        "params": {
            "embed": {"embedding": jnp.asarray(rng.normal(size=(7, 4)), jnp.float32)},
            "layers": {"scale": jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)},
            "temperature": jnp.float32(0.3),
        },
        "counts": np.arange(3, dtype=np.int32),
    }


@pytest.mark.parametrize(
    ("storage", "dtype"),
    [("float32", np.float32), ("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)],
)
def test_what_comes_back_is_the_storage_rounding_of_what_went_in(tmp_path, storage, dtype):
    path = tmp_path / "new" / "base.safetensors"
    written = weights.save_weights(path, _params(), MANIFEST, storage=storage)
    params, manifest = weights.load_weights(path)
    assert manifest == written
    assert manifest == {**MANIFEST, "storage": storage, "digest": manifest["digest"]}
    loaded, given = trees.paths(params), trees.paths(_params())
    assert loaded.keys() == given.keys()
    for name, x in given.items():
        x = np.asarray(x)
        expected = x if x.dtype == np.int32 else x.astype(dtype).astype(np.float32)
        assert loaded[name].dtype == expected.dtype
        assert loaded[name].shape == expected.shape
        np.testing.assert_array_equal(loaded[name], expected)
    size = {"float32": 4, "float16": 2, "bfloat16": 2}[storage]
    assert path.stat().st_size < 37 * size + 12 + 2000


def test_the_digest_is_that_of_the_stored_arrays(tmp_path):
    path = tmp_path / "w"
    written = weights.save_weights(path, _params(), MANIFEST)
    assert written["digest"] == trees.digest(_params())
    rounded = weights.save_weights(path, _params(), MANIFEST, storage="float16")
    assert rounded["digest"] != written["digest"]


def test_the_same_weights_give_the_same_file(tmp_path):
    for name in ("a", "b"):
        weights.save_weights(tmp_path / name, _params(), MANIFEST)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("position", [-1, -30])
def test_a_changed_byte_is_found(tmp_path, position):
    path = tmp_path / "base.safetensors"
    weights.save_weights(path, _params(), MANIFEST, storage="float16")
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"base\.safetensors: the arrays have digest .*make base"):
        weights.load_weights(path)


def test_absent_cut_and_foreign_files_name_file_and_way_out(tmp_path):
    path = tmp_path / "base.safetensors"
    with pytest.raises(ValueError, match=r"base\.safetensors: no weights there; .*`make base`"):
        weights.load_weights(path)
    weights.save_weights(path, _params(), MANIFEST)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"base\.safetensors is damaged .*`make base`"):
        weights.load_weights(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"base\.safetensors is damaged"):
        weights.load_weights(path)
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(3)}))
    with pytest.raises(ValueError, match=r"base\.safetensors has no manifest inside"):
        weights.load_weights(path)
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(3)}, {"manifest": json.dumps({})}))
    with pytest.raises(ValueError, match=r"base\.safetensors: .*its manifest says None"):
        weights.load_weights(path)


@pytest.mark.parametrize(
    ("params", "manifest", "storage", "message"),
    [
        ({}, {"commit": "x", "seed": 1}, "float32", "lacks config, tokenizer_digest"),
        ({}, MANIFEST, "int8", "storage='int8'; use one of float32"),
        ({"a": {"b/c": np.zeros(1)}}, MANIFEST, "float32", "a/'b/c' cannot be a weight's name"),
        ({"a": np.array([1e5])}, MANIFEST, "float16", "a is not finite in float16; store it as"),
        ({"a": np.array([np.nan])}, MANIFEST, "float32", "a is not finite in float32"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, params, manifest, storage, message):
    with pytest.raises(ValueError, match=message):
        weights.save_weights(tmp_path / "w", params, manifest, storage=storage)
    assert not (tmp_path / "w").exists()
