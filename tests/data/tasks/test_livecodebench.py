"""LiveCodeBench: records as published, nothing run by reading them, programs run against tests."""

import base64
import json
import pickle
import zlib

import pytest

from r1_jax.data.tasks import benchmarks, livecodebench
from r1_jax.rewards import combine, grader, pool, sandbox, verdict
from r1_jax.text import chat

PROGRAMS = sandbox.SandboxConfig(require=sandbox.level(), seconds=3.0, output_kb=1)
PUBLIC = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]
MORE = [{"input": "-5\n", "output": "-4\n", "testtype": "stdin"}]
PRIVATE = [{"input": "[1]\n2", "output": "3", "testtype": "functional"}]


def _pack(value):
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def _record(**changes):
    return {
        "question_content": "Add one. ",
        "contest_date": "2024-09-07T00:00:00",
        "starter_code": "",
        "public_test_cases": json.dumps(PUBLIC),
        "private_test_cases": _pack(json.dumps(MORE)),
        "metadata": "{}",
    } | changes


def _problems(*records, **window):
    return livecodebench.problems(livecodebench.SOURCE, records, **window)


FUNCTION = {
    "starter_code": "class Solution:\n    def add(self, x: List[int], y: int) -> int:",
    "metadata": '{"func_name": "add"}',
    "public_test_cases": json.dumps(
        [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
    ),
    "private_test_cases": _pack(json.dumps(PRIVATE)),
}


def test_tests_of_both_kinds_are_read():
    plain = _record(private_test_cases=json.dumps(MORE))
    as_json = _record(private_test_cases=base64.b64encode(zlib.compress(json.dumps(MORE).encode())))
    as_json["private_test_cases"] = as_json["private_test_cases"].decode()
    program, method, *same = _problems(_record(), _record(**FUNCTION), plain, as_json)
    assert json.loads(program.reference) == {
        "stdin": [{"input": "1\n", "output": "2\n"}, {"input": "-5\n", "output": "-4\n"}]
    }
    assert "standard input" in program.question
    assert json.loads(method.reference) == {
        "method": "add",
        "function": livecodebench.ENTRY,
        "cases": [{"arguments": [[1, 2], 3], "result": 6}, {"arguments": [[1], 2], "result": 3}],
    }
    assert "def add" in method.question
    assert [problem.reference for problem in same] == [program.reference] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, r"of the kinds \[\]"),
        ({"private_test_cases": json.dumps(PRIVATE)}, r"of the kinds \['functional', 'stdin'\]"),
        (FUNCTION | {"metadata": "{}"}, "func_name=None in metadata is no function's name"),
        (FUNCTION | {"metadata": '{"func_name": "f();g"}'}, "is no function's name"),
        (FUNCTION | {"metadata": "[]"}, "record 0: "),
        ({"private_test_cases": '[{"input": 1}]'}, "no text as input, output or testtype"),
        (FUNCTION | {"private_test_cases": json.dumps([PRIVATE[0] | {"input": "x"}])}, "record 0"),
    ],
)
def test_records_that_cannot_be_graded_are_told(changes, message):
    with pytest.raises(ValueError, match=message):
        _problems(_record(**changes))


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
        (_pack(_Bomb()), "a pickle that says [A-Z_]+; only a text's is read"),
        (_pack(3), "a pickle that says BININT1"),
        (_pack(["[]"]), "a pickle that says EMPTY_LIST"),
        (_pack(("a", "b")), "a pickle that says TUPLE2"),
        (base64.b64encode(zlib.compress(pickle.dumps("[]")[:-3])).decode(), ""),
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


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """A small file as published, read as the benchmark."""
    folder = tmp_path_factory.mktemp("benchmarks")
    long = [{"input": "", "output": "7\n" * 3000, "testtype": "stdin"}]
    rows = [_record(), _record(**FUNCTION), _record(public_test_cases=json.dumps(long))]
    rows[2]["private_test_cases"] = "[]"
    (folder / "livecodebench").mkdir()
    path = folder / "livecodebench/test6.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return benchmarks.load("livecodebench", folder, PROGRAMS).task


SOLUTION = "class Solution:\n    def add(self, x: List[int], y: int) -> int:\n        "
ANSWERS = [  # problem, program, outcome
    (0, "print(int(input()) + 1)", "RIGHT"),
    (0, "Like this:\n```python\nprint(int(input()) + 1)\n```\nDone.", "RIGHT"),
    (0, "from __future__ import annotations\nprint(gcd(0, int(sys.stdin.read())) and 2)", "WRONG"),
    (0, "from __future__ import annotations\nprint(floor(int(sys.stdin.read())) + 1)", "RIGHT"),
    (0, "print(2)", "WRONG"),
    (0, "while True: pass", "WRONG"),
    (0, "", "UNPARSED"),
    (1, SOLUTION + "return sum(x) + y", "RIGHT"),
    (1, "def add(x, y):\n    return sum(x) + y\nif __name__ == '__main__':\n    input()", "RIGHT"),
    (1, SOLUTION + "return 6", "WRONG"),
    (1, SOLUTION + "print(6)", "WRONG"),
    (1, "def other(x, y): return sum(x) + y", "WRONG"),
    (1, "import os\nos._exit(0)", "WRONG"),
    (2, "print('7\\n' * 3000)", "RIGHT"),  # longer than output_kb, as long as what is expected
    (2, "while True: print(7)", "WRONG"),
]


def test_programs_are_graded_in_the_pool_s_children(problems):
    tags = chat.Tags()
    grade = grader.Grader(problems.accuracy, problems.vote, tags, combine.RewardConfig(), seed=0)
    items = [
        (problems.splits["test"][index], chat.completion("so", answer, tags), 0, 0)
        for index, answer, _ in ANSWERS
    ]
    graders = pool.GraderPool(
        grade, pool.GraderConfig(workers=2, deadline_seconds=60.0, processes=True)
    )
    found = [grader.read(result, ("accuracy", "format")) for result in graders.submit(items)()]
    graders.close()
    outcomes = [graded.grade.outcome.name for graded in found]
    assert outcomes == [outcome for _, _, outcome in ANSWERS]
    assert all(graded.vote is None and graded.error == "" for graded in found)


def test_a_sandbox_that_is_asked_for_and_not_there_is_told_before_anything_is_read(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(sandbox, "level", lambda: "limits")
    with pytest.raises(ValueError, match="require=namespaces, but this machine"):
        benchmarks.load("livecodebench", tmp_path)
    config = sandbox.SandboxConfig(require="limits")
    with pytest.raises(ValueError, match="livecodebench: no file"):
        benchmarks.load("livecodebench", tmp_path, config)


def test_there_is_no_ideal_answer(problems):
    assert problems.splits["test"][0].reference and problems.vote is None
    with pytest.raises(ValueError, match="no program for 'Add one"):
        problems.ideal(problems.splits["test"][0])
    assert problems.accuracy(None, problems.splits["test"][0]) == verdict.UNPARSED
