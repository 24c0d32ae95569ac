"""Name -> published benchmark as a Task: the one table of those that can be scored here."""

import dataclasses
import difflib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from r1_jax.data.tasks import choice, ifeval, livecodebench, mathematics, published, task


class Benchmark(NamedTuple):
    """A published test set; its Task has the split "test" alone."""

    task: task.Task
    num_left_out: int  # records that cannot be graded here


@dataclasses.dataclass(frozen=True)
class _Kind:
    source: published.Source
    problems: Callable[..., Any]  # (source, records) -> prompts
    grader: Any  # the module with accuracy, ideal and vote
    equal: Callable[[str, str], bool] | None = None


BENCHMARKS = {
    kind.source.name: kind
    for kind in (
        _Kind(mathematics.AIME_2024, mathematics.aime, mathematics, mathematics.equal),
        _Kind(mathematics.AIME_2025, mathematics.aime, mathematics, mathematics.equal),
        _Kind(mathematics.MATH_500, mathematics.math_500, mathematics, mathematics.equal),
        _Kind(mathematics.GSM8K, mathematics.gsm8k, mathematics, mathematics.equal),
        _Kind(choice.GPQA_DIAMOND, choice.gpqa, choice),
        _Kind(choice.MMLU, choice.mmlu, choice),
        _Kind(ifeval.SOURCE, ifeval.problems, ifeval),
        _Kind(livecodebench.SOURCE, livecodebench.problems, livecodebench),
    )
}


def load(name: str, data_dir: str | pathlib.Path) -> Benchmark:
    """The benchmark `name`, read from the folder data_dir/name.

    Raises ValueError for an unknown name, for files that are absent (naming them, and what they are
    published as) or no records of this benchmark.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0)[0]
        raise ValueError(
            f"{name!r} is no benchmark; did you mean {near!r}? There are "
            f"{', '.join(sorted(BENCHMARKS))}"
        )
    kind = BENCHMARKS[name]
    folder = pathlib.Path(data_dir).expanduser() / name
    found = kind.problems(kind.source, published.records(kind.source, folder))
    prompts, num_left_out = found if isinstance(found, tuple) else (found, 0)
    if not prompts:
        raise ValueError(f"{name}: none of the {num_left_out} records under {folder} can be graded")
    grader = kind.grader
    made = task.Task(
        name=name,
        splits={"test": prompts},
        accuracy=grader.accuracy,
        ideal=grader.ideal,
        vote=grader.vote,
        markers=(),
        equal=kind.equal,
    )
    return Benchmark(made, num_left_out)
