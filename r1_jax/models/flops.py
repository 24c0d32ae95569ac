"""Floating-point operations of a pass over tokens: what the model must do, whatever is done twice.

Products alone, two operations a multiplication with its addition. A causal sequence of T tokens
has T (T + 1) / 2 pairs of a query and a key.
"""

import functools
import math
from typing import NamedTuple

import jax

from r1_jax.core import keys, trees
from r1_jax.models import config as model_config
from r1_jax.models import transformer


class Cost(NamedTuple):
    """FLOPs of a forward pass: of a token, of its logits, of a pair of a query and a key."""

    token: float
    logits: float
    pair: float

    def forward(self, num_tokens: float, num_scored: float, num_pairs: float) -> float:
        """FLOPs of num_tokens tokens, num_scored of which meet the head."""
        return num_tokens * self.token + num_scored * self.logits + num_pairs * self.pair


@functools.cache
def of(config: model_config.ModelConfig) -> Cost:
    """The cost of `config`: of routed experts those that a token chooses, no multi-token head."""
    params = jax.eval_shape(lambda: transformer.init(config, keys.root(0)))
    token = 0.0
    for path, leaf in trees.paths(params).items():
        names = path.split("/")
        if names[0] not in ("layers", "dense_layers") or names[-1] not in _PRODUCTS:
            continue
        chosen = 1.0
        if "experts" in names and names[-1] in ("gate", "up", "down"):
            assert config.experts is not None
            chosen = config.experts.num_chosen / config.experts.num_routed
        token += 2.0 * math.prod(leaf.shape) * chosen
    value_dim = config.latent.value_dim if config.latent else config.head_dim
    pair = 2.0 * config.num_layers * config.num_heads * (config.head_dim + value_dim)
    return Cost(token, 2.0 * config.embed_dim * config.vocab_size, pair)


_PRODUCTS = ("kernel", "gate", "up", "down")
