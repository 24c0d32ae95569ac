"""Programs against tests: all outputs whole, and no way to be right without the answer."""

import dataclasses
import json
import os
import time
from types import SimpleNamespace

import pytest

from r1_jax.rewards import code, combine, grader, pool, sandbox, verdict
from r1_jax.text import chat
from tests import toy_rewards
from tests.rewards.conftest import programs_left

CONFIG = sandbox.SandboxConfig(require=sandbox.level(), seconds=2.0, output_kb=16)
SUM = json.dumps(
    {"stdin": [{"input": "1 2\n", "output": "3\n"}, {"input": "5 6\n", "output": "11"}]}
)
ADD = json.dumps(
    {
        "function": "add",
        "cases": [{"arguments": [1, 2], "result": 3}, {"arguments": [[1], [2]], "result": [1, 2]}],
    }
)
READS = "a, b = map(int, input().split())\n"
DEF = "def add(a, b):\n"


def judge(answer, reference=SUM):
    return code.judge(answer, reference, CONFIG).outcome.name


@pytest.mark.parametrize(
    "answer",
    [
        READS + "print(a + b)",
        f"First:\n```python\nprint(3)\n```\nno, better:\n```py\n{READS}print(a + b, ' ')\n```\n",
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nprint()\n",
    ],
)
def test_a_program_that_passes_every_test_is_right(answer):
    assert judge(answer) == "RIGHT"


@pytest.mark.parametrize(
    "answer",
    [
        "print(3)",  # the first test alone
        "print(3)\nprint(11)",
        READS + "print('', a + b)",
        READS + "print(a + b)\nprint('and more')",
        READS + "print(a + b)\nraise SystemExit(1)",
        READS + "print(a + b)\n1 / 0",
        READS + "print(a + b, flush=True)\nwhile True: print()",
        READS + "print(a + b, flush=True)\nwhile True: pass",
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "this is no program",
        "x = 'a' * 10**11",
        "\0",
    ],
)
def test_a_program_that_does_not_is_wrong(answer):
    start = time.monotonic()
    assert judge(answer) == "WRONG"
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("    print('noise')\n    return a + b", "RIGHT"),
        ("    return 3", "WRONG"),
        ("    return a + b, 0", "WRONG"),
        ("    return str(a + b)", "WRONG"),
        ("    return object()", "WRONG"),
        ("    class Any:\n        def __eq__(self, other): return True\n    return Any()", "WRONG"),
        ("    import os; os.write(1, b'3'); os._exit(0)", "WRONG"),
        ("    raise SystemExit(0)", "WRONG"),
    ],
)
def test_a_function_is_called_and_its_result_compared_outside(body, outcome):
    assert judge(DEF + body, ADD) == outcome


def test_published_tests_of_both_kinds_and_a_method_are_run():
    stdin = {"input": "1 2", "output": "3", "kind": "stdin"}
    called = {"input": "[1, 2]\n\n3", "output": "6", "kind": "functional"}
    program = json.dumps(
        {"tests": [stdin, stdin | {"input": "2 2", "output": "4"}], "function": None}
    )
    assert judge(READS + "print(a + b)", program) == "RIGHT"
    assert judge("print(3)", program) == "WRONG"
    method = json.dumps({"tests": [called], "function": "total"})
    body = "def total(self, xs, y):\n        return sum(xs) + y"
    assert judge(f"class Solution:\n    {body}", method) == "RIGHT"
    assert judge(body.replace("self, ", ""), method) == "RIGHT"
    assert judge("class Solution:\n    pass", method) == "WRONG"


def test_all_tests_together_have_a_time_of_their_own():
    many = json.dumps({"stdin": [{"input": "", "output": ""}] * 40})
    config = dataclasses.replace(CONFIG, total_seconds=1.5)
    start = time.monotonic()
    assert code.judge("import time; time.sleep(0.2)", many, config) == verdict.WRONG
    assert time.monotonic() - start < 5


def test_what_is_expected_is_not_told():
    spy = DEF + "    import gc\n    return eval(open(0).read() or '0')\nimport sys\n"
    assert judge(spy, ADD) == "WRONG"
    assert "987654" not in code._harness("pass", "add")


def test_equality_is_of_json_values():
    same = [(1, 1.0), ([1, [2]], [1, [2]]), ({"a": 1}, {"a": 1}), (None, None), (True, True)]
    other = [(1, True), ("1", 1), ([1], [1, 2]), ({"a": 1}, {"b": 1}), (None, 0), (0, False)]
    assert all(code._is_equal(*pair) for pair in same)
    assert not any(code._is_equal(*pair) for pair in other)


def test_no_program_is_unparsed():
    for answer in (None, "", "  \n", "```python\nprint(1)", "x" * (code.MAX_CHARS + 1)):
        assert judge(answer) == "UNPARSED"


@pytest.mark.parametrize(
    "reference",
    [
        "", "[]", "3", "{}", '{"stdin": []}', '{"stdin": [{"input": "1"}]}', '{"stdin": 3}',
        '{"stdin": [{"input": 1, "output": "1"}]}', '{"function": "a b", "cases": []}',
        '{"function": "f()", "cases": [{"arguments": [], "result": 1}]}',
        '{"function": "f", "cases": [{"arguments": 1, "result": 1}]}',
        '{"tests": [{"input": "1", "output": "1", "kind": "functional"}], "function": null}',
        '{"tests": [{"input": "x", "output": "1", "kind": "functional"}], "function": "f"}',
        '{"tests": [{"input": "1", "output": "1"}], "function": "f"}', '{"tests": 3}',
        '{"function": 3, "cases": [{"arguments": [1], "result": 1}]}',
    ],
)  # fmt: skip
def test_a_reference_that_cannot_be_graded_against_is_told(reference):
    assert judge("print(1)", reference) == "BAD_REFERENCE"


def test_programs_are_graded_in_the_pool_s_children():
    grade = grader.Grader(
        code.Accuracy(CONFIG), toy_rewards.same, chat.Tags(), combine.RewardConfig(), seed=0
    )
    problem = SimpleNamespace(uid=0, question="", reference=SUM)
    answers = [READS + "print(a + b)", "while True: pass", READS + "print(a - b)"]
    items = [(problem, chat.completion("", a, chat.Tags()), 0, 0) for a in answers]
    graders = pool.GraderPool(grade, pool.GraderConfig(workers=2, processes=True))
    found = [grader.read(result, []).grade.outcome.name for result in graders.submit(items)()]
    graders.close()
    assert found == ["RIGHT", "WRONG", "WRONG"]


@pytest.mark.skipif(sandbox.level() != "namespaces", reason="needs bubblewrap")
def test_a_program_ends_with_the_grader_that_runs_it():
    marked = f"import time\ntime.sleep({10**6 + os.getpid()})"
    accuracy = code.Accuracy(sandbox.SandboxConfig(seconds=60.0))
    graders = pool.GraderPool(accuracy, pool.GraderConfig(deadline_seconds=1.0, processes=True))
    (found,) = graders.submit([(marked, SimpleNamespace(reference=SUM))])()
    assert found.failure == verdict.Outcome.TIMEOUT
    left = programs_left()
    graders.close()
    assert not left
