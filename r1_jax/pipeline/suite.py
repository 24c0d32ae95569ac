"""A suite of benchmarks on a run's policy, and stored completions scored again without one."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from r1_jax.core import build, keys, types
from r1_jax.data.tasks import benchmarks, load
from r1_jax.data.tasks import task as tasks
from r1_jax.evaluation import contamination
from r1_jax.evaluation import run as evaluation
from r1_jax.metrics import clock as metrics_clock
from r1_jax.metrics import jsonl
from r1_jax.pipeline import assemble, experiment, policy, programs, r1_zero
from r1_jax.pipeline import score as scoring
from r1_jax.rewards import sandbox
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place


@dataclasses.dataclass(frozen=True)
class EntryConfig:
    """One test set of a suite. task: one of our own tasks; without it, a published benchmark."""

    num_samples: int = 16
    ks: tuple[int, ...] = ()  # pass@k and cons@k beside pass@1
    num_problems: int = 0  # the first so many; 0: all
    task: load.TaskConfig | None = None
    deadline_seconds: float = (
        0.0  # wall clock of one grading; 0: the run's graders.deadline_seconds
    )

    def __post_init__(self):
        if self.num_samples < 1 or self.num_problems < 0:
            raise ValueError(
                f"num_samples={self.num_samples}, num_problems={self.num_problems}: samples must "
                "be >= 1 and problems >= 0"
            )
        if not 0 <= self.deadline_seconds < math.inf:
            raise ValueError(f"deadline_seconds={self.deadline_seconds} must be finite and >= 0")
        for k in self.ks:
            if not 1 <= k <= self.num_samples:
                raise ValueError(
                    f"ks={self.ks}: each must lie in 1..num_samples={self.num_samples}"
                )


@dataclasses.dataclass(frozen=True)
class SuiteConfig:
    """Test sets by name and how they are sampled: DeepSeek-R1's protocol (R1_FACTS 6.1).

    contamination: 10-gram overlap of the test questions with the training questions of the run is
    put into the row ("report"), is an error before anything is sampled ("refuse"), or is not looked
    for ("off"). What the base model has read before is not known here. The task that a run was
    trained on is not compared: its splits are disjoint by construction, and its wording is shared.
    """

    entries: Mapping[str, EntryConfig] = dataclasses.field(default_factory=dict)
    data_dir: str = "benchmarks"  # holds a folder of published files for each benchmark
    sampling: sampling_logits.SamplingConfig = dataclasses.field(
        default_factory=partial(sampling_logits.SamplingConfig, temperature=0.6, top_p=0.95)
    )
    # where answers that are programs run
    programs: sandbox.SandboxConfig = dataclasses.field(default_factory=sandbox.SandboxConfig)
    max_prompt: int = 2048  # tokens
    max_response: int = 32_768  # tokens
    batch_size: int = 16  # problems sampled at one time
    seed: int = 0
    contamination: Literal["off", "report", "refuse"] = "report"

    def __post_init__(self):
        if not self.entries:
            raise ValueError("entries is empty: name at least one benchmark or task")
        for name in ("max_prompt", "max_response", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


class Scored(NamedTuple):
    """One entry's result."""

    name: str
    row: dict[str, Any]
    samples: list[dict[str, Any]]


class Opened(NamedTuple):
    """The problems of an entry."""

    task: tasks.Task
    problems: list[tasks.Prompt]
    num_left_out: int


def open_entry(name: str, entry: EntryConfig, suite: SuiteConfig) -> Opened:
    """The problems of one entry, read or prepared. Raises ValueError for what is not there."""
    if entry.task is None:
        task, num_left_out = benchmarks.load(name, suite.data_dir, suite.programs)
    else:
        task, num_left_out = load.load(entry.task), 0
    held_out = task.splits["test"]
    num = entry.num_problems or len(held_out)
    if num > len(held_out):
        raise ValueError(
            f"{name}.num_problems={num}, but there are {len(held_out)}; 0 takes all of them"
        )
    return Opened(task, [held_out[i] for i in range(num)], num_left_out)


def overlaps(
    config: experiment.ExperimentConfig, suite: SuiteConfig, opened: Mapping[str, Opened]
) -> dict[str, contamination.Overlap | None]:
    """Every entry's overlap with the questions that the run was trained on; None: not compared.

    Raises ValueError under contamination="refuse" if there is any.
    """
    if suite.contamination == "off":
        return dict.fromkeys(opened)
    trained_on = load.load(config.task)
    found: dict[str, contamination.Overlap | None] = {}
    for name, (task, problems, _) in opened.items():
        if task.name == trained_on.name:
            found[name] = None
            continue
        split = trained_on.splits["train"]
        train = (split[i].question for i in range(len(split)))
        overlap = contamination.overlap(train, [problem.question for problem in problems])
        if overlap.found and suite.contamination == "refuse":
            index, words = overlap.found[0]
            raise ValueError(
                f"{name}: {len(overlap.found)} of {overlap.num_test} test questions share "
                f"{contamination.NUM_WORDS} words in a row with training questions of "
                f"{trained_on.name} (problem {problems[index].uid}: {words!r}); train on others, "
                "or set contamination=report"
            )
        found[name] = overlap
    return found


def evaluate(
    run: str | pathlib.Path,
    config: experiment.ExperimentConfig,
    suite: SuiteConfig,
    step: int | None,
) -> Iterator[Scored]:
    """Every entry's row and completions, each as soon as it is done.

    config: the run's own. All files are opened and compared before anything is sampled. A row is as
    in eval.jsonl, with `step`, the suite's `seed` and sampling, pass@k and cons@k of the entry's ks
    with intervals, `num_left_out` and `contamination/share` (null: not compared).
    """
    opened = {name: open_entry(name, entry, suite) for name, entry in suite.entries.items()}
    equipped = {
        name: _equip(opened[name].task, config, suite, entry)
        for name, entry in suite.entries.items()
    }
    overlap = overlaps(config, suite, opened)
    stage, params, step = policy.restore(run, config, step)
    for name, entry in suite.entries.items():
        _, problems, num_left_out = opened[name]
        sample = _sampler(config, suite, entry, stage, params, step, name)
        with _scorer(equipped[name], config, stage.tokens) as scorer, meshes.activate(stage.mesh):
            row, samples = evaluation.evaluate(
                problems,
                sample,
                partial(scorer.judge, step=step),
                task=name,
                num_samples=entry.num_samples,
                batch_size=suite.batch_size,
                compare=scorer.compare,
                ks=entry.ks or (1,),
            )
        found = overlap[name]
        about = {
            "step": step,
            "seed": suite.seed,
            "max_response": suite.max_response,
            "num_left_out": num_left_out,
            "contamination/share": None if found is None else found.share,
        }
        if equipped[name].level is not None:
            about["sandbox"] = equipped[name].level
        about |= {f"sampling/{k}": v for k, v in build.to_dict(suite.sampling).items()}
        yield Scored(name, about | row, samples)


def _equip(
    task: tasks.Task,
    config: experiment.ExperimentConfig,
    suite: SuiteConfig | None,
    entry: EntryConfig | None,
) -> programs.Equipped:
    graders = config.graders
    if entry is not None and entry.deadline_seconds:
        graders = dataclasses.replace(graders, deadline_seconds=entry.deadline_seconds)
    return programs.equip(task, config.sandbox if suite is None else suite.programs, graders)


def _scorer(equipped: programs.Equipped, config, tokens) -> scoring.Scorer:
    return scoring.Scorer(
        equipped.task,
        config.reward,
        tokens,
        config.tags,
        seed=config.seed,
        clock=metrics_clock.Clock(),
        graders=equipped.graders,
    )


def _sampler(config, suite, entry, stage, params, step, name) -> Callable[..., types.Rollouts]:
    grpo = dataclasses.replace(
        config.grpo,
        max_prompt=suite.max_prompt,
        max_response=suite.max_response,
        response_schedule=(),
    )
    config = dataclasses.replace(config, sampling=suite.sampling, grpo=grpo)
    generate = assemble.make_generate(config, stage.mesh, stage.tokens, entry.num_samples)
    key = keys.at(keys.at(keys.root(suite.seed), "suite", step), name)
    ways = stage.mesh.size
    size = -(-suite.batch_size // ways) * ways  # one shape that splits over any mesh

    def sample(problems: Sequence[tasks.Prompt]) -> types.Rollouts:
        padded = [*problems, *[problems[0]] * (size - len(problems))]
        batch = r1_zero.encode(config, stage.tokens, padded)
        rollouts = place.to_host(generate(params, batch, key, step, suite.max_response))
        rows = len(problems) * entry.num_samples
        return jax.tree.map(lambda x: x[:rows] if np.ndim(x) else x, rollouts)

    return sample


class _StoredTexts:
    """A decoder of which every stored completion is one token: it gives each back whole."""

    def __init__(self, texts: Sequence[str]):
        self._texts = texts

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self._texts[i] for i in ids)


def regrade(
    path: str | pathlib.Path, change: Callable[[Mapping[str, Any]], Any] = lambda mapping: mapping
) -> Scored:
    """The completions stored in `path` under the task's present grader; no model is touched.

    path: a *_samples.jsonl that evaluate wrote, with its row beside it, or a samples/eval_step_*
    file of a run. change: of the experiment's configuration, a mapping, such as another reward.
    The row holds its `config` (and `suite`), and `regraded/changed` counts the completions whose
    outcome is another one now. Raises ValueError for a file without its row or run, for problems
    that the task does not have any more or that read otherwise, and for groups of unequal sizes.
    """
    path = pathlib.Path(path)
    stored, _ = jsonl.read(path)
    if not stored:
        raise ValueError(f"{path} holds no completions")
    before, mapping, suite = _made_with(path)
    config = build.build(experiment.ExperimentConfig, change(mapping))
    name = before.get("task", config.task.name)
    if suite is None:
        entry, task = None, load.load(config.task)
    else:
        entry = suite.entries[name]
        task = open_entry(name, entry, suite).task
    split = "test" if entry else config.eval.split
    problems, num_samples = _problems(path, stored, task.splits[split])

    step = int(before.get("step", 0))
    rollouts = _as_rollouts(stored, step)
    texts = _StoredTexts([row["completion"] for row in stored])
    # All at once: nothing is padded or compiled here.
    equipped = _equip(task, config, suite, entry)
    with _scorer(equipped, config, texts) as scorer:
        row, samples = evaluation.evaluate(
            problems,
            lambda batch: rollouts,
            partial(scorer.judge, step=step),
            task=before.get("task", task.name),
            num_samples=num_samples,
            batch_size=len(problems),
            compare=scorer.compare,
            ks=(entry.ks or (1,)) if entry else (),
        )
    pairs = zip(stored, samples, strict=True)
    changed = sum(old["outcome"] != new["outcome"] for old, new in pairs)
    kept = {k: v for k, v in before.items() if k not in row}
    row = kept | row | {"regraded/changed": changed, "config": build.to_dict(config)}
    return Scored(name, row | ({"suite": build.to_dict(suite)} if suite else {}), samples)


def _made_with(
    path: pathlib.Path,
) -> tuple[dict[str, Any], dict[str, Any], SuiteConfig | None]:
    """(what is known of the row, the experiment's configuration, the suite's if it was one)."""
    beside = path.with_name(path.name.replace("_samples.jsonl", ".jsonl"))
    if beside != path and beside.is_file():
        rows, _ = jsonl.read(beside)
        (row,) = rows
        config, suite = row.pop("config"), row.pop("suite", None)
        return row, config, None if suite is None else build.build(SuiteConfig, suite)
    run = path.parent.parent
    if path.parent.name == "samples" and (run / "config.json").is_file():
        config = json.loads((run / "config.json").read_text())
        digits = path.stem.rpartition("_")[2]
        step = {"step": int(digits)} if digits.isdecimal() else {}
        return step, config, None
    raise ValueError(
        f"{path}: neither {beside.name} beside it nor a run's config.json above it says what these "
        "completions are; regrade a *_samples.jsonl of evaluate or a samples/eval_step_* of a run"
    )


def _problems(
    path: pathlib.Path, stored: Sequence[Mapping[str, Any]], split: Sequence[tasks.Prompt]
) -> tuple[list[tasks.Prompt], int]:
    """(the stored problems in order, samples of each), checked against the task as it is now."""
    by_uid = {prompt.uid: prompt for prompt in (split[i] for i in range(len(split)))}
    uids = list(dict.fromkeys(row["uid"] for row in stored))
    num_samples = len(stored) // len(uids)
    if [row["uid"] for row in stored] != [uid for uid in uids for _ in range(num_samples)]:
        raise ValueError(f"{path}: not {num_samples} completions in a row for every problem")
    for row in stored:
        prompt = by_uid.get(row["uid"])
        if prompt is None or prompt.question != row["question"]:
            raise ValueError(
                f"{path}: problem {row['uid']} ({row['question'][:60]!r}) is not in the task as it "
                "is now; its files or settings have changed since"
            )
    return [by_uid[uid] for uid in uids], num_samples


def _as_rollouts(stored: Sequence[Mapping[str, Any]], step: int) -> types.Rollouts:
    """Rollouts whose only token is a completion's index: what a scorer reads of them is true."""
    num = len(stored)

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in stored], np.int32)

    return types.Rollouts(
        np.arange(num, dtype=np.int32)[:, None],
        np.zeros(num, np.int32),
        column("length"),
        np.zeros((num, 1), np.float32),
        np.array([0 if row["stop"] == "stop" else -1 for row in stored], np.int32),
        column("uid"),
        column("sample"),
        np.int32(step),
        np.int32(num),
    )
