"""Preference pairs, the stage: two answers of a policy to a general request, judged.

What the helpful reward model of R1's last stage learns from (v2 3.2.3).
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from r1_jax.checkpoints import atomic
from r1_jax.data import preferences
from r1_jax.pipeline import cold_start, experiment, preference_data, sampled
from r1_jax.rewards import judge

PAIRS = "pairs.jsonl"


@dataclasses.dataclass(frozen=True)
class PairsConfig:
    """How many answers are drawn, and who judges them."""

    num_prompts: int = 256  # general requests of the train split, in order
    num_samples: int = 4  # a request; first and second, third and fourth are pairs
    temperature: float = 1.0  # of the sampling: two answers that are the same tell nothing
    judge: str = ""  # "module:function" of (question, first, second), a number in [-2, 2]

    def __post_init__(self):
        if self.num_prompts < 1 or self.num_samples < 2 or self.num_samples % 2:
            raise ValueError(
                f"num_prompts={self.num_prompts} must be at least 1 and num_samples="
                f"{self.num_samples} an even number: answers are judged in pairs"
            )


def run(
    config: experiment.ExperimentConfig, choice: PairsConfig, workdir: str | pathlib.Path
) -> pathlib.Path:
    """Samples config.base on config.task, has pairs judged; returns WORKDIR/pairs.jsonl.

    Raises ValueError when no pair was kept, naming what became of them.
    """
    workdir = pathlib.Path(workdir)
    path = workdir / PAIRS
    if not path.exists():
        sampling = dataclasses.replace(config.sampling, temperature=choice.temperature)
        config = dataclasses.replace(config, sampling=sampling)
        rows = sampled.draw(
            config, workdir, num_prompts=choice.num_prompts, num_samples=choice.num_samples
        )
        preferences.write(workdir / "candidates.jsonl", list(paired(rows)))
        part = workdir / f"{PAIRS}.part"
        stats = preference_data.collect(
            config, workdir / "candidates.jsonl", judge.named(better=choice.judge), part
        )
        if not stats["counts"]["kept"]:
            raise ValueError(f"{workdir}: no pair was kept ({stats['counts']}); draw more")
        fate = json.dumps(stats["counts"], indent=2) + "\n"
        atomic.write(workdir / cold_start.FATE, fate.encode())
        part.rename(path)  # last: with the pairs the stage is done
    return path


def paired(rows: Iterable[dict[str, Any]]) -> Iterator[preferences.Candidate]:
    """Samples 2k and 2k + 1 of every prompt against each other."""
    first: dict[str, Any] = {}
    for row in rows:
        if row["sample"] % 2 == 0:
            first = row
        elif first and first["uid"] == row["uid"]:
            yield preferences.Candidate(
                row["uid"],
                row["question"],
                first["completion"],
                row["completion"],
                row["sample"] // 2,
            )
