"""LiveCodeBench records: the paper's window, plain and packed tests, and no code run by reading."""

import base64
import json
import pickle
import zlib

import pytest

from r1_jax.data.tasks import livecodebench

PUBLIC = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]
PRIVATE = [{"input": "[1]\n2", "output": "3", "testtype": "functional"}]


def _pack(value):
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def _record(**changes):
    return {
        "question_content": "Add one. ",
        "contest_date": "2024-09-07T00:00:00",
        "starter_code": "",
        "public_test_cases": json.dumps(PUBLIC),
        "private_test_cases": _pack(json.dumps(PRIVATE)),
        "metadata": "{}",
    } | changes


def _problems(*records, **window):
    return livecodebench.problems(livecodebench.SOURCE, records, **window)


def test_tests_of_both_kinds_are_read():
    function = _record(
        starter_code="class Solution:\n    def add(self, x):", metadata='{"func_name": "add"}'
    )
    plain = _record(private_test_cases=json.dumps(PRIVATE))
    program, method, same = _problems(_record(), function, plain)
    reference = json.loads(program.reference)
    assert [t["kind"] for t in reference["tests"]] == ["stdin", "functional"]
    assert reference["tests"][0] == {"input": "1\n", "output": "2\n", "kind": "stdin"}
    assert reference["function"] is None and "standard input" in program.question
    assert json.loads(method.reference)["function"] == "add" and "def add" in method.question
    assert same.reference == program.reference


def test_the_window_is_the_paper_s_unless_another_is_given():
    dates = ["2024-07-31", "2024-08-01", "2025-01-31T23:00:00", "2025-02-01"]
    records = [_record(contest_date=date, question_content=date) for date in dates]
    assert [p.question[:10] for p in _problems(*records)] == ["2024-08-01", "2025-01-31"]
    assert len(_problems(*records, first="2024-01-01", last="2025-12-31")) == 4
    with pytest.raises(ValueError, match="none of 4 records is of a contest from 2030"):
        _problems(*records, first="2030-01-01", last="2031-01-01")


class _Bomb:
    def __reduce__(self):
        return (print, ("run by reading",))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (_pack(_Bomb()), r"names (builtins|__builtin__)\.print"),
        (_pack(3), "are a int, not text"),
        ("!!!", "neither JSON nor packed tests"),
        (base64.b64encode(b"no zlib").decode(), "neither JSON nor packed tests"),
        (_pack("{}"), "the tests are no list"),
    ],
)
def test_tests_that_cannot_be_read_are_named_and_never_run(packed, message, capsys):
    with pytest.raises(ValueError, match=f"record 0, private_test_cases: .*{message}"):
        _problems(_record(private_test_cases=packed))
    assert capsys.readouterr().out == ""


def test_a_bomb_of_zeros_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(livecodebench, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes of tests"):
        _problems(_record(private_test_cases=_pack("[" + " " * 100_000 + "]")))
