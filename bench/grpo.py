"""Our side of the whole GRPO step: a JSON line a step, then one on all of them.

    python -m bench.grpo S|M|1.5B [--steps=5] [--microbatches=8] [--twice=rows|length|layers]

It is `training.grpo.train` with the programs of `pipeline.assemble`, as a run has them: sample,
decode, reward, reference log-probs, one AdamW update. Left out are what a run does between steps
(logs, samples on disk, checkpoints, evaluation); the old log-probs are the sampler's own.
update_flops: FLOP/s of the update, of what the model must do (pipeline/accounts).
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable

import jax
import numpy as np

from bench import machine
from bench import work as works
from r1_jax.core import types
from r1_jax.metrics import clock as clocks
from r1_jax.metrics import compilations
from r1_jax.models import config as model_config
from r1_jax.pipeline import accounts, assemble, experiment
from r1_jax.sampling import engine
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import mesh as meshes
from r1_jax.training import grpo, optim, rollout, switches


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The tokenizer of the measurement: ids as decimal numbers, and no stop token."""

    vocab_size: int
    pad_id: int = 0
    stop_ids: tuple[int, ...] = ()
    digest: str = "numbers"

    def encode(self, text: str) -> list[int]:
        return works.ids(text)

    def decode(self, ids: Iterable[int]) -> str:
        return works.text(list(ids))


def config(
    work: works.Work, num_steps: int = 1, num_microbatches: int = 1, **sampling
) -> experiment.ExperimentConfig:
    """The experiment that does `work`. sampling: of SamplingConfig."""
    shape = {f.name: getattr(work, f.name) for f in dataclasses.fields(work)}
    names = [f.name for f in dataclasses.fields(model_config.ModelConfig)]
    return experiment.ExperimentConfig(
        model=model_config.ModelConfig(
            head_dim=work.head_dim, **{name: shape[name] for name in names if name in shape}
        ),
        optim=optim.OptimConfig(learning_rate=work.learning_rate),
        sampling=sampling_logits.SamplingConfig(**sampling),
        grpo=switches.GRPOConfig(
            num_steps=num_steps,
            prompts_per_rollout=work.num_prompts,
            group_size=work.group_size,
            num_minibatches=1,
            num_microbatches=num_microbatches,
            kl_coef=work.kl_coef,
            reference_every=0,
            gap_bound=0.05 if work.compute_dtype == "float32" else 1.0,
            truncated="soft_penalty",  # no stop token: being cut off must not be what counts
            overlong_buffer=1,
            max_prompt=work.prompt_length,
            max_response=work.response_length,
        ),
    )


def prompt_batch(work: works.Work, num: int) -> types.PromptBatch:
    """The first `num` prompts."""
    length_P = np.full(num, work.prompt_length, np.int32)
    return types.PromptBatch(works.prompts(work, num), length_P, np.arange(num, dtype=np.int32))


def score(tokens: Numbers, rollouts: types.Rollouts) -> rollout.Scored:
    """Every completion decoded, its reward taken from the text."""
    texts = engine.completions(rollouts, tokens)
    reward_B = np.array([works.reward(text) for text in texts], np.float32)
    num = len(reward_B)
    scores = types.Scores(reward_B, {}, np.zeros(num, np.int32), np.ones(num, bool))
    return rollout.Scored(scores, {"reward/mean": float(reward_B.mean())}, [{} for _ in texts])


def run(
    work: works.Work, turns: works.Turns, num_steps: int, num_microbatches: int, devices=None
) -> None:
    """A warm-up and num_steps further steps of the loop, on all devices or those given."""
    experiment_config = config(work, num_steps + 1, num_microbatches)
    tokens, mesh = Numbers(work.vocab_size), assemble.make_mesh(experiment_config.mesh, devices)
    batch, clock = prompt_batch(work, work.num_prompts), clocks.Clock()
    problems = [None] * work.num_prompts
    with meshes.activate(mesh), compilations.Counter() as counter:
        params, _ = assemble.initial_params(experiment_config, mesh, tokens)
        tx = optim.make_optimizer(experiment_config.optim, num_steps + 1)
        state, shardings = assemble.make_state(params, tx, mesh)
        reference = jax.tree.map(lambda x: x.copy(), params)
        programs = assemble.make_programs(experiment_config, mesh, tokens, tx, shardings)
        rows: list[dict] = []
        update_flops: list[float] = []

        def evaluate(params, step: int) -> None:
            if step <= num_steps:
                turns.begin()

        def save(state, reference, behind) -> None:
            jax.block_until_ready(state)
            row = rows[-1]
            check(work, row)
            names = ("loss", "gradient/norm", "kl/reference", "gap/sampler_learner_max")
            seconds = {name: row[f"seconds/{name}"] for name in ("rollout", "reference", "update")}
            speeds = accounts.speeds(experiment_config, row, peak=1.0)  # so shares are FLOP/s
            update_flops.append(speeds["speed/update_share"])
            turns.end(
                row["tokens/rollout"],
                compilations=counter.lap(),
                update_flops=update_flops[-1],
                **{name: float(row[name]) for name in (*names, "reward/mean")},
                **seconds,
            )

        hooks = grpo.Hooks(
            lambda: (problems, batch),
            lambda problems, rollouts, step: lambda: score(tokens, rollouts),
            lambda step, row, samples: rows.append(row),
            evaluate,
            save,
        )
        grpo.train(experiment_config.grpo, state, reference, programs, hooks, seed=0, clock=clock)
    turns.finish(
        loss=float(rows[-1]["loss"]),
        compilations=counter.lap(),
        update_flops=statistics.median(update_flops[1:] or update_flops),
        device_peak_bytes=machine.device_peak_bytes(),
    )


def check(work: works.Work, row: dict) -> None:
    """Raises AssertionError where a step did not do all of the work."""
    assert row["tokens/rollout"] == work.num_rows * work.response_length, row["tokens/rollout"]
    assert row["length/mean"] == work.response_length and row["length/clipped_share"] == 1
    assert math.isfinite(row["loss"]) and row["update/skipped"] == 0, row
    assert row["gradient/norm"] > 0 and row["kl/reference"] is not None, row
    assert row["rows/included_share"] == 1 and row["groups/zero_spread_share"] < 1, row


if __name__ == "__main__":
    given = works.arguments(microbatches=8, twice="")
    asked = works.doubled(given.work)[given.twice] if given.twice else given.work
    one = jax.devices()[:1]  # of a CPU all cores
    run(asked, works.Turns("r1_jax", given.driven), given.steps, given.microbatches, one)
