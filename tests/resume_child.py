"""One process of tests/test_resume.py: runs R1-Zero, and may kill itself inside a phase.

    python -m tests.resume_child WORKDIR SHARED [PHASE STEP [grpo|ppo|off [SIGKILL|SIGTERM]]]

SHARED holds the tokenizer, the problems and the compilation cache. PHASE is rollout, score, update,
eval or save; the process sends itself SIGKILL, or the signal named, while that phase of STEP is
under way: after the device program was dispatched and before anybody has seen its result, or
between two writes of a checkpoint. With the word ppo, a critic takes the groups' place; with off,
rollouts are drawn one step ahead.
"""

import os
import signal
import sys

import jax

from r1_jax.cli import running
from r1_jax.core import build
from r1_jax.pipeline import assemble, experiment, r1_zero
from r1_jax.pipeline import score as scoring

CONFIG = {
    "seed": 3,
    "task": {"num_train": 24, "num_validation": 4, "num_test": 6, "min_target": 10},
    "model": {
        "vocab_size": 400, "num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_kv_heads": 1,
        "head_dim": 8, "mlp_dim": 16,
    },
    "mesh": {"fsdp": 2},
    "optim": {"learning_rate": 0.01},
    "corpus": {"num_documents": 200, "max_value": 60},
    "sampling": {"num_slots": 8},
    "grpo": {
        "num_steps": 12, "prompts_per_rollout": 4, "group_size": 4, "num_minibatches": 2,
        "num_microbatches": 2, "kl_coef": 0.1, "reference_every": 6, "max_prompt": 64,
        "max_response": 24, "response_schedule": ((0, 16), (6, 24)), "importance_cap": 2.0,
        "truncated": "soft_penalty", "overlong_buffer": 4,
    },
    "reward": {"custom": "tests.toy_rewards:letters", "custom_weight": 1.0},
    "eval": {"num_problems": 6, "num_problems_between": 3, "num_samples": 4, "every": 4},
    "checkpoint": {"every": 4},
}  # fmt: skip


PPO = {
    "ppo": {"gae_lambda": 0.95, "learning_rate": 0.02},
    "grpo": CONFIG["grpo"] | {"kl_place": "reward", "kl_estimator": "k1", "inner_epochs": 2},
}  # fmt: skip


OFF = {"grpo": CONFIG["grpo"] | {"one_step_off": True}}


def config(shared: str, loop: str = "grpo") -> experiment.ExperimentConfig:
    """The run's configuration; its tokenizer and problems lie in `shared`."""
    mapping = CONFIG | {"grpo": {}, "ppo": PPO, "off": OFF}[loop]
    mapping = build.merge(mapping, "task.data_dir", f"{shared}/data")
    mapping = build.merge(mapping, "tokenizer.path", f"{shared}/t.model")
    return build.build(experiment.ExperimentConfig, mapping)


def die_in(phase: str, at: int, by: signal.Signals) -> None:
    """Patches the one place where `phase` is under way."""

    def _kill():
        os.kill(os.getpid(), by)

    if phase == "save":
        from orbax.checkpoint._src.serialization import serialization

        from r1_jax.checkpoints import store

        save, write, steps = store.Store.save, serialization.async_serialize_from_host, []

        def begun(self, step, arrays, host_state):
            self.wait()  # the save before is complete: this one alone is torn
            steps.append(step)
            save(self, step, arrays, host_state)

        async def torn(*args, **kwargs):
            await write(*args, **kwargs)
            if steps[-1] == at:
                _kill()

        store.Store.save, serialization.async_serialize_from_host = begun, torn
        return
    if phase == "score":
        start = scoring.Scorer.start

        def started(self, prompts, rollouts, step):
            under_way = start(self, prompts, rollouts, step)
            if step == at:
                _kill()
            return under_way

        scoring.Scorer.start = started
        return
    if phase == "eval":
        judge = scoring.Scorer.judge

        def judged(self, prompts, rollouts, step):
            if step == at:
                _kill()
            return judge(self, prompts, rollouts, step)

        scoring.Scorer.judge = judged
        return
    make_programs = assemble.make_programs

    def programs(*args):
        made = make_programs(*args)

        def generate(params, batch, key, step, limit):
            under_way = made.generate(params, batch, key, step, limit)
            if step == at:
                _kill()
            return under_way

        def update(state, batch, rows):
            step = int(state.step)
            under_way = made.update(state, batch, rows)
            if step == at:
                _kill()
            return under_way

        return made._replace(
            **{"rollout": {"generate": generate}, "update": {"update": update}}[phase]
        )

    assemble.make_programs = programs


def main(
    workdir: str,
    shared: str,
    phase: str = "",
    at: str = "0",
    loop: str = "grpo",
    by: str = "SIGKILL",
) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_compilation_cache_dir", f"{shared}/cache")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if phase:
        die_in(phase, int(at), signal.Signals[by])
    with running.guarded():
        is_news = r1_zero.run(config(shared, loop), workdir)
    sys.stdout.write("done\n" if is_news else "was done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
