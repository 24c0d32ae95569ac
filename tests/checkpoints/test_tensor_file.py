"""Our reading and writing of safetensors agrees with the library's; broken files are named."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from r1_jax.checkpoints import tensor_file


def _tensors():
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(3, 4, 5)).astype(np.float32),
        "b": rng.normal(size=(7,)).astype(jnp.bfloat16),
        "c": rng.normal(size=(2, 3)).astype(np.float16),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(0.5, np.float32),
    }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(_tensors(), path, {"made": "here"})
    return path


def test_a_file_of_the_library_is_read_whole_and_in_parts(path):
    entries = tensor_file.header(path)
    assert entries.keys() == _tensors().keys()
    for name, x in _tensors().items():
        for index in [(), *(((2,), (1, 3), (2, 1, 4)) if name == "a" else ())]:
            found = tensor_file.read(path, entries[name], index)
            assert found.dtype == x.dtype and found.shape == x[index].shape
            assert found.tobytes() == x[index].tobytes()
        assert b"".join(tensor_file.pieces(path, entries[name])) == x.tobytes()


def test_the_library_reads_what_was_written_in_pieces(tmp_path):
    tensors = _tensors()
    announced = {name: (x.dtype, x.shape) for name, x in tensors.items()}
    with tensor_file.Writer(tmp_path / "y", announced, {"format": "pt"}) as file:
        for x in tensors.values():
            for piece in x if x.ndim else [x]:
                assert bytes(file.write(piece)) == piece.tobytes()
    found = safetensors.numpy.load_file(tmp_path / "y")
    assert found.keys() == tensors.keys()
    for name, x in tensors.items():
        assert found[name].dtype == x.dtype and found[name].shape == x.shape
        assert found[name].tobytes() == x.tobytes()
    with safetensors.safe_open(tmp_path / "y", framework="numpy") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_a_file_that_lacks_what_was_announced_is_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match="4 bytes were written, 8 announced"),
        tensor_file.Writer(tmp_path / "y", {"a": (np.dtype(np.float32), (2,))}) as file,
    ):
        file.write(np.zeros(1, np.float32))


@pytest.mark.parametrize("num_bytes", [0, 4, 8, 50, -1])
def test_a_file_cut_anywhere_is_named(path, num_bytes):
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match=r"x\.safetensors is (no|cut)"):
        tensor_file.header(path)


def test_absent_longer_and_foreign_files_are_named(path, tmp_path):
    with pytest.raises(ValueError, match="no_such: no such file"):
        tensor_file.header(tmp_path / "no_such")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="followed by something else"):
        tensor_file.header(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" * 20)
    with pytest.raises(ValueError, match="no safetensors file"):
        tensor_file.header(path)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"a": {"dtype": "U7", "shape": [1], "data_offsets": [0, 8]}}, "element type U7"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, r"shape \(3,\) of F32 12"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "a starts at byte"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}}, "a takes -8 bytes"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "header is damaged"),
        ({"a": 3}, "header is damaged"),
        ([1], "header is damaged"),
    ],
)
def test_a_header_that_cannot_be_true_is_named(tmp_path, listed, message):
    text = json.dumps(listed).encode()
    (tmp_path / "h").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    with pytest.raises(ValueError, match=message):
        tensor_file.header(tmp_path / "h")
