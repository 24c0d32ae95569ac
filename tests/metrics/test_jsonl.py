import enum
import errno
import json

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from r1_jax.metrics import jsonl


class Ending(enum.IntEnum):
    RIGHT = 0
    TIMED_OUT = 4


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_nan_and_infinity_become_null_with_a_flag_that_says_which():
    row = {"a": float("nan"), "b": np.float32("inf"), "c": 1.5, "parts": {"x": -np.inf}}
    assert strict(jsonl.line(row)) == {
        "a": None,
        "b": None,
        "c": 1.5,
        "parts": {"x": None},
        "nonfinite": {"a": "nan", "b": "inf", "parts/x": "-inf"},
    }


def test_scalars_of_numpy_and_jax_keep_value_and_kind():
    row = {
        "i": np.int32(3),
        "f": jnp.float32(0.1),
        "b": np.bool_(True),
        "h": jnp.bfloat16(0.5),
        "e": Ending.TIMED_OUT,
        "none": None,
        "list": (1, np.float64(2.5)),
    }
    read = strict(jsonl.line(row))
    assert read["i"] == 3 and isinstance(read["i"], int)
    assert np.float32(read["f"]) == np.float32(0.1)
    assert read["b"] is True
    assert read["h"] == 0.5
    assert read["e"] == "timed_out"
    assert read["none"] is None
    assert read["list"] == [1, 2.5]


@pytest.mark.parametrize("value", [np.ones(3), jnp.ones((2, 2)), object(), b"bytes"])
def test_a_value_that_fits_no_row_is_an_error_that_names_the_key(value):
    with pytest.raises(ValueError, match="length/mean"):
        jsonl.line({"length/mean": value})


@hypothesis.given(st.text(st.characters(exclude_categories=[])))
@hypothesis.settings(deadline=None)
def test_any_text_is_one_line_and_comes_back(text):
    line = jsonl.line({"completion": text})
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert strict(line) == {"completion": text}


@hypothesis.given(st.integers(min_value=0))
@hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_a_file_cut_at_any_byte_gives_the_whole_rows_before_the_cut(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    rows = [{"step": i, "text": "a\u00e4b" * i} for i in range(4)]
    lines = [jsonl.line(row) for row in rows]
    content = b"".join(lines)
    cut %= len(content) + 1
    path.write_bytes(content[:cut])
    whole = sum(len(b"".join(lines[: i + 1])) - 1 <= cut for i in range(4))  # newline not needed
    read, _ = jsonl.read(path)
    assert read == rows[:whole]
    jsonl.keep(path, lambda row: True)
    assert path.read_bytes() == b"".join(lines[:whole])


def test_torn_is_said_of_a_half_line_only(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert jsonl.read(path) == ([], False)
    for content, is_torn in [(b"", False), (b'{"a": 1}\n', False), (b'{"a": 1}\n{"a"', True)]:
        path.write_bytes(content)
        assert jsonl.read(path)[1] is is_torn


@pytest.mark.parametrize("content", [b'{"a": 1}\n{"a"\n{"a": 3}\n', b"[1, 2]\n", b'{"a": \xff}\n'])
def test_a_broken_line_that_no_kill_explains_is_an_error_with_its_number(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.jsonl:\d is not"):
        jsonl.read(path)


def test_write_leaves_the_old_file_when_a_row_cannot_be_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    jsonl.write(path, [{"a": 1}])
    with pytest.raises(ValueError):
        jsonl.write(path, [{"a": 2}, {"a": np.ones(2)}])
    assert jsonl.read(path) == ([{"a": 1}], False)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_full_disk_is_an_error_that_names_the_file_and_the_way_out():
    with open("/dev/full", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="make room") as caught:
            jsonl.append(file, "runs/x/metrics.jsonl", {"a": 1})
    assert caught.value.errno == errno.ENOSPC
    assert "runs/x/metrics.jsonl" in str(caught.value)


class HalfFullFile:
    """Takes at most five bytes a call, as a disk that is nearly full may."""

    def __init__(self):
        self.content = b""

    def write(self, data):
        self.content += bytes(data[:5])
        return min(len(data), 5)


def test_append_goes_on_after_a_short_write():
    file = HalfFullFile()
    jsonl.append(file, "x", {"step": 1, "reward": 0.5})
    assert strict(file.content) == {"step": 1, "reward": 0.5}
