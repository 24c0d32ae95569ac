"""A run of R1-Zero in which all is real but the task, the tokenizer and the model."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from r1_jax.checkpoints import store
from r1_jax.core import build, trees
from r1_jax.data.tasks import load
from r1_jax.data.tasks import task as tasks
from r1_jax.pipeline import assemble, experiment, r1_zero
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.training import actor_critic, grpo, optim, ppo, switches
from r1_jax.training import state as train_state
from tests import tiny, toy_rewards

TEACHER = {"table": jnp.array([-1.0, 0.0, 2.0, 0.0, 0.5, 1.5])}

PIECES = (
    " <think> hm </think>",
    " <answer> good </answer>",
    " <answer> bad </answer>",
    " wait",
    " x",
)


class Tokenizer:
    """The table policy's tokens as text; prompts become a few ids."""

    vocab_size, pad_id, stop_ids = tiny.VOCAB, tiny.STOP, (tiny.STOP,)
    model, digest = b"a tokenizer's file", "d" * 64

    def encode(self, text: str) -> list[int]:
        if "User: " in text:
            return [ord(c) % tiny.VOCAB for c in text.split("User: ")[1].split(" ")[0]]
        return [0, PIECES.index(text.split("</think>")[1])]  # some thought, then an answer

    def decode(self, ids) -> str:
        return "".join(PIECES[i] for i in ids if i != tiny.STOP)


def toy_task(num_train: int = 24) -> tasks.Task:
    """Questions to which the answer is "good"."""
    sizes, uid, splits = {"train": num_train, "validation": 9, "test": 8}, 0, {}
    for split, size in sizes.items():
        splits[split] = [tasks.Prompt(uid + i, f"q{i % 10}", "") for i in range(size)]
        uid += size

    return tasks.Task(
        "toy", splits, toy_rewards.good, lambda p: "good", toy_rewards.same, ("wait",)
    )


CONFIG = {
    "grpo": {
        "num_steps": 8, "prompts_per_rollout": 4, "group_size": 4, "num_minibatches": 2,
        "kl_coef": 0.05, "reference_every": 4, "max_prompt": 4, "max_response": 6,
    },
    "optim": {"learning_rate": 0.1},
    "eval": {"num_problems": 6, "num_problems_between": 5, "num_samples": 4, "every": 4},
    "checkpoint": {"every": 2, "keep": 2},
}  # fmt: skip


@functools.cache
def _update(
    grpo_config: switches.GRPOConfig,
    optim_config: optim.OptimConfig,
    of_ppo: actor_critic.PPOConfig | None,
):
    tx = optim.make_optimizer(optim_config, 8)
    return jax.jit(tiny.make_update(grpo_config, tx, of_ppo=of_ppo))


@dataclasses.dataclass
class Toy:
    """Runs, and what may go wrong in them."""

    task: tasks.Task = dataclasses.field(default_factory=toy_task)
    table: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"table": jnp.array([1.0, 1.0, 0.0, 0.0, -1.0, 1.0])}
    )
    error: float = 0.0  # of the sampler's log-probs
    before: Callable[[str, int], None] = lambda name, step: None  # called before each phase

    def config(self, **changes: Any) -> experiment.ExperimentConfig:
        """CONFIG with changes, dots written as two underscores."""
        mapping = CONFIG
        for name, value in changes.items():
            mapping = build.merge(mapping, name.replace("__", "."), value)
        return build.build(experiment.ExperimentConfig, mapping)

    def run(self, workdir: pathlib.Path, **changes: Any) -> bool:
        return r1_zero.run(self.config(**changes), workdir)

    def setup(self, config, num_steps):
        tx = optim.make_optimizer(config.optim, 8)
        mesh = meshes.make_mesh(data=jax.device_count())
        state = jax.device_put(train_state.create(self.table, tx), place.replicated(mesh))
        return assemble.Setup(mesh, Tokenizer(), tx, state, None, {"tokenizer": Tokenizer.digest})

    def add_critic(self, config, stage):
        if config.ppo is None:
            return stage
        state = tiny.with_critic(stage.state, config.ppo)
        placed = jax.device_put(state, place.replicated(stage.mesh))
        return dataclasses.replace(stage, state=placed)

    def make_critic(self, config, mesh) -> ppo.Critic:
        return tiny.make_critic(config.grpo, config.ppo)

    def make_generate(self, config, mesh, tokens, group_size, frozen=None):
        def generate(params, batch, key, step, limit):
            self.before("generate", step)
            return tiny.generate(
                params, batch, key, step, limit, group_size=group_size,
                max_response=config.grpo.max_response, error=self.error,
            )  # fmt: skip

        return generate

    def load_teacher(self, path, mesh, tokens):
        return None, jax.device_put(TEACHER, place.replicated(mesh)), "t" * 64

    def make_programs(
        self, config, mesh, tokens, tx, shardings, reference_model, frozen
    ) -> grpo.Programs:
        same = {"num_steps": 8, "gap_bound": 0.05, "max_prompt": 4}  # nothing to the update
        update = _update(dataclasses.replace(config.grpo, **same), config.optim, config.ppo)
        mix = config.grpo.reference_mix

        def updated(state, batch, rows):
            self.before("update", int(state.step))
            return update(state, jax.tree.map(jnp.asarray, batch), jnp.asarray(rows))

        def logps(params, rollouts):
            return tiny.token_scores(None, params, rollouts.tokens_BT, adjust=lambda x: x)[0]

        return grpo.Programs(
            self.make_generate(config, mesh, tokens, config.grpo.group_size),
            logps,
            logps,
            updated,
            partial(jax.tree.map, lambda r, p: mix * p + (1 - mix) * r),
        )


@pytest.fixture
def toy(monkeypatch) -> Toy:
    """A Toy whose `run` is r1_zero.run."""
    toy = Toy()
    tiny.patch(monkeypatch)
    monkeypatch.setattr(load, "load", lambda config: toy.task)
    for name in (
        "setup",
        "load_teacher",
        "add_critic",
        "make_critic",
        "make_generate",
        "make_programs",
    ):
        monkeypatch.setattr(assemble, name, getattr(toy, name))
    save, evaluate = store.Store.save, r1_zero.evaluation.evaluate

    def saved(self, step, arrays, host):
        toy.before("save", step)
        save(self, step, arrays, host)
        self.wait()
        toy.before("saved", step)

    def evaluated(problems, sample, *args, **kwargs):
        toy.before("evaluate", len(problems))
        return evaluate(problems, sample, *args, **kwargs)

    monkeypatch.setattr(store.Store, "save", saved)
    monkeypatch.setattr(r1_zero.evaluation, "evaluate", evaluated)
    return toy


def rows(workdir: pathlib.Path, name: str = "metrics") -> list[dict[str, Any]]:
    """Rows of a run without what is a fact of a process: seconds and compilations."""
    lines = (workdir / f"{name}.jsonl").read_text().splitlines()
    return [
        {
            k: v
            for k, v in json.loads(line).items()
            if not k.startswith(("seconds/", "speed/", "compil"))
        }
        for line in lines
    ]


def files(workdir: pathlib.Path) -> dict[str, bytes]:
    """Every file under `workdir` and what is in it."""
    found = sorted(path for path in workdir.rglob("*") if path.is_file())
    return {str(path.relative_to(workdir)): path.read_bytes() for path in found}


def final_digest(workdir: pathlib.Path, like: Any, *, step: int) -> str:
    """Digest of the arrays of a checkpoint."""
    with store.Store(workdir / "checkpoints", read_only=True) as checkpoints:
        return trees.digest(checkpoints.restore(step, like)[0])
