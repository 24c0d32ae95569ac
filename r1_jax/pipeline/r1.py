"""DeepSeek-R1, the whole road: R1-Zero, four stages, distillation. A list of stages."""

import dataclasses
import pathlib
from typing import Literal

from r1_jax.data import selection
from r1_jax.pipeline import (
    base,
    cold_start,
    experiment,
    policy,
    preference_pairs,
    r1_zero,
    rejection_sampling,
    reward_models,
    sft,
    stage,
    standing,
)
from r1_jax.sampling import logits


@dataclasses.dataclass(frozen=True)
class R1Config:
    """Every stage's configuration. `base` of an experiment is filled in by the road."""

    base: experiment.ExperimentConfig  # the base model, made from nothing
    r1_zero: experiment.ExperimentConfig  # RL on the base, rule rewards alone
    cold_start: selection.SelectionConfig  # samples of `cold_start_from`, chosen and rewritten
    dev1: experiment.ExperimentConfig  # fine-tuning of the base on them
    dev2: experiment.ExperimentConfig  # RL with the language-consistency reward
    rejection_sampling: selection.SelectionConfig  # Dev2's samples, chosen
    dev3: experiment.ExperimentConfig  # fine-tuning of the base again, on them and general data
    preferences: preference_pairs.PairsConfig  # Dev3's answers to general requests, judged
    reward_model: experiment.ExperimentConfig  # learnt from them, from Dev3 on
    r1: experiment.ExperimentConfig  # RL over all scenarios
    student_base: experiment.ExperimentConfig  # a smaller base
    student: experiment.ExperimentConfig  # its fine-tuning on Dev3's data: distillation
    student_rl: experiment.ExperimentConfig  # RL on the same small base, for comparison
    cold_start_from: Literal["r1_zero", "base"] = "r1_zero"  # the base wants cold_start.examples
    general_repeat: int = 1  # times that the general requests stand in Dev3's data
    standing: logits.SamplingConfig = dataclasses.field(  # of the last table: the paper's (v1 3)
        default_factory=lambda: logits.SamplingConfig(temperature=0.6, top_p=0.95)
    )
    seed: int = 0  # of every stage but the bases, in the place of its own


def stages(config: R1Config, workdir: pathlib.Path) -> list[stage.Stage]:
    """The road in workdir, in order; each stage starts from the files of its parents."""

    def start(
        given: experiment.ExperimentConfig, weights: pathlib.Path
    ) -> experiment.ExperimentConfig:
        return dataclasses.replace(given, base=str(weights.absolute()), seed=config.seed)

    def reinforced(name: str, given: experiment.ExperimentConfig, weights: pathlib.Path):
        r1_zero.run(start(given, weights), workdir / name)
        return policy.export(workdir / name, workdir / name / sft.WEIGHTS)

    def out(name: str) -> pathlib.Path:
        return workdir / name / sft.WEIGHTS

    def asked_generally(given: experiment.ExperimentConfig, weights: pathlib.Path):
        general = dataclasses.replace(given.task, name="general")
        return start(dataclasses.replace(given, task=general), weights)

    def judged(given: experiment.ExperimentConfig, weights: pathlib.Path):
        general = dataclasses.replace(given.general_reward, path=str(weights.absolute()))
        return dataclasses.replace(given, general_reward=general)

    base_weights = base.weights_of(config.base, workdir / "base")
    small_weights = base.weights_of(config.student_base, workdir / "student_base")
    sources = {"r1_zero": out("r1_zero"), "base": base_weights}
    first_data = workdir / "cold_start" / cold_start.DATA
    second_data = workdir / "rejection_sampling" / cold_start.DATA
    pairs = workdir / "preferences" / preference_pairs.PAIRS
    reward_model = workdir / "reward_model" / reward_models.WEIGHTS
    models = {
        "R1-Zero": (config.r1_zero, out("r1_zero")),
        "Dev1": (config.dev1, out("dev1")),
        "Dev2": (config.dev2, out("dev2")),
        "Dev3": (config.dev3, out("dev3")),
        "R1": (config.r1, out("r1")),
        "distilled student": (config.student, out("student")),
        "RL on the student": (config.student_rl, out("student_rl")),
    }
    return [
        stage.Stage("base", (), lambda: base.run(config.base, workdir / "base")),
        stage.Stage(
            "r1_zero", ("base",), lambda: reinforced("r1_zero", config.r1_zero, base_weights)
        ),
        stage.Stage(
            "cold_start",
            (config.cold_start_from,),
            lambda: cold_start.run(
                start(config.r1_zero, sources[config.cold_start_from]),
                config.cold_start,
                workdir / "cold_start",
            ),
        ),
        stage.Stage(
            "dev1",
            ("base", "cold_start"),
            lambda: sft.run(start(config.dev1, base_weights), first_data, workdir / "dev1"),
        ),
        stage.Stage("dev2", ("dev1",), lambda: reinforced("dev2", config.dev2, out("dev1"))),
        stage.Stage(
            "rejection_sampling",
            ("dev2",),
            lambda: rejection_sampling.run(
                start(config.dev2, out("dev2")),
                config.rejection_sampling,
                workdir / "rejection_sampling",
                general=dataclasses.replace(config.r1.task, name="general"),
                repeat=config.general_repeat,
            ),
        ),
        stage.Stage(
            "dev3",
            ("base", "rejection_sampling"),
            lambda: sft.run(start(config.dev3, base_weights), second_data, workdir / "dev3"),
        ),
        stage.Stage(
            "preferences",
            ("dev3",),
            lambda: preference_pairs.run(
                asked_generally(config.r1, out("dev3")), config.preferences, workdir / "preferences"
            ),
        ),
        stage.Stage(
            "reward_model",
            ("dev3", "preferences"),
            lambda: reward_models.run(
                start(config.reward_model, out("dev3")), workdir / "reward_model", pairs
            ),
        ),
        stage.Stage(
            "r1",
            ("dev3", "reward_model"),
            lambda: reinforced("r1", judged(config.r1, reward_model), out("dev3")),
        ),
        stage.Stage(
            "student_base", (), lambda: base.run(config.student_base, workdir / "student_base")
        ),
        stage.Stage(
            "student",
            ("student_base", "rejection_sampling"),
            lambda: sft.run(start(config.student, small_weights), second_data, workdir / "student"),
        ),
        stage.Stage(
            "student_rl",
            ("student_base",),
            lambda: reinforced("student_rl", config.student_rl, small_weights),
        ),
        stage.Stage(
            "standing",
            ("r1_zero", "dev1", "dev2", "dev3", "r1", "student", "student_rl"),
            lambda: standing.run(models, config.standing, workdir / "standing"),
        ),
    ]
