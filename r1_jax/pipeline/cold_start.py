"""Cold-start data, the stage (DeepSeek-R1 2.3.1, v2 B.3.2).

A policy is sampled at temperature 1, R1-Zero as it is or a base behind worked examples (v1:
few-shot prompting with long chains). Right answers are rewritten into the asked pattern (thinking
in the question's language, a summary with the answer in a box); what is not readable is dropped.
"""

import json
import pathlib

from r1_jax.checkpoints import atomic
from r1_jax.data import demonstrations, selection
from r1_jax.pipeline import experiment, sampled

DATA, FATE = "data.jsonl", "fate.json"  # demonstrations; what became of every sample


def run(
    config: experiment.ExperimentConfig,
    choice: selection.SelectionConfig,
    workdir: str | pathlib.Path,
) -> pathlib.Path:
    """Samples config.base, selects, and writes WORKDIR/data.jsonl, whose path is returned."""
    workdir = pathlib.Path(workdir)
    path = workdir / DATA
    if not path.exists():
        rows = sampled.draw(
            config,
            workdir,
            num_prompts=choice.num_prompts,
            num_samples=choice.num_samples,
            examples=choice.shown(),
        )
        kept, fate = selection.select(rows, choice, config.tags, "cold_start")
        finish(workdir, kept, fate)
    return path


def finish(
    workdir: pathlib.Path, kept: list[demonstrations.Demonstration], fate: dict[str, int]
) -> None:
    """Writes the statistics, then the data, for tfds and as JSON lines: with these it is done.

    Raises ValueError when nothing was kept, naming what became of the samples.
    """
    if not kept:
        raise ValueError(
            f"{workdir}: no sample was kept ({fate}); draw more, or loosen the filters"
        )
    atomic.write(workdir / FATE, (json.dumps(fate, indent=2) + "\n").encode())
    demonstrations.prepare(workdir, kept)
    demonstrations.write(workdir / DATA, kept)
