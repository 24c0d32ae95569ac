"""The learner against plain JAX: how long its matrix products would take if they were all it did.

    python -m bench.learner S|M [--steps=5] [--rows=8]

One piece of an update (forward and backward pass of `rows` completions, their prompt shared), by
the program that a run compiles, in turn with each of its products of weights alone: x W, and for
the gradients g W^T and x^T g, of the same shapes, jitted by themselves. Attention, norms, the
softmax over the vocabulary and the sums are in the first and not in the second. Both in large
pages of memory, as a run has them. One JSON line; `share` is seconds of the products over seconds
of the piece.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from bench import grpo
from bench import work as works
from r1_jax.__main__ import in_large_pages
from r1_jax.core import types
from r1_jax.models import config as model_config
from r1_jax.models import prefix, transformer
from r1_jax.pipeline import assemble, traced
from r1_jax.sharding import mesh as meshes
from r1_jax.training import optim
from r1_jax.training import state as train_state

TURN = 0.2  # seconds at least of a product's calls, one after the other


def products(model: model_config.ModelConfig, num_positions: int, num_scored: int):
    """(m, k, n, times) of every x W of a pass: m positions, k features in, n out."""
    D, F, H = model.embed_dim, model.mlp_dim, model.head_dim
    N, K, L = model.num_heads, model.num_kv_heads, model.num_layers
    return [
        (num_positions, D, N * H, L),  # queries
        (num_positions, D, K * H, 2 * L),  # keys, values
        (num_positions, N * H, D, L),  # out
        (num_positions, D, F, 2 * L),  # gate, up
        (num_positions, F, D, L),  # down
        (num_scored, D, model.vocab_size, 1),
    ]


def piece(work: works.Work, num_rows: int) -> types.PolicyBatch:
    """Completions of one prompt, as the update gets them."""
    rng, T = np.random.default_rng(0), work.prompt_length + work.response_length
    tokens_BT = rng.integers(work.vocab_size, size=(num_rows, T), dtype=np.int32)
    tokens_BT[:, : work.prompt_length] = tokens_BT[0, : work.prompt_length]
    logps_BT = np.full((num_rows, T), -6.0, np.float32)
    prompt_B = np.full(num_rows, work.prompt_length, np.int32)
    length_B = np.full(num_rows, work.response_length, np.int32)
    advantage_B = rng.normal(size=num_rows).astype(np.float32)
    include_B = np.ones(num_rows, bool)
    return types.PolicyBatch(
        tokens_BT, prompt_B, length_B, logps_BT, None, logps_BT, advantage_B, include_B
    )


def seconds(function, arguments) -> float:
    """Of one call, on average over a turn of them."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < TURN:
        jax.block_until_ready(function(*arguments))
        calls += 1
    return (time.perf_counter() - start) / calls


def main(words: list[str] | None = None) -> None:
    """Prints the line."""
    given = works.arguments(words, rows=8)
    work = given.work
    config = grpo.config(work)
    tx = optim.make_optimizer(config.optim, 2)
    shared = prefix.Shared(given.rows, work.prompt_length - 1)
    num_scored = given.rows * work.response_length
    shapes = products(config.model, shared.length + num_scored + given.rows, num_scored)
    with meshes.activate(assemble.make_mesh(config.mesh)):
        params = transformer.init(config.model, jax.random.key(0))
        state, batch = train_state.create(params, tx), piece(work, given.rows)
        parts = traced.make_parts(config, tx)(None, shared)
        add = jax.jit(lambda state, batch: parts.add(state, None, batch))
        turns = {"piece": (add, (state, batch))}
        for m, k, n, _ in shapes:
            x, w, g = (jnp.ones(shape) for shape in ((m, k), (k, n), (m, n)))
            turns[f"{m}x{k}x{n} xW"] = (jax.jit(jnp.dot), (x, w))
            turns[f"{m}x{k}x{n} gW"] = (jax.jit(lambda g, w: g @ w.T), (g, w))
            turns[f"{m}x{k}x{n} xg"] = (jax.jit(lambda x, g: x.T @ g), (x, g))
        for function, arguments in turns.values():
            jax.block_until_ready(function(*arguments))
        least: dict[str, float] = {}
        for _ in range(given.steps):
            for name, turn in turns.items():
                least[name] = min(least.get(name, float("inf")), seconds(*turn))
    plain = gflop = head_again = 0.0
    for m, k, n, times in shapes:
        plain += times * sum(least[f"{m}x{k}x{n} {kind}"] for kind in ("xW", "gW", "xg"))
        gflop += times * 3 * 2 * m * k * n / 1e9
    m, k, n, _ = shapes[-1]
    head_again = least[f"{m}x{k}x{n} xW"]  # the head's logits are computed anew, not kept
    found = {
        "shape": given.shape,
        "rows": given.rows,
        "piece_seconds": least["piece"],
        "products_seconds": plain,
        "head_again_seconds": head_again,
        "share": plain / least["piece"],
        "products_gflops": gflop / plain,
        "gflops_of": {
            f"{m}x{k}x{n} {kind}": round(2e-9 * m * k * n / least[f"{m}x{k}x{n} {kind}"], 1)
            for m, k, n, _ in shapes
            for kind in ("xW", "gW", "xg")
        },
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    in_large_pages()
    main()
