"""The sandbox of a run: whether its task runs programs, at which level, and if that is enough."""

import dataclasses
from typing import NamedTuple

from r1_jax.data.tasks import task as tasks
from r1_jax.rewards import code, pool, sandbox


class Equipped(NamedTuple):
    """A task ready to be graded."""

    task: tasks.Task
    graders: pool.GraderConfig
    level: sandbox.Level | None  # that programs are held at; None for a task without programs


def equip(task: tasks.Task, config: sandbox.SandboxConfig, graders: pool.GraderConfig) -> Equipped:
    """`task` with its programs, if it runs any, under `config`, in graders that may start them.

    Raises ValueError where this machine's level is below config.require, and for a deadline of
    graders that would pass before a program's time is up.
    """
    accuracy = task.accuracy
    if not isinstance(accuracy, code.Accuracy):
        return Equipped(task, graders, None)
    if graders.deadline_seconds < config.total_seconds + 1:
        raise ValueError(
            f"graders.deadline_seconds={graders.deadline_seconds} must be at least 1 more than "
            f"sandbox.total_seconds={config.total_seconds}: a program that is too slow is wrong, a "
            "grader that is too slow has failed"
        )
    return Equipped(
        dataclasses.replace(task, accuracy=dataclasses.replace(accuracy, config=config)),
        dataclasses.replace(graders, processes=True),
        sandbox.require(config),
    )


def refuse_unread(equipped: Equipped, config: sandbox.SandboxConfig) -> None:
    """Raises ValueError for a sandbox that is configured, though the task runs no programs."""
    if equipped.level is not None:
        return
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            raise ValueError(
                f"sandbox.{field.name}={value} would change nothing: the task "
                f"{equipped.task.name} runs no programs; leave it out"
            )
