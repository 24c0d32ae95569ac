"""Low-rank adapters in a run (models/lora): where they begin, whose they are, what they become.

A checkpoint of such a run holds adapters and no base. The base stays where config.base is; its
digest stands in the checkpoint, and adapters are never put beside another one.
"""

import os
from functools import partial
from typing import Any

import jax

from r1_jax.core import keys
from r1_jax.models import lora
from r1_jax.pipeline import experiment
from r1_jax.sharding import place
from r1_jax.training import step


def begin(
    config: experiment.ExperimentConfig, of: lora.LoraConfig, base: Any, mesh: jax.sharding.Mesh
) -> tuple[lora.Frozen, lora.Adapters]:
    """(the base, now frozen; fresh adapters, sharded like what they stand beside).

    A function of the seed. Raises ValueError for layers that can have none, and without a base:
    nobody could put the adapters of noise to use.
    """
    if not config.base:
        raise ValueError("lora adapts a base, but base='' is a random one; name a base")
    key = keys.at(keys.root(config.seed), "lora")
    boxed = jax.eval_shape(partial(lora.init_boxed, config.model, of), key)
    fresh = jax.jit(
        partial(lora.init, config.model, of), out_shardings=place.shardings(boxed, mesh)
    )
    return lora.Frozen(base, of.alpha / of.rank), fresh(key)


def beside(frozen: lora.Frozen | None, loss: step.Loss) -> step.Loss:
    """`loss` of a whole model as one of adapters beside `frozen`; itself where that is None."""
    return lambda params, batch: loss(lora.join(frozen, params), batch)


def merged(frozen: lora.Frozen | None, params: Any) -> Any:
    """A plain model's parameters, laid out as the frozen ones; `params` where those are None."""
    if frozen is None:
        return params
    out = jax.tree.map(lambda x: x.sharding, frozen.params)
    return jax.jit(lora.merge, out_shardings=out)(frozen, params)


def left_out(frozen: lora.Frozen | None, parents: dict[str, str]) -> dict[str, str | None]:
    """What the host state of a checkpoint says of the base that it leaves out: {"base": digest}."""
    return {"base": None if frozen is None else parents["base"]}


def same_base(
    path: os.PathLike[str],
    host: dict[str, Any],
    frozen: lora.Frozen | None,
    parents: dict[str, str],
) -> None:
    """Raises ValueError when the checkpoint at `path`, with host state `host`, left out another."""
    base = left_out(frozen, parents)["base"]
    if host.get("base") != base:
        raise ValueError(
            f"{path} holds adapters of the base with digest {host.get('base')}, but config.base "
            f"has {base}; bring the former back to its place"
        )
