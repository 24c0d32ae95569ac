"""Folders of Hugging Face's kind: indices are checked, fp8 blocks are multiplied out."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from r1_jax.interop import hf_files
from tests.interop import tiny

FP8 = {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [2, 4]}}


def _fp8(path, scale=None):
    """A 3 by 5 matrix of fp8 in blocks of 2 by 4: (tensors written, what they stand for)."""
    values = np.array([[1, 2, 3, 4, 5], [-1, 0, 0.5, 6, 7], [8, 16, 448, -448, 2**-9]])
    tensors = {
        "w.weight": values.astype(jnp.float8_e4m3fn),
        "w.weight_scale_inv": np.array([[0.5, 2], [0.25, 1024]], np.float32)
        if scale is None
        else scale,
        "b.weight": np.ones(2, jnp.bfloat16),
    }
    tiny.save(path, tensors)
    # by hand: rows 0-1 take the first row of scales, columns 0-3 its first number
    expected = np.array(
        [[0.5, 1, 1.5, 2, 10], [-0.5, 0, 0.25, 3, 14], [2, 4, 112, -112, 2]], np.float32
    )
    return expected


def test_fp8_blocks_stand_for_bfloat16(tmp_path):
    expected = _fp8(tmp_path)
    found = hf_files.Checkpoint(tmp_path, FP8)
    assert found.shapes() == {"w.weight": (3, 5), "b.weight": (2,)}
    assert found.dtype("w.weight") == jnp.bfloat16 and found.dtype("b.weight") == jnp.bfloat16
    assert tiny.bits(found.read("w.weight")) == tiny.bits(expected.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("config", "scale", "message"),
    [
        ({}, None, "w.weight is fp8, but without"),
        (FP8, np.ones((2, 3), np.float32), r"w.weight_scale_inv is float32\[2, 3\]; \[3, 5\] in"),
        (FP8, np.ones((2, 2), np.float16), r"is float16\[2, 2\]"),
        ({"quantization_config": {"quant_method": "awq"}}, None, "'quant_method': 'awq'"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": None}},
            None,
            "weight_block_size of two numbers",
        ),
    ],
)
def test_a_quantisation_that_is_not_understood_is_an_error(tmp_path, config, scale, message):
    _fp8(tmp_path, scale)
    with pytest.raises(ValueError, match=message):
        hf_files.Checkpoint(tmp_path, config)


def test_an_integer_is_no_weight(tmp_path):
    tiny.save(tmp_path, {"a": np.zeros(3, np.int32)})
    with pytest.raises(ValueError, match="a is int32; weights are"):
        hf_files.Checkpoint(tmp_path, {})


def test_several_files_are_one_checkpoint(tmp_path):
    tensors = {f"t{i}": np.full((2, i + 1), i, np.float32) for i in range(7)}
    tiny.save(tmp_path, tensors, num_files=3)
    found = hf_files.Checkpoint(tmp_path, {})
    assert {n: tiny.bits(found.read(n)) for n in found.shapes()} == {
        n: tiny.bits(x) for n, x in tensors.items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"t0": "model-00002-of-00003.safetensors"},
            r"(has|lacks) t0, against model\.safetensors\.index",
        ),
        ({"t9": "model-00002-of-00003.safetensors"}, "lacks t9, against"),
        ({"t0": "absent.safetensors"}, r"(absent\.safetensors: no such file|has t0)"),
        ({"t0": "../other.safetensors"}, "which is no file's name"),
        ({"t0": 3}, "which is no file's name"),
    ],
)
def test_an_index_that_disagrees_with_the_files_is_an_error(tmp_path, change, message):
    tiny.save(tmp_path, {f"t{i}": np.zeros(i + 1, np.float32) for i in range(7)}, num_files=3)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] |= change
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        hf_files.Checkpoint(tmp_path, {})


def test_folders_without_weights_or_with_a_broken_index_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"has neither model\.safetensors nor"):
        hf_files.Checkpoint(tmp_path, {})
    for text, message in (("{", "is not JSON"), ("[]", "holds a list"), ("{}", "no weight_map")):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            hf_files.Checkpoint(tmp_path, {})


def test_equality_is_of_bits(tmp_path):
    zero = np.zeros((3, 2), np.float32)
    tensors = {"a": zero, "b": zero.copy(), "c": -zero, "d": zero.astype(np.float16)}
    tiny.save(tmp_path, tensors | {"e": zero.T.copy()})
    found = hf_files.Checkpoint(tmp_path, {})
    assert [found.equal("a", other) for other in "abcde"] == [True, True, False, False, False]


@pytest.mark.parametrize(("limit", "num_files"), [(10**9, 1), (64, 3), (1, 4)])
def test_files_are_filled_up_to_a_size_and_the_library_reads_them(tmp_path, limit, num_files):
    arrays = {
        "a": np.arange(3, dtype=np.float16),
        "b": np.arange(6, dtype=np.float32),
        "c": np.arange(16, dtype=np.float32),
        "d": np.arange(4, dtype=np.float32),
    }

    def tensor(name):
        x = arrays[name]
        return hf_files.Tensor(name, x.dtype, x.shape, lambda: iter(np.array_split(x, 2)))

    hf_files.write(tmp_path, [tensor(name) for name in arrays], limit)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == num_files
    assert tiny.load(tmp_path) == {name: tiny.bits(x) for name, x in arrays.items()}
    if num_files > 1:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == 6 + 24 + 64 + 16
        for name, file in index["weight_map"].items():
            assert name in safetensors.numpy.load_file(tmp_path / file)
    else:
        assert not (tmp_path / "model.safetensors.index.json").exists()
