"""Decoding at one batch: a JSON line a turn, then one on all of them.

    python -m bench.decode 1.5B [--steps=5] [--batch=64] [--weights=float] [--cache=float]

A turn is two rollouts of one prompt a row, all running to their limit, half of LENGTH tokens and
all of them: what the second took longer is decoding alone. The floor is what those steps must read:
the sampler's weights, whatever type they have, and keys and values of every position so far.
"""

import dataclasses
import statistics
import time

import jax

from bench import grpo, machine
from bench import work as works
from r1_jax.core import keys
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config
from r1_jax.pipeline import assemble, relayout
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

LENGTH = 512  # new tokens, at most


def run(
    work: works.Work, turns: works.Turns, num_steps: int, batch: int, devices=None, **sampling: str
) -> None:
    """A warm-up and num_steps further turns. sampling: weights and cache, of SamplingConfig."""
    length = min(work.response_length, LENGTH)
    half = length // 2
    config = grpo.config(dataclasses.replace(work, response_length=length), **sampling)
    tokens, mesh = grpo.Numbers(work.vocab_size), assemble.make_mesh(config.mesh, devices)
    prompts = grpo.prompt_batch(work, batch)
    with meshes.activate(mesh):
        params, _ = assemble.initial_params(config, mesh, tokens)
        relaid = relayout.make_relayout(config.model, config.sampling.weights)(params)
        weight_bytes = sum(x.nbytes for x in jax.tree.leaves(relaid))
        del relaid
        generate = assemble.make_generate(config, mesh, tokens, 1)

        def seconds_of(limit: int, step: int) -> float:
            start, key = time.perf_counter(), keys.at(keys.root(0), "sample", step)
            rollouts = place.to_host(generate(params, prompts, key, step, limit))
            assert int(rollouts.length_B.sum()) == batch * limit, rollouts.length_B
            return time.perf_counter() - start

        found = []
        for step in range(num_steps + 1):
            with turns.turn() as facts:
                shorter, longer = (seconds_of(limit, step) for limit in (half, length))
                found.append((longer - shorter) / (length - half))
                facts |= {"tokens": batch * (half + length), "decode_seconds": found[-1]}
    positions = work.prompt_length + (half + length) / 2
    seconds = statistics.median(found[1:] or found)
    turns.finish(
        decode_seconds=seconds,
        decode_tokens_per_second=batch / seconds,
        weight_bytes=weight_bytes,
        cache_bytes=batch * positions * position_bytes(config.model, config.sampling.cache),
        device_peak_bytes=machine.device_peak_bytes(),
    )


def position_bytes(model: model_config.ModelConfig, kind: str) -> int:
    """Bytes of one position's keys and values, all layers together."""
    one = jax.eval_shape(lambda: kv_cache.allocate(model, 1, 1, 1, kind=kind))
    arrays = jax.tree.leaves((one.ring_k, one.ring_v))
    return sum(x.size * x.dtype.itemsize for x in arrays)


if __name__ == "__main__":
    given = works.arguments(batch=64, weights="float", cache="float")
    run(
        given.work,
        works.Turns(f"r1_jax, {given.batch} rows", given.driven),
        given.steps,
        given.batch,
        jax.devices()[:1],
        weights=given.weights,
        cache=given.cache,
    )
