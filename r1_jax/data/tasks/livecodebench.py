"""LiveCodeBench's code generation records -> problems with their tests, and their grader."""

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Sequence
from typing import Any

from r1_jax.data.tasks import published, task
from r1_jax.rewards import code

SOURCE = published.Source(
    "livecodebench",
    ("test*.jsonl", "*.jsonl", "*.parquet"),
    "livecodebench/code_generation_lite, test.jsonl to test6.jsonl",
)
MAX_BYTES = 1 << 29  # of one problem's tests, unpacked
accuracy = code.Accuracy()


def problems(
    source: published.Source,
    found: Sequence[published.Record],
    *,
    first: str = "2024-08-01",
    last: str = "2025-01-31",
) -> list[task.Prompt]:
    """Problems of contests from `first` to `last`, both included (dates "YYYY-MM-DD").

    The paper's window is the default (R1_FACTS 6.1). reference: {"tests": [{"input", "output",
    "kind"}], "function": name or null}; kind is "stdin" (whole program) or "functional" (inputs are
    JSON values, one a line). Public tests come first, then the private ones. Raises ValueError for
    tests that are no list, and where the window holds no problem.
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
        metadata = json.loads(record.get("metadata") or "{}")
        function = metadata.get("func_name")
        question = published.field(record, ("question_content",), source, index).strip()
        starter = (record.get("starter_code") or "").strip()
        reference = json.dumps({"tests": tests, "function": function})
        prompts.append(task.Prompt(len(prompts), _question(question, starter), reference))
    if not prompts:
        raise ValueError(
            f"{source.name}: none of {len(found)} records is of a contest from {first} to {last}"
        )
    return prompts


def ideal(prompt: task.Prompt) -> str:
    """Raises ValueError: no solutions are published."""
    raise ValueError(f"{SOURCE.name} has no worked program for problem {prompt.uid}")


def vote(answer: str | None) -> str | None:
    """The program itself: two that are written differently are two answers."""
    return code.program(answer)


def _question(question: str, starter: str) -> str:
    if starter:
        form = f"Complete this code:\n```python\n{starter}\n```"
    else:
        form = "The program reads standard input and writes standard output."
    return (
        f"{question}\n\nWrite a Python program that solves this problem. {form}\n"
        "Give the whole program in one ```python block."
    )


def _tests(field: Any) -> list[dict[str, str]]:
    """Tests as published: a list, its JSON, or base64 of zlib of a pickle of that JSON."""
    if isinstance(field, str) and field.lstrip()[:1] != "[":
        field = _unpacked(field)
    tests = json.loads(field) if isinstance(field, str) else field
    if not isinstance(tests, list):
        raise ValueError("the tests are no list")
    return [
        {"input": test["input"], "output": test["output"], "kind": test["testtype"]}
        for test in tests
    ]


def _unpacked(packed: str) -> str:
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(packed, validate=True), MAX_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"more than {MAX_BYTES} bytes of tests")
        text = _TextUnpickler(io.BytesIO(content)).load()
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"neither JSON nor packed tests ({error})") from error
    if not isinstance(text, str):
        raise ValueError(f"the packed tests are a {type(text).__name__}, not text")
    return text


class _TextUnpickler(pickle.Unpickler):
    """Reads plain values only: a pickle that names a class or a function could run anything."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"names {module_name}.{global_name}")
