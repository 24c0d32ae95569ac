"""A GPU's kernels against what serves a CPU: python -m bench.kernels

One JSON line: for each kernel, by how much values and gradients differ, ||ours - plain|| /
||plain||, and whether five calls give the same bits. Raises AssertionError above BOUND. On other
devices the line is empty; a TPU's kernel is compared where it is interpreted, by tests.
"""

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.models import attention, cudnn, flash_decode, prefix
from r1_jax.models import cache as kv_cache

BOUND = 1e-2  # of products in bfloat16
T, N, K, H = 1000, 12, 2, 128


def noise(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16)


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, traced as for a device without kernels."""

    def traced(*args):
        held = cudnn.is_of_use, flash_decode.is_of_use
        cudnn.is_of_use = flash_decode.is_of_use = lambda *_: False
        try:
            return function(*args)
        finally:
            cudnn.is_of_use, flash_decode.is_of_use = held

    return traced


def differences(function: Callable[..., Any], *inputs: Any) -> dict[str, Any]:
    """Of the jitted function and its kernels against itself without them."""
    ours = jax.jit(function)
    found = [jax.tree.leaves(ours(*inputs)) for _ in range(5)]
    plain = jax.tree.leaves(jax.jit(plainly(function))(*inputs))
    errors = []
    for x, y in zip(found[0], plain, strict=True):
        x, y = (np.asarray(a, np.float64) for a in (x, y))
        errors.append(float(np.linalg.norm(x - y) / np.linalg.norm(y)))
    same = all(
        bool((x == y).all()) for again in found[1:] for x, y in zip(found[0], again, strict=True)
    )
    assert 0 < max(errors) < BOUND, (errors, "0: no kernel was traced")
    return {"errors": errors, "same_bits": same}


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    def both(q, k, v, g):
        out, back = jax.vjp(function, q, k, v)
        return out, back(g)

    return both


def decoding(B: int, num_prompts: int, num_new: int):
    """One step's attention of B rows, and its inputs."""
    S = 500  # the last block is no whole one
    length_P = jax.random.randint(jax.random.key(5), (num_prompts,), 0, S)
    cache = kv_cache.KVCache(
        (noise(0, num_prompts, K, H, S),),
        (noise(1, num_prompts, K, S, H),),
        jnp.repeat(length_P, B // num_prompts),
        ((noise(2, B, K, H, S),),),
        ((noise(3, B, K, S, H),),),
        jax.random.randint(jax.random.key(6), (B,), 0, S - num_new),
    )
    new = noise(7, B, num_new, N, H), noise(8, B, num_new, K, H), noise(9, B, num_new, K, H)
    slot = jnp.int32(100)

    def step(cache, *new):
        seen = [kv_cache.seen(cache, slot + i) for i in range(num_new)]
        return kv_cache.attend(cache, 0, slot, jnp.concatenate(seen, axis=1))(*new)[0]

    return step, cache, *new


def main() -> None:
    """Prints the line."""
    found: dict[str, Any] = {}
    heads = N, K, K, N
    rows = tuple(noise(i, 2, T, n, H) for i, n in enumerate(heads))
    if cudnn.is_of_use(rows[0], rows[2]):
        causal = functools.partial(attention.causal, segment_BT=None)
        found["causal"] = differences(with_gradients(causal), *rows)
        shared = prefix.Shared(2, 300)
        behind = functools.partial(attention.behind_prefix, shared=shared)
        found["behind_prefix"] = differences(with_gradients(behind), *map(shared.fold, rows))
    if flash_decode.is_of_use(noise(0, 1, K, N // K, H)):
        # Of 8 rows several programs share a head's keys.
        for rows_of, num_prompts, num_new in ((64, 64, 1), (64, 8, 1), (64, 64, 2), (8, 8, 1)):
            name = f"decoding, {rows_of} rows, {num_prompts} prompts, {num_new} new"
            found[name] = differences(*decoding(rows_of, num_prompts, num_new))
    assert found or jax.default_backend() != "gpu", "no kernel is of use on this GPU"
    sys.stdout.write(json.dumps({"kernels": found}) + "\n")


if __name__ == "__main__":
    main()
