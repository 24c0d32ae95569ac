"""A tiny model for the tests of models/ and sampling/, and a look into programs."""

import functools

import jax
import numpy as np

from r1_jax.models import config as model_config
from r1_jax.models import transformer

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
