"""Low-rank adapters (LoRA, arXiv:2106.09685): a few weights that learn while all others stay.

An adapted Linear computes x W + (alpha / rank) (x A) B. A [in, rank] is drawn, B [rank, out] is
zero, so that a fresh adapter changes nothing, to the bit. Adapters are a tree of their own, shaped
like the part of the parameters that they stand beside; W is never differentiated, moved or saved.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from r1_jax.core import keys, trees
from r1_jax.models import config as model_config
from r1_jax.models import linears, transformer

Adapters = Any  # nested dict: .../{"lora_in": [L, *in, rank], "lora_out": [L, rank, *out]}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which layers get an adapter, how wide, how strong.

    layers: "attention/query", or "attention" for all below it; () is every linear layer of every
    block. Embeddings, heads, norms and routers have no adapter, nor have routed experts (shared
    ones do) and latent attention's latent_up: these are no Linear, and naming one is an error.
    """

    rank: int = 16
    alpha: float = 32.0
    layers: tuple[str, ...] = ()

    def __post_init__(self):
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(
                f"rank={self.rank} must be at least 1 and alpha={self.alpha} above 0; without an "
                "adapter, leave lora out"
            )


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["scale"])
@dataclasses.dataclass(frozen=True)
class Frozen:
    """The parameters that adapters stand beside, and how strong they are: alpha / rank."""

    params: transformer.Params
    scale: float


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
    """{("a", "b"): leaf} of nested dicts."""
    return dict(cast(Any, traverse_util.flatten_dict(tree)))


def _chosen(named: Sequence[str], linear, params) -> list[tuple[str, ...]]:
    """The paths that `named` stands for; ValueError for what is there but no Linear, or not."""
    known = {"/".join(path[2:]) for path in linear}
    if not named:
        return list(linear)
    others = set()  # matrices of the blocks that no Linear owns
    for path, leaf in _flat(params).items():
        if path[1:2] == ("block",) and leaf.ndim > 2 and path[:-1] not in linear:
            others.add("/".join(path[2:]).removesuffix("/kernel"))
    for name in named:
        covered = [x for x in sorted(others) if f"{x}/".startswith(f"{name}/")]
        if covered or not any(f"{x}/".startswith(f"{name}/") for x in known):
            what = f"covers {covered[0]}, which" if covered else "names what"
            raise ValueError(
                f"lora.layers: {name!r} {what} is no linear layer of this model's blocks; they "
                f"are {', '.join(sorted(known))}"
            )
    return [p for p in linear if any(f"{'/'.join(p[2:])}/".startswith(f"{n}/") for n in named)]


def init_boxed(model: model_config.ModelConfig, config: LoraConfig, key: jax.Array) -> Adapters:
    """Fresh adapters, boxed with logical axes: A normal with deviation 1 / sqrt(in), B zeros.

    Raises ValueError for a layer that is not there or cannot have one.
    """
    linear, params = linears.of(model)
    found = {}
    for path in _chosen(config.layers, linear, params):
        layer = linear[path]
        stack = trees.paths(params)["/".join((*path, "kernel"))].shape[:1]
        num_in = len(layer.in_shape)
        axes_in, axes_out = layer.axes[:num_in], layer.axes[num_in:]
        std = trees.num_params(jax.ShapeDtypeStruct(layer.in_shape, jnp.float32)) ** -0.5
        normal = std * jax.random.normal(
            keys.at(key, "/".join(path)), (*stack, *layer.in_shape, config.rank)
        )
        zeros = jnp.zeros((*stack, config.rank, *layer.out_shape))
        box = nn.LogicallyPartitioned
        found[(*path, "lora_in")] = box(normal, ("layers", *axes_in, "rank"))
        found[(*path, "lora_out")] = box(zeros, ("layers", "rank", *axes_out))
    return traverse_util.unflatten_dict(found)


def init(model: model_config.ModelConfig, config: LoraConfig, key: jax.Array) -> Adapters:
    """Fresh adapters as plain arrays."""
    return nn.unbox(init_boxed(model, config, key))


def join(frozen: Frozen | None, params: Any) -> transformer.Params:
    """What a decoder is applied to: the frozen parameters with `params` as adapters beside them.

    Without frozen ones `params` are a whole model's already. B carries the scale from here on.
    """
    if frozen is None:
        return params
    flat = _flat(frozen.params)
    for path, x in _flat(params).items():
        flat[path] = x * frozen.scale if path[-1] == "lora_out" else x
    return traverse_util.unflatten_dict(flat)


def join_shapes(frozen: Frozen | None, params: Any) -> transformer.Params:
    """`join` of trees of shapes, which cannot be multiplied: the same leaves, as they are."""
    if frozen is None:
        return params
    return traverse_util.unflatten_dict(_flat(frozen.params) | _flat(params))


def merge(frozen: Frozen | None, params: Any) -> transformer.Params:
    """The parameters of a plain model that computes the same: W + (alpha / rank) A B, float32."""
    if frozen is None:
        return params
    flat, adapters = _flat(frozen.params), _flat(params)
    for path, a in adapters.items():
        if path[-1] == "lora_in":
            b = adapters[(*path[:-1], "lora_out")]
            kernel = (*path[:-1], "kernel")
            one = partial(jnp.tensordot, axes=1, precision=jax.lax.Precision.HIGHEST)
            flat[kernel] = flat[kernel] + frozen.scale * jax.vmap(one)(a, b)
    return traverse_util.unflatten_dict(flat)
