"""Configuration -> Task: the one table of tasks."""

import dataclasses
import difflib
import hashlib
import pathlib

from r1_jax.data import sources
from r1_jax.data.tasks import arithmetic as arithmetic_task
from r1_jax.data.tasks import code as code_task
from r1_jax.data.tasks import countdown as countdown_task
from r1_jax.data.tasks import general as general_task
from r1_jax.data.tasks import mixture, task
from r1_jax.data.tasks import reasoning_gym as reasoning_gym_task
from r1_jax.rewards import code as code_reward


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Which problems to learn and to be judged on; bounds are inclusive."""

    name: str = "countdown"  # a key of TASKS
    data_dir: str = "~/.cache/r1_jax/data"  # problems are prepared here on first use
    # countdown and arithmetic: how many numbers from where, and the bounds of target or value
    num_numbers: int = 3
    min_number: int = 1
    max_number: int = 20
    min_target: int = 10
    max_target: int = 99
    # problems per split (not of general, whose list is fixed); about 12,000 countdown problems have
    # the bounds above
    num_train: int = 8192
    num_validation: int = 1024
    num_test: int = 1024
    languages: tuple[str, ...] = ("en",)  # countdown: of the questions, in turn; "en", "zh"
    shares: tuple[int, int] = (3, 1)  # scenarios: countdown's and general's prompts of every four
    # reasoning_gym: which of its data sets, such as "gsm_symbolic"; code: your file of problems
    dataset: str = ""
    seed: int = 0  # another seed draws other problems; none ever changes its split

    @property
    def sizes(self) -> dict[str, int]:
        """Problems per split."""
        return {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}

    @property
    def difficulty(self) -> countdown_task.Difficulty:
        """The bounds of countdown and arithmetic."""
        return countdown_task.Difficulty(
            self.num_numbers, self.min_number, self.max_number, self.min_target, self.max_target
        )


def countdown(config: TaskConfig) -> task.Task:
    """Reach a target from given numbers."""
    difficulty = config.difficulty
    settings = {**dataclasses.asdict(difficulty), **config.sizes, "seed": config.seed}
    if config.languages != ("en",):
        settings["languages"] = config.languages
    splits = sources.open_or_prepare(
        "countdown",
        settings,
        config.data_dir,
        lambda: countdown_task.problems(difficulty, config.sizes, config.seed, config.languages),
    )
    return task.Task(
        name="countdown",
        splits=splits,
        accuracy=countdown_task.accuracy,
        ideal=countdown_task.ideal,
        vote=countdown_task.vote,
        markers=countdown_task.MARKERS,
    )


def arithmetic(config: TaskConfig) -> task.Task:
    """The value of a short expression."""
    difficulty = config.difficulty
    settings = {**dataclasses.asdict(difficulty), **config.sizes, "seed": config.seed}
    splits = sources.open_or_prepare(
        "arithmetic",
        settings,
        config.data_dir,
        lambda: arithmetic_task.problems(difficulty, config.sizes, config.seed),
    )
    return task.Task(
        name="arithmetic",
        splits=splits,
        accuracy=arithmetic_task.accuracy,
        ideal=arithmetic_task.ideal,
        vote=arithmetic_task.vote,
        markers=arithmetic_task.MARKERS,
    )


def reasoning_gym(config: TaskConfig) -> task.Task:
    """A data set of the reasoning-gym package."""
    if not config.dataset:
        raise ValueError(
            "dataset='' names no data set of reasoning-gym; set it, for example to 'gsm_symbolic'"
        )
    settings = {
        "dataset": config.dataset,
        "version": reasoning_gym_task.version(),
        **config.sizes,
        "seed": config.seed,
    }
    splits = sources.open_or_prepare(
        "reasoning_gym",
        settings,
        config.data_dir,
        lambda: reasoning_gym_task.problems(config.dataset, config.sizes, config.seed),
    )
    size = reasoning_gym_task.num_candidates(config.sizes)
    return task.Task(
        name=f"reasoning_gym/{config.dataset}",
        splits=splits,
        accuracy=reasoning_gym_task.Verifier(config.dataset, config.seed, size),
        ideal=reasoning_gym_task.ideal,
        vote=reasoning_gym_task.vote,
        markers=reasoning_gym_task.MARKERS,
    )


def general(config: TaskConfig) -> task.Task:
    """Facts, translation, self-cognition, writing."""
    splits = sources.open_or_prepare(
        "general",
        {"items": general_task.items(), "seed": config.seed},
        config.data_dir,
        lambda: general_task.problems(config.seed),
    )
    return task.Task(
        name="general",
        splits=splits,
        accuracy=general_task.accuracy,
        ideal=general_task.ideal,
        vote=general_task.vote,
        markers=general_task.MARKERS,
        is_general=lambda prompt: True,
    )


def scenarios(config: TaskConfig) -> task.Task:
    """Countdown and general requests together (R1's last stage)."""
    return mixture.mix([countdown(config), general(config)], config.shares)


def code(config: TaskConfig) -> task.Task:
    """Problems of a file that are solved by programs."""
    path = pathlib.Path(config.dataset).expanduser()
    if not path.is_file():
        raise ValueError(
            f"dataset={config.dataset!r} is no file; name=code reads its problems from one, a line "
            "of JSON each (data/tasks/code.py says how)"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    splits = sources.open_or_prepare(
        "code",
        {"file": digest, **config.sizes, "seed": config.seed},
        config.data_dir,
        lambda: code_task.problems(code_task.read(path), config.sizes, config.seed),
    )
    return task.Task(
        name=f"code/{path.stem}",
        splits=splits,
        accuracy=code_reward.Accuracy(),
        ideal=code_task.ideal,
        vote=code_task.vote,
        markers=code_task.MARKERS,
    )


TASKS = {
    "countdown": countdown,
    "arithmetic": arithmetic,
    "reasoning_gym": reasoning_gym,
    "general": general,
    "scenarios": scenarios,
    "code": code,
}
WITH_DATASET = ("reasoning_gym", "code")


def load(config: TaskConfig) -> task.Task:
    """The task of `config`, its problems prepared on first use under config.data_dir.

    Raises ValueError for an unknown name, an empty split, bounds within which there are not
    enough distinct problems, and a `dataset` that no task will read.
    """
    if config.name not in TASKS:
        near = difflib.get_close_matches(config.name, TASKS, n=1, cutoff=0)[0]
        raise ValueError(
            f"name={config.name!r} is no task; did you mean {near!r}? "
            f"There are {', '.join(sorted(TASKS))}"
        )
    if config.dataset and config.name not in WITH_DATASET:
        raise ValueError(
            f"dataset={config.dataset!r} is only read by name='reasoning_gym' and name='code', not "
            f"by name={config.name!r}; set the one or clear the other"
        )
    unknown = [name for name in config.languages if name not in countdown_task.QUESTIONS]
    if unknown or not config.languages:
        raise ValueError(
            f"languages={config.languages} must be some of {', '.join(countdown_task.QUESTIONS)}"
        )
    if not config.data_dir:
        raise ValueError("data_dir='' names no folder; '.' is the working directory")
    for split, size in config.sizes.items():
        if size < 1:
            raise ValueError(f"num_{split}={size}: every split needs at least one problem")
    return TASKS[config.name](config)
