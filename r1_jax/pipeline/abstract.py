"""A run's arrays as shapes and places, none allocated: what its functions are lowered with."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from r1_jax.core import keys, types
from r1_jax.data import packing
from r1_jax.models import lora, transformer
from r1_jax.pipeline import assemble, experiment, relayout
from r1_jax.sharding import place
from r1_jax.training import by_length, supervised


def params(config: experiment.ExperimentConfig, mesh: jax.sharding.Mesh) -> Any:
    """The model's parameters on the mesh. Call it outside of `activate`, which would place them."""

    def fresh(init):
        return jax.eval_shape(lambda: init(config.model, keys.root(0)))

    shardings = place.shardings(fresh(transformer.init_boxed), mesh)
    return jax.tree.map(_at, fresh(transformer.init), shardings)


def beside(
    config: experiment.ExperimentConfig, of: Any, mesh: jax.sharding.Mesh
) -> tuple[lora.Frozen | None, Any]:
    """(None, `of`), or with config.lora (the parameters `of` frozen, adapters beside them)."""
    if config.lora is None:
        return None, of

    def fresh(init):
        return jax.eval_shape(lambda: init(config.model, config.lora, keys.root(0)))

    shardings = place.shardings(fresh(lora.init_boxed), mesh)
    frozen = lora.Frozen(of, config.lora.alpha / config.lora.rank)
    return frozen, jax.tree.map(_at, fresh(lora.init), shardings)


def relaid(config: experiment.ExperimentConfig, of: Any) -> Any:
    """The parameters `of` as the sampler gets them."""
    model, weights = config.model, config.sampling.weights
    shapes = jax.eval_shape(lambda given: relayout.cast(model, given, weights), of)
    return jax.tree.map(_at, shapes, relayout.shardings(model, of, weights))


def state(of: Any, tx, mesh: jax.sharding.Mesh) -> tuple[Any, Any]:
    """(a TrainState on the parameters `of`, its shardings)."""
    shapes, shardings = assemble.state_shardings(of, tx, mesh)
    return jax.tree.map(_at, shapes, shardings), shardings


def prompts(config: experiment.ExperimentConfig, mesh) -> types.PromptBatch:
    num = config.grpo.prompts_per_rollout
    rows = partial(_rows, mesh)
    return types.PromptBatch(rows(num, config.grpo.max_prompt), rows(num), rows(num))


def key() -> Any:
    return jax.eval_shape(lambda: keys.root(0))


def scalar() -> Any:
    return jax.ShapeDtypeStruct((), jnp.int32)


def scored_rows(config: experiment.ExperimentConfig, mesh) -> by_length.Rows:
    """All completions of a rollout."""
    num, length = _completions(config)
    rows = partial(_rows, mesh)
    return by_length.Rows(rows(num, length), rows(num), rows(num))


def policy_batch(config: experiment.ExperimentConfig, mesh) -> tuple[types.PolicyBatch, Any]:
    """(a rollout as the update gets it, the rows of one minibatch)."""
    num, length = _completions(config)
    rows, cfg = partial(_rows, mesh), config.grpo
    logps = rows(num, length, dtype=jnp.float32)
    batch = types.PolicyBatch(
        tokens_BT=rows(num, length),
        prompt_length_B=rows(num),
        length_B=rows(num),
        behavior_logps_BT=logps,
        old_logps_BT=logps if cfg.importance_cap else None,
        reference_logps_BT=logps if cfg.kl_coef else None,
        advantage_B=rows(num, dtype=jnp.float32),
        include_B=rows(num, dtype=jnp.bool_),
        chosen_BTLX=_chosen(config, num, length, mesh),
    )
    return batch, jax.ShapeDtypeStruct((num // cfg.num_minibatches,), jnp.int32)


def _chosen(config: experiment.ExperimentConfig, num: int, length: int, mesh) -> Any:
    """The experts that the sampler chose, where the learner replays them."""
    model = config.model
    if not config.replays_routing or model.experts is None:
        return None
    layers = model.num_layers - model.num_dense_layers
    return _rows(mesh, num, length, layers, model.experts.num_chosen, dtype=jnp.int16)


def packed(loop: supervised.SupervisedConfig, mesh) -> packing.Packed:
    """One batch of packed rows."""
    shape = loop.batch_rows, loop.row_length
    ids = _rows(mesh, *shape)
    return packing.Packed(ids, ids, ids, _rows(mesh, *shape, dtype=jnp.float32))


def bytes_per_chip(tree: Any) -> float:
    """Of arrays with shardings."""
    leaves = [x for x in jax.tree.leaves(tree) if getattr(x, "sharding", None) is not None]
    return sum(
        x.dtype.itemsize * float(_size(x.sharding.shard_shape(tuple(x.shape)))) for x in leaves
    )


def bytes_of(tree: Any) -> float:
    """Of whole arrays, as a checkpoint holds them."""
    return sum(x.dtype.itemsize * float(_size(x.shape)) for x in jax.tree.leaves(tree))


def _size(shape) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _completions(config: experiment.ExperimentConfig) -> tuple[int, int]:
    cfg = config.grpo
    return cfg.prompts_per_rollout * cfg.group_size, cfg.max_prompt + cfg.max_response


def _at(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _rows(mesh, *shape: int, dtype: Any = jnp.int32):
    rows = place.batch_sharding(mesh).spec[0]
    spec = jax.P(rows, *[None] * (len(shape) - 1))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(mesh, spec))
