"""Routers in training: a selection bias that load moves and no gradient, and how even the load is.

DeepSeek-V3 (arXiv:2412.19437, section 2.1.2) balances its experts without a loss: after an update,
experts that were asked for more than others become a little less likely to be asked.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from r1_jax.core import types
from r1_jax.models import config as model_config
from r1_jax.models import experts

LOAD = "router/load_LE"  # what a loss calls its `load`; no scalar, so it never reaches the log


def load(
    model: model_config.Experts, routed: experts.Routed, num_tokens: jax.Array
) -> types.WeightedSum:
    """Tokens by layer and expert [L, E], in parts of an even share: 1 is even, E / X the most."""
    share = model.num_routed / model.num_chosen
    return types.WeightedSum(routed.load_E * share, num_tokens)


def balance(routed: experts.Routed, weight_B: jax.Array) -> types.WeightedSum:
    """The sequence balance loss (V3 Eq. 17), summed over layers; without its coefficient.

    A sequence is a row, packed or not. weight_B: what its tokens weigh in the loss; so weighed, it
    adds to a mean over tokens, and microbatches add up.
    """
    balance_B = jnp.sum(routed.balance_B, axis=0)
    return types.WeightedSum(jnp.sum(balance_B * weight_B), jnp.sum(weight_B))


def joined(routed: experts.Routed, last: experts.Routed) -> experts.Routed:
    """All layers' load and balance, those of the layer of prediction (without an axis L) last."""
    return experts.Routed(
        routed.chosen_BTX,  # that layer reads one token less, and nobody replays it
        jnp.concatenate([routed.load_E, last.load_E[None]]),
        jnp.concatenate([routed.balance_B, last.balance_B[None]]),
    )


def make_update(
    update, model: model_config.ModelConfig, *, bias_rate: float, is_frozen: bool = False
):
    """update(state, ...) after which selection biases have moved by load alone (Algorithm 1 of
    arXiv:2408.15664), by bias_rate; 0 holds them, against a weight decay too.

    update: of step.make_update, on a loss that has LOAD among its means. The new metrics are
    router/load_max and router/load_min, over layers and experts. An update that was skipped moves
    nothing. is_frozen: the state's parameters are adapters, and biases are no part of them.
    """
    assert model.experts is not None
    has_bias = model.experts.scoring == "sigmoid" and not is_frozen
    if bias_rate and is_frozen:
        raise ValueError(
            f"bias_rate={bias_rate} would move what lora holds: selection biases are of the frozen "
            "base; use 0"
        )
    if bias_rate and not has_bias:
        raise ValueError(
            f"bias_rate={bias_rate} would change nothing: routers with softmax scores have no "
            "selection bias; use 0"
        )

    def balanced(state, batch):
        new, metrics = update(state, batch)
        load_LE = metrics.pop(LOAD)
        metrics |= {"router/load_max": jnp.max(load_LE), "router/load_min": jnp.min(load_LE)}
        if not has_bias:
            return new, metrics
        is_moved = (metrics["update/skipped"] == 0) & (bias_rate > 0)
        params, num_stacked = new.params, _get(state.params, _STACKED).shape[0]
        for path, of_layers in ((_STACKED, slice(num_stacked)), (_AHEAD, num_stacked)):
            if path[0] in params:
                old = _get(state.params, path)
                if path is _STACKED or load_LE.shape[0] > num_stacked:  # it was in the loss
                    moved = experts.moved_bias(old, load_LE[of_layers], bias_rate)
                    params = _put(params, path, jnp.where(is_moved, moved, old))
                else:
                    params = _put(params, path, old)
        return dataclasses.replace(new, params=params), metrics

    return balanced


_STACKED = ("layers", "block", "experts", "router", "bias")  # [L, E]
_AHEAD = ("mtp", "layer", "experts", "router", "bias")  # [E]


def _get(tree, path):
    return functools.reduce(lambda below, name: below[name], path, tree)


def _put(tree, path, leaf):
    if not path:
        return leaf
    return tree | {path[0]: _put(tree[path[0]], path[1:], leaf)}
