"""Tunix's side, in an environment made from bench/peers/tunix.txt: the step, or the rollout alone.

    python -m bench.peers.tunix S|M [--steps=5] [--kind=grpo] [--prompts=8] [--rows=64]

GRPOLearner with Tunix's own ("vanilla") sampler on XLA's CPU in float32: policy and sampler share
their weights, k3 against a reference model, one AdamW update. --kind=grpo: --prompts of a forward
and backward pass, whose gradients add up. --kind=rollout: the sampler by batches of --rows
completions, each marked as done at its drawn length (bench/work.py); a batch ends when its last one
has.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.generate import sampler as samplers
from tunix.models.qwen2 import model as qwen2
from tunix.rl import rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

from bench import work as works


class Numbers:
    """Ids as decimal numbers; end and padding are ids above the model's, which it cannot draw."""

    def __init__(self, work: works.Work):
        self.work = work

    def encode(self, text: str, **_) -> list[int]:
        return works.ids(text)

    def decode(self, ids, **_) -> str:
        return works.text(ids)

    def bos_id(self) -> None:
        return None  # nothing is prepended

    def eos_id(self) -> int:
        return self.work.vocab_size

    def pad_id(self) -> int:
        return self.work.vocab_size + 1


def model(work: works.Work) -> qwen2.Qwen2:
    """Random float32 weights, normal with the others' spread where Tunix has zeros or its own."""
    config = qwen2.ModelConfig(
        num_layers=work.num_layers,
        vocab_size=work.vocab_size,
        embed_dim=work.embed_dim,
        hidden_dim=work.mlp_dim,
        num_heads=work.num_heads,
        head_dim=work.head_dim,
        num_kv_heads=work.num_kv_heads,
        rope_theta=int(work.rope_theta),
        norm_eps=work.norm_epsilon,
        use_tied_embedding=True,
    )
    made = qwen2.Qwen2(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)

    def drawn(x):
        return jnp.asarray(work.init_std * rng.standard_normal(x.shape, np.float32))

    state = nnx.state(made, nnx.Param)
    nnx.update(made, jax.tree.map(lambda x: drawn(x) if x.ndim > 1 else x, state))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(nnx.state(made)))
    return made


def cache_size(work: works.Work) -> int:
    """Slots of the cache: a prompt, a response, and one the sampler writes beyond them."""
    return work.prompt_length + work.response_length + 1


def grpo(work: works.Work, turns: works.Turns, num_steps: int, num_prompts: int) -> None:
    """A warm-up and num_steps further steps of the learner."""
    axes = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=axes)
    roles = (rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(work.learning_rate, 0.9, 0.95, weight_decay=0.0)
    )
    config = rl_cluster.ClusterConfig(
        role_to_mesh=dict.fromkeys(roles, mesh),
        rollout_engine="vanilla",
        training_config=rl_cluster.RLTrainingConfig(
            actor_optimizer=optimizer,
            eval_every_n_steps=10**6,
            max_steps=num_steps + 1,
            mini_batch_size=work.num_prompts,
            train_micro_batch_size=num_prompts,
            rollout_micro_batch_size=work.num_prompts,
            compute_logps_micro_batch_size=num_prompts,
        ),
        rollout_config=base_rollout.RolloutConfig(
            max_tokens_to_generate=work.response_length,
            max_prompt_length=work.prompt_length,
            kv_cache_size=cache_size(work),
            temperature=1.0,
            top_p=1.0,
            top_k=None,
        ),
    )
    lengths: list[int] = []

    def reward(prompts, completions, **_):
        lengths.extend(len(text.split()) for text in completions)
        return [works.reward(text) for text in completions]

    with mesh:
        cluster = rl_cluster.RLCluster(
            actor=model(work),
            reference=model(work),
            tokenizer=Numbers(work),
            cluster_config=config,
        )
        learner = grpo_learner.GRPOLearner(
            rl_cluster=cluster,
            algo_config=grpo_learner.GRPOConfig(
                num_generations=work.group_size,
                num_iterations=1,
                beta=work.kl_coef,
                kl_loss_mode="low_var_kl",
            ),
            reward_fns=reward,
        )
        policy = cluster.actor_trainer.model

        def weights():
            return jax.block_until_ready(jax.tree.leaves(nnx.state(policy, nnx.Param)))

        before: list[np.ndarray] = []

        def end() -> None:
            now = weights()
            assert len(lengths) == work.num_rows, len(lengths)
            assert set(lengths) == {work.response_length}, set(lengths)
            tokens = sum(lengths)
            lengths.clear()
            turns.end(tokens)
            moved = [float(jnp.max(jnp.abs(x - y))) for x, y in zip(now, before, strict=True)]
            assert all(0 < size < 1 for size in moved), moved  # also: finite

        def batches():
            texts = [works.text(row) for row in works.prompts(work, work.num_prompts)]
            for _ in range(num_steps + 1):
                before[:] = [np.array(x) for x in weights()]
                turns.begin()
                yield {"prompts": np.array(texts)}
                if cluster.actor_trainer.train_steps <= num_steps:
                    end()

        learner.train(batches())
        end()  # it asks for no batch after the last
        assert len(turns.seconds) == cluster.actor_trainer.train_steps == num_steps + 1
    turns.finish()


class Sampler(samplers.Sampler):
    """Tunix's sampler, whose rows are also done at lengths that are given."""

    def __init__(self, model, tokenizer, cache_config, length_B: np.ndarray):
        super().__init__(model, tokenizer, cache_config)
        self.given_B, self.length_B, self.num_steps = jnp.asarray(length_B), None, 0
        compiled = jax.jit(self._decode_until, donate_argnums=1)

        def decode(params, state):
            first = int(state.decoding_step)
            state = compiled(params, state, self.given_B)
            self.num_steps = int(state.decoding_step) - first + 1  # the first token: of the prefill
            return state

        self._compiled_decode_fn = decode

    def _decode_until(self, params, state, length_B):
        self.length_B = length_B  # what _sample sees while this is traced
        state = self._decode_fn(params, state)
        self.length_B = None
        return state

    def _sample(self, logits, eos, cache, sampler_state):
        new = super()._sample(logits, eos, cache, sampler_state)
        if self.length_B is None:
            return new
        drawn = new.decoding_step + 1 - new.num_input_tokens
        return new.replace(done=new.done | (drawn >= self.length_B))


def rollout(work: works.Work, turns: works.Turns, num_steps: int, num_rows: int) -> None:
    """A warm-up and num_steps further rollouts."""
    length_B = works.tail_lengths(work)
    sampler = Sampler(
        model(work),
        Numbers(work),
        samplers.CacheConfig(cache_size(work), work.num_layers, work.num_kv_heads, work.head_dim),
        length_B[:num_rows],
    )
    prompts = [works.text(row) for row in works.prompts(work, work.tail_prompts)]
    texts = [text for text in prompts for _ in range(work.group_size)]
    row_steps = 0
    for step in range(num_steps + 1):
        with turns.turn() as found:
            row_steps = 0
            for first in range(0, work.tail_rows, num_rows):
                rows = slice(first, first + num_rows)
                sampler.given_B = jnp.asarray(length_B[rows])
                sampler(
                    texts[rows],
                    max_generation_steps=work.response_length,
                    max_prompt_length=work.prompt_length,
                    temperature=1.0,
                    top_p=1.0,
                    seed=step,
                )
                assert sampler.num_steps == max(2, length_B[rows].max()), sampler.num_steps
                row_steps += sampler.num_steps * len(texts[rows])
            found["tokens"] = int(length_B.sum())
    turns.finish(useful_share=length_B.sum() / row_steps)


if __name__ == "__main__":
    given = works.arguments(kind="grpo", prompts=8, rows=64)
    turns = works.Turns("tunix", given.driven)
    if given.kind == "grpo":
        num_prompts = min(given.prompts, given.work.num_prompts)
        grpo(given.work, turns, given.steps, num_prompts)
    else:
        rollout(given.work, turns, given.steps, given.rows)
