"""What a checkpoint holds and says of itself: names, shapes and dtypes, host state, digest."""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp

from r1_jax.core import trees
from r1_jax.sharding import place


def json_able(host_state: Any) -> Any:
    """A copy of `host_state`. Raises ValueError unless JSON gives it back unchanged."""
    try:
        copy = json.loads(json.dumps(host_state, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"host_state cannot be written as JSON: {error}") from None
    if copy != host_state:
        raise ValueError(
            f"JSON does not give host_state back unchanged (tuples, keys that are not text): "
            f"{host_state!r:.300}"
        )
    return copy


def leaves(tree: Any) -> dict[str, list[Any]]:
    """{"a/b/c": [shape, dtype]} of arrays or ShapeDtypeStructs."""
    found = {}
    for name, leaf in trees.paths(tree).items():
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            raise ValueError(f"{name} is a {type(leaf).__name__}; a checkpoint holds jax.Arrays")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"{name} is a random key; keys are functions of seed and step (core/keys): "
                "none is ever saved"
            )
        found[name] = [list(leaf.shape), str(leaf.dtype)]
    return found


def check_leaves(path: os.PathLike[str], saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises ValueError naming the first leaf in which checkpoint and model differ."""
    way_out = (
        "use the config that the checkpoint was made with (config.json of its run), or another "
        "directory for this one"
    )
    for name, (shape, dtype) in wanted.items():
        if name not in saved:
            raise ValueError(f"{path} has no {name}, which this model needs; {way_out}")
        saved_shape, saved_dtype = saved[name]
        if saved_shape != shape or saved_dtype != dtype:
            raise ValueError(
                f"{path}: {name} is {saved_dtype}{saved_shape} in the checkpoint and "
                f"{dtype}{shape} in this model; {way_out}"
            )
    for name in saved:
        if name not in wanted:
            raise ValueError(f"{path} has {name}, which this model lacks; {way_out}")


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and place of an array; ValueError without a place."""
    if leaf.sharding is None:
        raise ValueError(
            f"{leaf} says not where it shall live; give jax.ShapeDtypeStruct(..., sharding=...)"
        )
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def digest(arrays: Any) -> str:
    """`trees.digest`, gathering first what other hosts hold."""
    whole = all(leaf.is_fully_addressable for leaf in jax.tree.leaves(arrays))
    return trees.digest(arrays if whole else place.to_host(arrays))
