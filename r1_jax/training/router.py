"""Routers in training: a selection bias that load moves and no gradient, and how even the load is.

DeepSeek-V3 (arXiv:2412.19437, section 2.1.2) balances its experts without a loss: after an update,
experts that were asked for more than others become a little less likely to be asked.
"""

import dataclasses

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


def make_update(update, model: model_config.ModelConfig, *, bias_rate: float):
    """update(state, ...) after which selection biases have moved by load alone (Algorithm 1 of
    arXiv:2408.15664), by bias_rate; 0 holds them, against a weight decay too.

    update: of step.make_update, on a loss that has LOAD among its means. The new metrics are
    router/load_max and router/load_min, over layers and experts. An update that was skipped moves
    nothing.
    """
    assert model.experts is not None
    has_bias = model.experts.scoring == "sigmoid"
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
        bias_LE = _bias(state.params)
        moved_LE = experts.moved_bias(bias_LE, load_LE, bias_rate) if bias_rate else bias_LE
        moved_LE = jnp.where(metrics["update/skipped"] > 0, bias_LE, moved_LE)
        return dataclasses.replace(new, params=_with_bias(new.params, moved_LE)), metrics

    return balanced


def _bias(params) -> jax.Array:
    return params["layers"]["block"]["experts"]["router"]["bias"]


def _with_bias(params, bias_LE: jax.Array):
    def put(tree, names):
        if not names:
            return bias_LE
        return tree | {names[0]: put(tree[names[0]], names[1:])}

    return put(params, ("layers", "block", "experts", "router", "bias"))
