"""The accuracy reward of programming: a program is right if it passes every test it is run on.

The reference is JSON of one of three forms:

    {"stdin": [{"input": "1 2\\n", "output": "3\\n"}, ...]}
    {"function": "add", "cases": [{"arguments": [1, 2], "result": 3}, ...]}
    {"tests": [{"input": ..., "output": ..., "kind": ...}, ...], "function": name or null}

The last is LiveCodeBench's: kind is "stdin", or "functional" with an argument as JSON on each line
of the input and the result as JSON. A function may be a method of a class `Solution`.

Each test is a run of its own in rewards.sandbox. What was expected is compared here, outside, and
never told to the program: it can print what it likes, it cannot know what to print. Whole outputs
are compared; one that was cut off for its length is wrong, whatever stands in it.
"""

import dataclasses
import json
import re
import time
from typing import Any

from r1_jax.rewards import sandbox, verdict

MAX_CHARS = 1 << 16  # of a program
_FENCE = re.compile(r"^```[^\n`]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
# Runs after the program, in its namespace. Only the result goes out: prints of the program's own,
# to a descriptor that was closed for it, do not.
# (Standard error goes nowhere already, and nothing else can be opened for writing everywhere.)
_BEFORE = "import os as _os\n_out = _os.dup(1)\n_os.dup2(2, 1)\n"
_AFTER = """
import json as _json
_function = globals().get({function!r}) or getattr(Solution(), {function!r})
_result = _function(*_json.loads(open(0).read()))
with open(_out, "w") as _file:
    _json.dump(_result, _file)
"""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A Task's accuracy function: (answer, problem with a reference) -> Verdict."""

    config: sandbox.SandboxConfig = dataclasses.field(default_factory=sandbox.SandboxConfig)

    def __call__(self, answer: str | None, prompt: Any) -> verdict.Verdict:
        return judge(answer, prompt.reference, self.config)


def program(answer: str | None) -> str | None:
    """The code of an answer: its last fenced block, or all of it where it has none; else None."""
    if answer is None or len(answer) > MAX_CHARS:
        return None
    blocks = _FENCE.findall(answer)
    text = blocks[-1] if blocks else answer
    return text if text.strip() and (blocks or "```" not in answer) else None


def judge(answer: str | None, reference: str, config: sandbox.SandboxConfig) -> verdict.Verdict:
    """RIGHT if the program passes all tests; the first that it fails makes it WRONG.

    A program that raises, ends with an exit code other than 0, or takes too much of anything, the
    total_seconds of all tests too, is WRONG: the fault is its own. UNPARSED: no program, or one
    longer than MAX_CHARS. BAD_REFERENCE: a reference of another form, or without tests. Raises
    ValueError where the sandbox does not reach config.require, and never because of an answer.
    """
    tests = _tests(reference)
    if not tests:
        return verdict.BAD_REFERENCE
    source = program(answer)
    if source is None:
        return verdict.UNPARSED
    until = time.monotonic() + config.total_seconds
    for function, given, expected in tests:
        left = until - time.monotonic()
        if left <= 0:
            return verdict.WRONG
        config = dataclasses.replace(config, seconds=min(config.seconds, left))
        if function:
            ended = sandbox.run(_harness(source, function), json.dumps(given), config)
            passes = _is_equal(_loads(ended.output), [expected])
        else:
            ended = sandbox.run(source, given, config)
            passes = _lines(ended.output.decode("utf-8", "replace")) == _lines(expected)
        if ended.why != "exit" or ended.code != 0 or not passes:
            return verdict.WRONG
    return verdict.RIGHT


def _harness(source: str, function: str) -> str:
    """A program that calls `function` of `source`, which runs as it would alone."""
    after = _AFTER.format(function=function)
    return f"{_BEFORE}exec(compile({source!r}, 'answer.py', 'exec'))\n{after}"


def _tests(reference: str) -> list[tuple[str, Any, Any]]:
    """(function, what is given, what is expected) of every test; [] for a reference that is bad."""
    try:
        loaded = json.loads(reference)
        if "stdin" in loaded:
            tests = [("", test["input"], test["output"]) for test in loaded["stdin"]]
            is_good = all(isinstance(x, str) for test in tests for x in test)
        elif "tests" in loaded:
            tests = [_of_kind(test, loaded["function"]) for test in loaded["tests"]]
            is_good = all(str.isidentifier(test[0] or "stdin") for test in tests)
        else:
            name = loaded["function"]
            tests = [(name, test["arguments"], test["result"]) for test in loaded["cases"]]
            is_good = str.isidentifier(name) and all(isinstance(t[1], list) for t in tests)
    except (ValueError, KeyError, TypeError):
        return []
    return tests if is_good else []


def _of_kind(test: dict[str, str], function: str | None) -> tuple[str, Any, Any]:
    if test["kind"] == "stdin":
        return "", str(test["input"]), str(test["output"])
    if function is None:
        raise ValueError("a test of a function without its name")
    arguments = [json.loads(line) for line in test["input"].split("\n") if line.strip()]
    return function, arguments, json.loads(test["output"])


def _lines(text: str) -> list[str]:
    """The lines of an output; white space at the end of a line or of all is no difference."""
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _loads(output: bytes) -> list[Any]:
    """[value] of JSON, [] of what is none."""
    try:
        return [json.loads(output)]
    except (ValueError, RecursionError):
        return []


def _is_equal(found: Any, expected: Any) -> bool:
    """Equality of JSON values in which true is not 1; 1.0 is 1."""
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(_is_equal, found, expected))
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(
            _is_equal(found[key], expected[key]) for key in expected
        )
    return isinstance(found, bool) == isinstance(expected, bool) and found == expected
