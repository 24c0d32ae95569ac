"""Problems to be solved by a program, from a file of your own; the tests are the reward.

A line of JSON each: {"question": text, "tests": tests in a form of rewards.code, "program": one
that passes them}, for example

    {"question": "Print the sum of the two integers on the first line.",
     "tests": {"stdin": [{"input": "1 2\\n", "output": "3"}]},
     "program": "print(sum(map(int, input().split())))"}
"""

import json
import pathlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

from r1_jax.data.tasks import task
from r1_jax.rewards import code, sandbox, verdict

MARKERS = ()


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of the file. Raises ValueError, naming the line, where one is no JSON object."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number} is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number} is not a JSON object")
        records.append(record)
    return records


def problems(
    records: list[dict[str, Any]], sizes: Mapping[str, int], seed: int
) -> dict[str, list[task.Prompt]]:
    """Distinct questions for every split, in an order that `seed` decides.

    Raises ValueError for a record of another form or without tests, and if there are too few.
    """
    prompts = [_prompt(index, record) for index, record in enumerate(records)]
    random.Random(seed).shuffle(prompts)

    def candidates() -> Iterator[tuple[str, task.Prompt]]:
        for prompt in prompts:
            yield " ".join(prompt.question.split()), prompt

    return task.fill(candidates(), sizes, "ask for fewer, or put more into the file")


def ideal(prompt: task.Prompt) -> str:
    """The program that came with the problem."""
    return f"```python\n{json.loads(prompt.reference)['program']}\n```"


def vote(answer: str | None) -> str | None:
    """The program itself: two that are written differently are two answers."""
    return code.program(answer)


def _prompt(index: int, record: dict[str, Any]) -> task.Prompt:
    question, tests, program = (record.get(name) for name in ("question", "tests", "program"))
    if not (isinstance(question, str) and isinstance(tests, dict) and isinstance(program, str)):
        raise ValueError(
            f"record {index} needs a question and a program (text) and tests (an object), but has "
            f"{', '.join(record)}"
        )
    reference = json.dumps(tests | {"program": program})
    # Nothing is run: a missing answer has not been parsed, unless there is no test to begin with.
    if code.judge(None, reference, sandbox.SandboxConfig()) == verdict.BAD_REFERENCE:
        raise ValueError(f"record {index}: its tests are of no form that rewards/code.py reads")
    return task.Prompt(0, question, reference)
