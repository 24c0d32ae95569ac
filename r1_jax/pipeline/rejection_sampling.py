"""Rejection sampling and the second fine-tuning's data, the stage (DeepSeek-R1 2.3.3).

The reasoning checkpoint is sampled, right and readable answers are kept, and non-reasoning
demonstrations join them; the *base* is then fine-tuned on both.
"""

import pathlib

from r1_jax.data import demonstrations, selection
from r1_jax.data.tasks import load
from r1_jax.data.tasks import task as tasks
from r1_jax.pipeline import cold_start, experiment, sampled
from r1_jax.text import chat


def run(
    config: experiment.ExperimentConfig,
    choice: selection.SelectionConfig,
    workdir: str | pathlib.Path,
    *,
    general: load.TaskConfig | None,
    repeat: int = 1,
) -> pathlib.Path:
    """Samples config.base, selects, adds `general`'s train split `repeat` times.

    Returns WORKDIR/data.jsonl. general: the task whose own answers are the non-reasoning data; None
    adds nothing.
    """
    workdir = pathlib.Path(workdir)
    path = workdir / cold_start.DATA
    if not path.exists():
        rows = sampled.draw(
            config,
            workdir,
            num_prompts=choice.num_prompts,
            num_samples=choice.num_samples,
            examples=choice.shown(),
        )
        asked = load.load(config.task).splits["train"] if choice.judge else ()
        references = {prompt.uid: prompt.reference for prompt in asked}
        kept, fate = selection.select(rows, choice, config.tags, "rejection_sampling", references)
        others = [] if general is None else non_reasoning(load.load(general), config.tags)
        cold_start.finish(workdir, kept + others * repeat, fate | {"general": len(others) * repeat})
    return path


def non_reasoning(task: tasks.Task, tags: chat.Tags) -> list[demonstrations.Demonstration]:
    """The train split with the task's own answers: every other one thinks, in a sentence, first.

    The paper has a chain written for some requests and none for simple ones.
    """
    found = []
    for i, prompt in enumerate(task.splits["train"]):
        answer = task.ideal(prompt)
        thought = f"I am asked: {prompt.question}" if i % 2 else ""
        completion = chat.completion(thought, answer, tags)
        found.append(
            demonstrations.Demonstration(prompt.uid, prompt.question, completion, task.name)
        )
    return found
