"""The child's side of the pool, without a child: what it says of what was raised."""

import json

import pytest

from r1_jax.rewards import worker


class UnprintableError(Exception):
    def __str__(self):
        raise KeyError


def raises(error):
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a\n\tb"), "ValueError: a b (test_worker.py:"),
        (KeyboardInterrupt(), "KeyboardInterrupt:  (test_worker.py:"),
        (UnprintableError(), "UnprintableError: ? (test_worker.py:"),
        (ValueError("x" * 10**6), "ValueError: " + "x" * 200 + " (test_worker.py:"),
    ],
)
def test_whatever_is_raised_is_told_on_one_short_line(error, told):
    value, found = worker.call(raises, (error,))
    assert value is None and found.startswith(told) and "\n" not in found


def test_a_value_comes_with_no_error():
    assert worker.call(max, (1, 2)) == (2, "")


@pytest.mark.parametrize("value", [0.1, float("inf"), -1e-300, "a\nb", None, {"a": [1.5]}])
def test_an_answer_is_one_line_and_exact(value):
    line = worker.encode(value, "")
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert json.loads(line) == [value, ""]


def test_what_no_line_can_hold_is_an_error():
    loop = []
    loop.append(loop)
    for value in (object(), loop, "x" * (worker.MAX_REPLY + 1), {(1, 2): 3}):
        found, error = json.loads(worker.encode(value, ""))
        assert found is None and error.split(":")[0] in ("TypeError", "ValueError")
