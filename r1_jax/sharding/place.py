"""Logical names -> NamedShardings and constraints; host rows <-> global arrays."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils

from r1_jax.sharding import axes
from r1_jax.sharding import mesh as mesh_lib


def partition_spec(
    names: Sequence[str | None],
    shape: Sequence[int],
    mesh: jax.sharding.Mesh,
    rules: axes.Rules,
    *,
    what: str,
) -> jax.P:
    """PartitionSpec of an array of `shape` whose dimensions carry the logical `names`.

    None as a name: a dimension that stays whole. what: the array's name, for the errors.
    Raises ValueError for an unknown name, a wrong number of names, a mesh axis used by two
    dimensions, and a dimension that does not divide over its mesh axes.
    """
    present = mesh.axis_names
    per_name = [() if name is None else axes.mesh_axes(name, rules, present) for name in names]
    if len(names) != len(shape):
        raise ValueError(
            f"{what} has shape {tuple(shape)} but {len(names)} axis names {tuple(names)}; "
            "give one name (or None) per dimension"
        )
    used: dict[str, str | None] = {}
    for name, size, split in zip(names, shape, per_name, strict=True):
        for axis in split:
            if axis in used:
                raise ValueError(
                    f"{what}: dimensions {used[axis]!r} and {name!r} would both be split over "
                    f"mesh axis {axis!r}; map one of them to another axis or to None"
                )
            used[axis] = name
        ways = math.prod(mesh.shape[axis] for axis in split)
        if size % ways:
            over = "*".join(f"{axis}={mesh.shape[axis]}" for axis in split)
            raise ValueError(
                f"{what}: dimension {name!r} of size {size} does not divide over {over}; use "
                f"a size of {-(-size // ways) * ways}, or a mesh with {'*'.join(split)} one of "
                f"{', '.join(str(d) for d in range(1, size + 1) if size % d == 0)}"
            )
    return jax.P(*(split[0] if len(split) == 1 else split or None for split in per_name))


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """`x`, laid out over the active mesh as its logical `names` say; `x` itself outside activate().

    A dimension of size 1 (a broadcast, a dummy batch) stays whole. Raises ValueError as
    `partition_spec` does, an unknown name always, and RuntimeError on a mesh without rules.
    """
    active = mesh_lib.current()
    if active is None:
        for name in names:
            if name is not None:
                axes.mesh_axes(name, axes.RULES)
        if len(names) != x.ndim:
            raise ValueError(f"an array of shape {x.shape} needs {x.ndim} axis names, got {names}")
        return x
    spec = activation_spec(x, names)
    return jax.lax.with_sharding_constraint(x, jax.NamedSharding(active.mesh, spec))


def activation_spec(x: jax.Array, names: Sequence[str | None]) -> jax.P:
    """How `constrain` lays out `x` over the active mesh; RuntimeError outside activate()."""
    active = mesh_lib.current()
    if active is None:
        raise RuntimeError("no mesh is active; enter sharding.mesh.activate(mesh, rules)")
    kept: list[str | None] = [
        None if size == 1 and name in active.rules else name
        for name, size in zip(names, x.shape, strict=False)
    ]
    kept += names[len(kept) :]
    return partition_spec(kept, x.shape, active.mesh, active.rules, what="an activation")


def ways(name: str) -> int:
    """Devices over which the active mesh splits the logical axis `name`; 1 outside activate()."""
    active = mesh_lib.current()
    if active is None:
        return 1
    split = axes.mesh_axes(name, active.rules, active.mesh.axis_names)
    return math.prod(active.mesh.shape[axis] for axis in split)


def shardings(tree: Any, mesh: jax.sharding.Mesh, rules: axes.Rules = axes.RULES) -> Any:
    """NamedSharding for every array of `tree`, in the structure of `nn.unbox(tree)`.

    tree: shapes and dtypes from `jax.eval_shape`, with linen's boxes (`nn.Partitioned` or
    `nn.LogicallyPartitioned`) still on; the names in both are logical. A scalar without a box is
    replicated. Raises ValueError, naming the leaf, as `partition_spec` does, and for an array of
    rank >= 1 without a box: silent replication is how memory gets lost.
    """

    def one(path: Any, leaf: Any) -> jax.NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if isinstance(leaf, nn.Partitioned):
            spec = partition_spec(leaf.names, leaf.value.shape, mesh, rules, what=name)
            return jax.NamedSharding(mesh, spec)
        if leaf.ndim:
            raise ValueError(
                f"{name} of shape {leaf.shape} has no axis names; initialise it with "
                "nn.with_logical_partitioning"
            )
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(
        one, tree, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned)
    )


def batch_sharding(mesh: jax.sharding.Mesh, rules: axes.Rules = axes.RULES) -> jax.NamedSharding:
    """Rows over the axes of "batch", all other dimensions whole; for arrays of any rank >= 1."""
    return jax.NamedSharding(mesh, jax.P(axes.mesh_axes("batch", rules, mesh.axis_names) or None))


def replicated(mesh: jax.sharding.Mesh) -> jax.NamedSharding:
    """The whole array on every device of `mesh`."""
    return jax.NamedSharding(mesh, jax.P())


def from_host(tree: Any, mesh: jax.sharding.Mesh, spec: jax.P) -> Any:
    """Global arrays of a pytree of NumPy arrays that every host holds whole and alike.

    spec: how each array is laid out, cut to the array's rank (so scalars are replicated); a host
    hands its devices their parts. Raises ValueError when a dimension does not divide.
    """

    def one(x: Any) -> jax.Array:
        x = np.asarray(x)
        sharding = jax.NamedSharding(mesh, jax.P(*spec[: x.ndim]))
        try:
            return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
        except ValueError as error:
            sizes = "*".join(f"{axis}={size}" for axis, size in mesh.shape.items())
            raise ValueError(
                f"rows of shape {x.shape} do not split as {sharding.spec} over the mesh {sizes}; "
                "use a number of rows that the split axes' sizes divide"
            ) from error

    return jax.tree.map(one, tree)


def to_host(tree: Any) -> Any:
    """NumPy copies of whole global arrays, the same on every host (a collective with several)."""

    def one(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            return np.asarray(multihost_utils.process_allgather(x, tiled=True))
        return np.asarray(x)

    return jax.tree.map(one, tree)
