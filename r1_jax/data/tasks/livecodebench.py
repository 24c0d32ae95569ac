"""LiveCodeBench's code generation records -> problems, and programs run against their tests.

A program is graded by rewards.code, in its sandbox, a run for each test. As in LiveCodeBench common
modules are imported before it, and a function may be a method of `Solution`. Unlike there, numbers
that a program prints are text: 1.0 is not 1.
"""

import base64
import binascii
import dataclasses
import json
import pickletools
import re
import zlib
from collections.abc import Sequence
from typing import Any

from r1_jax.data.tasks import published, task
from r1_jax.rewards import code, verdict

SOURCE = published.Source(
    "livecodebench",
    ("test*.jsonl", "*.jsonl", "*.parquet"),
    "livecodebench/code_generation_lite, test.jsonl to test6.jsonl",
)
MAX_BYTES = 1 << 29  # of one problem's tests, unpacked
vote = None  # programs have no majority
ENTRY = "_entry"  # the function that is called; it calls the asked one, wherever it stands

_MODULES = """string re datetime collections heapq bisect copy math random statistics itertools
functools operator io sys json builtins typing""".split()
_BEFORE = "\n".join(
    [f"from {name} import *" for name in _MODULES]
    + [f"import {', '.join(_MODULES)}", "sys.setrecursionlimit(50_000)", ""]
)
_AFTER = """
def _entry(*arguments):
    owner = globals().get("Solution")
    return getattr(owner(), {method!r})(*arguments) if owner else {method}(*arguments)
"""
_FUTURE = re.compile(r"^from __future__ import .*$", re.MULTILINE)
_TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_FRAME = {"PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP"}


@dataclasses.dataclass(frozen=True)
class Accuracy(code.Accuracy):
    """The Task's accuracy function: RIGHT if the answer's program passes all tests (rewards.code).

    Its last fenced block, or all of it without one. config: of each test's run; output may be as
    large as all tests together, if that is more than config.output_kb. Raises ValueError where
    the sandbox does not reach config.require.
    """

    def __call__(self, answer: str | None, prompt: task.Prompt) -> verdict.Verdict:
        source = code.program(answer)
        if source is None:
            return verdict.UNPARSED
        future = _FUTURE.findall(source)  # nothing may stand before these
        before = "\n".join([*future, _BEFORE])
        after, method = "", json.loads(prompt.reference).get("method")
        if method:
            # Imported, not started: what a program does as __main__ is not asked for here.
            before += "__name__ = 'solution'\n"
            after = _AFTER.format(method=method)
        source = f"{before}{_FUTURE.sub('', source)}\n{after}"
        size = max(self.config.output_kb, len(prompt.reference) >> 10)
        config = dataclasses.replace(self.config, output_kb=size)
        return code.judge(f"```python\n{source}\n```\n", prompt.reference, config)


def ideal(prompt: task.Prompt) -> str:
    """There is none: raises ValueError. These problems are for evaluation only."""
    raise ValueError(f"livecodebench has no program for {prompt.question[:60]!r}")


def problems(
    source: published.Source,
    found: Sequence[published.Record],
    *,
    first: str = "2024-08-01",
    last: str = "2025-01-31",
) -> list[task.Prompt]:
    """Problems of contests from `first` to `last`, both included (dates "YYYY-MM-DD").

    The paper's window is the default (R1_FACTS 6.1). reference: of the form that rewards.code
    reads, with the `method` that ENTRY calls where functions are tested. Public tests come first,
    then the private ones. Raises ValueError for tests that cannot be read or are of two kinds,
    and where the window holds no problem.
    """
    prompts = []
    for index, record in enumerate(found):
        date = str(published.field(record, ("contest_date",), source, index))[:10]
        if not first <= date <= last:
            continue
        tests = []
        for name in ("public_test_cases", "private_test_cases"):
            try:
                tests += _tests(published.field(record, (name,), source, index))
            except ValueError as error:
                raise ValueError(f"{source.name}: record {index}, {name}: {error}") from error
        try:
            reference = _reference(tests, json.loads(record.get("metadata") or "{}"))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{source.name}: record {index}: {error}") from error
        question = published.field(record, ("question_content",), source, index).strip()
        starter = (record.get("starter_code") or "").strip()
        prompts.append(task.Prompt(len(prompts), _question(question, starter), reference))
    if not prompts:
        raise ValueError(
            f"{source.name}: none of {len(found)} records is of a contest from {first} to {last}"
        )
    return prompts


def _question(question: str, starter: str) -> str:
    if starter:
        form = f"Complete this code:\n```python\n{starter}\n```"
    else:
        form = "The program reads standard input and writes standard output."
    return (
        f"{question}\n\nWrite a Python program that solves this problem. {form}\n"
        "Give the whole program in one ```python block."
    )


def _reference(tests: Sequence[dict[str, str]], metadata: dict[str, Any]) -> str:
    """The tests as rewards.code reads them; ValueError for a mixture and for bad values."""
    kinds = {test["kind"] for test in tests}
    if kinds == {"stdin"}:
        whole = [{"input": test["input"], "output": test["output"]} for test in tests]
        return json.dumps({"stdin": whole})
    if kinds != {"functional"}:
        raise ValueError(f"tests of the kinds {sorted(kinds)}; all stdin, or all functional")
    method = metadata.get("func_name")
    if not isinstance(method, str) or not method.isidentifier():
        raise ValueError(f"func_name={method!r} in metadata is no function's name")
    cases = [
        {
            "arguments": [json.loads(line) for line in test["input"].split("\n") if line.strip()],
            "result": json.loads(test["output"]),
        }
        for test in tests
    ]
    return json.dumps({"method": method, "function": ENTRY, "cases": cases})


def _tests(field: Any) -> list[dict[str, str]]:
    """Tests as published: a list, its JSON, or base64 of zlib of that JSON, pickled or plain."""
    if isinstance(field, str) and field.lstrip()[:1] != "[":
        field = _unpacked(field)
    tests = json.loads(field) if isinstance(field, str) else field
    if not isinstance(tests, list):
        raise ValueError("the tests are no list")
    found = []
    for test in tests:
        values = [test.get(name) for name in ("input", "output", "testtype")]
        if not all(isinstance(value, str) for value in values):
            raise ValueError("a test has no text as input, output or testtype")
        found.append(dict(zip(("input", "output", "kind"), values, strict=True)))
    return found


def _unpacked(packed: str) -> str:
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(packed, validate=True), MAX_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"neither JSON nor packed tests ({error})") from error
    if unpacker.unconsumed_tail:
        raise ValueError(f"more than {MAX_BYTES} bytes of tests")
    return content.decode() if content.lstrip()[:1] == b"[" else _pickled_text(content)


def _pickled_text(content: bytes) -> str:
    """The text in the pickle of one text, as the tests are published.

    No pickle is ever loaded: its words are read, and one that does more than say a text is refused.
    """
    texts = []
    for word, value, _ in pickletools.genops(content):
        if word.name in _TEXT:
            texts.append(value)
        elif word.name not in _FRAME:
            raise ValueError(f"a pickle that says {word.name}; only a text's is read")
    if len(texts) != 1:
        raise ValueError(f"a pickle of {len(texts)} texts; only one text's is read")
    return texts[0]
