"""A tiny model for the tests of models/ and sampling/, and a look into programs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.core import trees
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config
from r1_jax.models import heads, transformer

# Sizes differ from each other, so that a shape in a program says what it is.
MODEL = model_config.ModelConfig(
    vocab_size=26,
    num_layers=2,
    embed_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    tied_embeddings=False,
)

QWEN3 = dataclasses.replace(MODEL, qkv_bias=False, qk_norm=True, head_dim=12)
LLAMA3 = dataclasses.replace(
    MODEL,
    qkv_bias=False,
    rope_theta=100.0,
    llama3_rope=model_config.Llama3Rope(factor=8.0, original_length=16),
)
DEEPSEEK = model_config.ModelConfig(  # V3: latent queries, biased groups
    vocab_size=26,
    num_layers=3,
    embed_dim=32,
    num_heads=4,
    num_kv_heads=4,
    head_dim=10,
    mlp_dim=48,
    qkv_bias=False,
    tied_embeddings=False,
    yarn=model_config.Yarn(4.0, 16, beta_fast=4.0, mscale=1.0, mscale_all_dim=0.7),
    latent=model_config.Latent(rank=12, query_rank=18, nope_dim=6, rope_dim=4, value_dim=14),
    experts=model_config.Experts(
        num_routed=8, num_chosen=3, dim=20, first_dense=1, num_groups=4, groups_kept=2
    ),
)
DEEPSEEK_V2 = dataclasses.replace(  # direct queries, softmax over all, experts in every layer
    DEEPSEEK,
    num_layers=1,
    latent=dataclasses.replace(DEEPSEEK.latent, query_rank=0),
    experts=model_config.Experts(
        num_routed=6,
        num_chosen=2,
        dim=20,
        num_shared=2,
        first_dense=0,
        num_groups=1,
        groups_kept=1,
        scoring="softmax",
        normalise=False,
        scale=3.0,
    ),
)


def jit(function, **options):
    """`function` compiled without LLVM's optimisations, which take longer than our tests run."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


@functools.cache
def params(config=MODEL, seed=0):
    """Parameters in which nothing is 0 or 1, so that nothing can be left out unnoticed."""
    rng = np.random.default_rng(seed)
    abstract = jax.eval_shape(lambda: transformer.init(config, jax.random.key(0)))

    def draw(path, leaf):
        centre = float(jax.tree_util.keystr(path).endswith("['scale']"))
        return (centre + 0.3 * rng.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract)


def logits(model):
    """jitted (params) -> (logits of two sequences, of their last four tokens read step by step)."""
    tokens_BT = jnp.asarray(np.random.default_rng(0).integers(0, 26, (2, 9)), jnp.int32)
    length_B, everyone_B = jnp.full(2, 5, jnp.int32), jnp.ones(2, bool)

    def run(params):
        kernel = heads.kernel(model, params)
        hidden_BTD, _ = transformer.forward(model, params, tokens_BT)
        _, kv = transformer.forward(model, params, tokens_BT[:, :5], collect=True)
        cache = kv_cache.allocate(model, 2, 5, 4)
        prompt = kv_cache.from_prefill(kv)
        cache = kv_cache.fill(cache, everyone_B, jnp.arange(2), *prompt, length_B)
        blocks, steps = transformer.unstack(model, params), []
        for i in range(4):
            token_B, slot = tokens_BT[:, 5 + i], jnp.int32(i)
            hidden_BD, cache = transformer.step(model, params, blocks, token_B, cache, slot)
            steps.append(heads.logits(hidden_BD, kernel))
        return heads.logits(hidden_BTD, kernel), jnp.stack(steps, axis=1)

    return jit(run)


def equations(jaxpr):
    """Every equation of a jaxpr, those of its inner jaxprs included."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from equations(inner)


def _is_jaxpr(x):
    return hasattr(getattr(x, "jaxpr", x), "eqns")


def shapes(jaxpr):
    """The shapes of all arrays that a program makes on its way, as a set."""
    return {
        tuple(variable.aval.shape)
        for equation in equations(jaxpr)
        for variable in equation.outvars
        if hasattr(variable.aval, "shape")
    }


def count(jaxpr, primitive):
    """How many equations of `primitive` (its name) a program has."""
    return sum(equation.primitive.name == primitive for equation in equations(jaxpr))


def assert_same_gradients(found, expected):
    """Trees of gradients are equal within 1e-4 of each array's largest entry."""
    found = trees.paths(found)
    for path, x in trees.paths(expected).items():
        scale = max(np.abs(x).max(), 1e-6)
        np.testing.assert_allclose(found[path] / scale, x / scale, atol=1e-4, err_msg=path)
