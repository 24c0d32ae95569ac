"""The linear layers of a decoder's blocks: for adapters beside them, and 8 bits in their place."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from r1_jax.models import config as model_config
from r1_jax.models import layers, transformer

Path = tuple[str, ...]


class Called(NamedTuple):
    """A Linear of the blocks, as it was called."""

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    axes: tuple[str, ...]  # logical, of its kernel


def of(model: model_config.ModelConfig) -> tuple[dict[Path, Called], Any]:
    """({path: every Linear of the blocks}, the abstract parameters); nothing is allocated.

    A kernel in the parameters has the layers' axis before those of the Linear.
    """
    found: dict[Path, Called] = {}

    def note(call, args, kwargs, context):
        m = context.module
        if isinstance(m, layers.Linear) and m.path[1:2] == ("block",):
            found[m.path] = Called(m.in_shape, m.out_shape, m.axes)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        params = jax.eval_shape(partial(transformer.init, model), jax.random.key(0))
    return found, params
