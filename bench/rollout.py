"""Our side of the long-tailed rollout: a JSON line a rollout, then one on all of them.

    python -m bench.rollout S|M [--steps=5] [--slots=16]

Lengths are imposed: each completion's own limit is the drawn one (bench/work.py). --slots=0 decodes
all rows at once, without refilling.
"""

import jax
import numpy as np

from bench import grpo
from bench import work as works
from r1_jax.core import keys
from r1_jax.pipeline import assemble
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place


def run(work: works.Work, turns: works.Turns, num_steps: int, num_slots: int, devices=None) -> None:
    """A warm-up and num_steps further rollouts, on all devices or those given."""
    config = grpo.config(work, num_slots=num_slots)
    tokens, mesh = grpo.Numbers(work.vocab_size), assemble.make_mesh(config.mesh, devices)
    batch, length_B = grpo.prompt_batch(work, work.tail_prompts), works.tail_lengths(work)
    with meshes.activate(mesh):
        params, _ = assemble.initial_params(config, mesh, tokens)
        generate = assemble.make_generate(config, mesh, tokens, work.group_size)
        share = 0.0
        for step in range(num_steps + 1):
            with turns.turn() as found:
                key = keys.at(keys.root(0), "sample", step)
                rollouts = place.to_host(generate(params, batch, key, step, length_B))
                found["tokens"] = int(rollouts.length_B.sum())
            np.testing.assert_array_equal(rollouts.length_B, length_B)
            share = float(rollouts.length_B.sum() / rollouts.slot_steps)
        jax.block_until_ready(params)
    turns.finish(useful_share=share)


if __name__ == "__main__":
    given = works.arguments(slots=16)
    name = f"r1_jax, {given.slots} slots" if given.slots else "r1_jax, no refill"
    run(given.work, works.Turns(name, given.driven), given.steps, given.slots)
