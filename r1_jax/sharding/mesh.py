"""Meshes from sizes, and the context in which a program is traced for one."""

import contextlib
import contextvars
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.experimental import mesh_utils

from r1_jax.sharding import axes


@dataclasses.dataclass(frozen=True)
class Active:
    """The mesh and the rules a program is being traced for."""

    mesh: jax.sharding.Mesh
    rules: axes.Rules


_active: contextvars.ContextVar[Active | None] = contextvars.ContextVar("r1_mesh", default=None)


def enough_threads() -> None:
    """Two threads for each CPU device that jax was asked for, where the machine has fewer cores.

    Comes before any use of devices. XLA launches the programs of all CPU devices from one pool, of
    a thread for each device or core, and both kinds of waiting hold one: for the other devices of a
    collective, and for room among the 32 programs that may be under way. With one thread a device,
    a caller that runs ahead of its devices fills the pool with waiting, and the process aborts
    (seen with jax 0.10.2). A PJRT_NPROC that is set already is left alone.
    """
    num_devices = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
    if num_devices > 1:
        os.environ.setdefault("PJRT_NPROC", str(max(2 * num_devices, os.cpu_count() or 1)))


def make_mesh(
    data: int = 1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[Any] | None = None,
    *,
    expert: int = 1,
    context: int = 1,
) -> jax.sharding.Mesh:
    """Mesh of data x fsdp x tensor devices with axes "data", "fsdp", "tensor", all of type Auto.

    expert, context: devices of further axes of these names, which the mesh lacks where they are 1.

    devices: which jax.Devices to use, all of the program's by default; every one is used.
    Raises ValueError when the sizes do not multiply to the number of devices, and for devices of
    several slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor, "expert": expert}
    sizes["context"] = context
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"mesh axis {name}={size} must be at least 1")
    for name in axes.OPTIONAL:
        if sizes[name] == 1:
            del sizes[name]
    if math.prod(sizes.values()) != len(devices):
        product = "*".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(
            f"{product} makes {math.prod(sizes.values())} devices, but there are {len(devices)}; "
            f"use {' or '.join(_fitting(sizes, len(devices)))}"
        )
    num_slices = len({getattr(device, "slice_index", 0) for device in devices})
    if num_slices > 1:
        raise ValueError(
            f"the devices are those of {num_slices} slices; a mesh has one slice's: start the run "
            "on one"
        )
    # An axis may take a part of a dimension of the torus: jax.make_mesh allows it on v5e alone.
    placed = mesh_utils.create_device_mesh(
        tuple(sizes.values()), devices, allow_split_physical_axes=True
    )
    auto = (jax.sharding.AxisType.Auto,) * len(sizes)
    return jax.sharding.Mesh(placed, tuple(sizes), axis_types=auto)


def _fitting(sizes: dict[str, int], num_devices: int) -> list[str]:
    """Sizes that use `num_devices`, one axis away from `sizes` where that is possible."""
    options = []
    for name in sizes:
        others = math.prod(size for other, size in sizes.items() if other != name)
        if num_devices % others == 0:
            options.append(sizes | {name: num_devices // others})
    options = options or [dict.fromkeys(sizes, 1) | {"data": num_devices}]
    return [" ".join(f"{name}={size}" for name, size in option.items()) for option in options]


@contextlib.contextmanager
def activate(mesh: jax.sharding.Mesh, rules: axes.Rules = axes.RULES) -> Iterator[Active]:
    """Traces and runs the body for `mesh`: `place.constrain` and linen's boxes obey `rules`.

    Entered once, by the loop, around everything that calls jitted functions. A function that was
    traced under one mesh is traced again under another; under the same mesh with other rules it
    is not, so one program uses one table: these, or those it is traced `under`. Raises ValueError
    for rules that name an axis which the mesh does not have.
    """
    for name in rules:
        for axis in axes.mesh_axes(name, rules, mesh.axis_names):
            if axis not in mesh.axis_names:
                raise ValueError(
                    f"the rules map {name!r} to mesh axis {axis!r}; the mesh has {mesh.axis_names}"
                )
    with jax.set_mesh(mesh), _ruled(mesh, rules) as active:
        yield active


@contextlib.contextmanager
def _ruled(mesh: jax.sharding.Mesh, rules: axes.Rules) -> Iterator[Active]:
    active = Active(mesh, rules)
    # linen does not know that an axis may be absent
    present = {name: axes.mesh_axes(name, rules, mesh.axis_names) or None for name in rules}
    token = _active.set(active)
    try:
        with nn.logical_axis_rules(tuple(present.items())):
            yield active
    finally:
        _active.reset(token)


@contextlib.contextmanager
def under(rules: axes.Rules) -> Iterator[None]:
    """Traces the body, a whole jitted function's, by `rules` on the active mesh, if one is."""
    active = current()
    with _ruled(active.mesh, rules) if active else contextlib.nullcontext():
        yield


def current() -> Active | None:
    """What `activate` set, or None outside of it.

    Raises RuntimeError when a mesh was set by other means: constraints would be dropped silently.
    """
    active = _active.get()
    if active is None and not jax.sharding.get_abstract_mesh().empty:
        raise RuntimeError(
            "a mesh is set but no sharding rules are; enter sharding.mesh.activate(mesh, rules) "
            "instead of jax.set_mesh(mesh)"
        )
    return active


def is_of_tpus() -> bool:
    """Whether the program is being traced for a mesh of TPUs, attached or merely described."""
    active = current()
    return active is not None and active.mesh.devices.flat[0].platform == "tpu"


def is_of_gpus() -> bool:
    """Whether the program is being traced for NVIDIA's GPUs: the active mesh's, else those here."""
    return _platform() in ("gpu", "cuda")  # those at hand, and described ones


def is_of_cpus() -> bool:
    """Whether the program is being traced for CPUs: the active mesh's, else those at hand."""
    return _platform() == "cpu"


def _platform() -> str:
    active = current()
    return jax.default_backend() if active is None else active.mesh.devices.flat[0].platform
