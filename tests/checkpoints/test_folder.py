"""A folder of weights is what was written, is read where it shall live, or is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.checkpoints import folder

FACTS = {"commit": "c", "config": {"model": {}}, "seed": 0, "tokenizer_digest": "t"}


def _arrays():
    rng = np.random.default_rng(0)
    return {
        "embedding": rng.normal(size=(16, 4)).astype(jnp.bfloat16),
        "layers/block/kernel": rng.normal(size=(3, 8, 4)).astype(np.float32),
    }


def _write(path, arrays=None):
    arrays = _arrays() if arrays is None else arrays
    leaves = [folder.Leaf(n, x.dtype, x.shape, iter(x)) for n, x in arrays.items()]
    with folder.new(path) as part:
        return folder.write(part, leaves, FACTS)


def _shardings():
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    split = {"embedding": jax.P("x", "y"), "layers": {"block": {"kernel": jax.P(None, "x")}}}
    return jax.tree.map(lambda spec: jax.NamedSharding(mesh, spec), split)


def test_parameters_come_back_in_float32_split_over_devices(tmp_path):
    manifest = _write(tmp_path / "w")
    opened = folder.Folder(tmp_path / "w")
    assert opened.manifest == manifest and manifest.items() >= FACTS.items()
    assert opened.leaves() == {n: (x.dtype, x.shape) for n, x in _arrays().items()}
    params = opened.load(_shardings())
    kernel = params["layers"]["block"]["kernel"]
    assert kernel.sharding.spec == jax.P(None, "x")
    assert params["embedding"].addressable_shards[0].data.shape == (4, 2)
    for name, x in (("embedding", params["embedding"]), ("layers/block/kernel", kernel)):
        assert x.dtype == jnp.float32
        np.testing.assert_array_equal(np.asarray(x), _arrays()[name].astype(np.float32))


def test_a_part_is_read_as_it_was_stored(tmp_path):
    _write(tmp_path / "w")
    found = folder.Folder(tmp_path / "w").read("layers/block/kernel", (2, 5))
    assert found.tobytes() == _arrays()["layers/block/kernel"][2, 5].tobytes()


def test_the_digest_is_that_of_names_shapes_types_and_bytes(tmp_path):
    first = _write(tmp_path / "a")["digest"]
    assert _write(tmp_path / "b")["digest"] == first
    other = _arrays() | {"embedding": -_arrays()["embedding"]}
    assert _write(tmp_path / "c", other)["digest"] != first


def test_a_changed_byte_is_found(tmp_path):
    _write(tmp_path / "w")
    file = tmp_path / "w" / "weights" / "layers.block.kernel.safetensors"
    data = bytearray(file.read_bytes())
    data[-30] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"layers\.block\.kernel\.safetensors is not what was"):
        folder.Folder(tmp_path / "w").load(_shardings())


def test_missing_cut_and_foreign_parts_are_named(tmp_path):
    _write(tmp_path / "w")
    file = tmp_path / "w" / "weights" / "embedding.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"embedding\.safetensors is cut short"):
        folder.Folder(tmp_path / "w")
    file.write_bytes((file.parent / "layers.block.kernel.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"embedding\.safetensors does not hold embedding, bfl"):
        folder.Folder(tmp_path / "w")
    file.write_bytes(content)
    wrong = _shardings() | {"head": _shardings()["embedding"]}
    with pytest.raises(ValueError, match="lacks head"):
        folder.Folder(tmp_path / "w").load(wrong)
    (tmp_path / "w" / "manifest.json").write_text(json.dumps(FACTS))
    with pytest.raises(ValueError, match="is no folder of weights: its manifest lacks leaves"):
        folder.Folder(tmp_path / "w")


def test_nothing_stays_of_a_folder_that_failed(tmp_path):
    broken = _arrays() | {"embedding": np.array([[np.inf]], np.float32)}
    with pytest.raises(ValueError, match="embedding is not finite"):
        _write(tmp_path / "w", broken)
    with pytest.raises(ValueError, match="lacks commit"), folder.new(tmp_path / "w") as part:
        folder.write(part, [], {k: v for k, v in FACTS.items() if k != "commit"})
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_never_touched(tmp_path):
    (tmp_path / "w").mkdir()
    _write(tmp_path / "w")  # an empty folder may be filled
    before = {p: p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="w exists; name a new folder"):
        _write(tmp_path / "w")
    assert before == {p: p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file()}
