"""Meshes from sizes; what is active inside and outside of activate()."""

import dataclasses
import itertools
import os
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from r1_jax.sharding import axes, mesh


def test_mesh_has_the_asked_sizes_and_auto_axes():
    made = mesh.make_mesh(2, 1, 4)
    assert dict(made.shape) == {"data": 2, "fsdp": 1, "tensor": 4}
    assert set(made.axis_types) == {jax.sharding.AxisType.Auto}
    assert {device.id for device in made.devices.flat} == {d.id for d in jax.devices()}


def test_an_expert_axis_is_there_when_asked_for():
    made = mesh.make_mesh(2, 1, 2, expert=2)
    assert dict(made.shape) == {"data": 2, "fsdp": 1, "tensor": 2, "expert": 2}
    with mesh.activate(made):
        pass
    with pytest.raises(ValueError, match=r"expert=3 makes 3 .*use data=1 fsdp=1 tensor=1 expert=8"):
        mesh.make_mesh(expert=3)


def test_mesh_of_some_devices():
    made = mesh.make_mesh(fsdp=2, devices=jax.devices()[3:5])
    assert [device.id for device in made.devices.flat] == [3, 4]


@dataclasses.dataclass(frozen=True)
class _Chip:
    """What placing a mesh reads of a device of v5p."""

    id: int
    coords: tuple[int, ...]
    platform: str = "tpu"
    device_kind: str = "TPU v5"
    core_on_chip: int = 0
    process_index: int = 0
    slice_index: int = 0


def test_an_axis_may_take_a_part_of_a_torus_dimension(monkeypatch):
    monkeypatch.setattr(jax.sharding, "Mesh", lambda placed, names, axis_types: placed)
    chips = [_Chip(i, coords) for i, coords in enumerate(itertools.product(range(4), repeat=3))]
    placed = mesh.make_mesh(fsdp=8, expert=8, devices=chips)
    assert placed.shape == (1, 8, 1, 8)  # neither 4, 16 nor 64
    assert {chip.id for chip in placed.flat} == set(range(64))


_RUNS_AHEAD = """
import os, sys
import jax, numpy
from jax import numpy as jnp
from r1_jax.sharding import axes, mesh
jax.config.update("jax_num_cpu_devices", 2)
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
if sys.argv[1] == "enough":
    mesh.enough_threads()
two = mesh.make_mesh(fsdp=2)
split = jax.sharding.NamedSharding(two, jax.sharding.PartitionSpec("fsdp"))
whole = jax.sharding.NamedSharding(two, jax.sharding.PartitionSpec())
@jax.jit
def step(weights, x):
    y = sum(jnp.tanh(x @ jax.lax.with_sharding_constraint(w, whole)) for w in weights)
    total = y.sum(0)
    return [jax.lax.with_sharding_constraint(w + 1e-6 * total, split) for w in weights], total
local = jax.jit(lambda x: x * 1.0001)
both = jax.jit(lambda x, total: x.sum() + total.sum())
weights = [jax.device_put(numpy.ones((16, 16), "f"), split) for _ in range(6)]
x = jax.device_put(numpy.ones((16, 16), "f"), split)
for _ in range(2000):
    weights, total = step(weights, x)
    x, y, z = local(x), local(x), both(x, total)
print("done", total.shape)
"""


def _runs_ahead(threads):
    timeouts = "terminate_timeout_seconds=4 --xla_cpu_collective_call_warn_stuck_timeout_seconds=2"
    clean = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    return subprocess.run(
        [sys.executable, "-c", _RUNS_AHEAD, threads],
        env=clean | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_collective_call_" + timeouts},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_caller_that_runs_ahead_of_cpu_devices_does_not_hang():
    ran = _runs_ahead("enough")
    assert ran.stdout == "done (16,)\n", ran.stderr


def test_devices_of_two_slices_make_no_mesh():
    chips = [_Chip(i, (i, 0, 0), slice_index=i) for i in range(2)]
    with pytest.raises(ValueError, match="those of 2 slices"):
        mesh.make_mesh(fsdp=2, devices=chips)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((3, 1, 1), "makes 3 devices, but there are 8; use data=8 fsdp=1 tensor=1$"),
        ((2, 3, 2), "makes 12 devices, but there are 8; use data=2 fsdp=2 tensor=2$"),
        ((4, 1, 1), "use data=8 fsdp=1 tensor=1 or data=4 fsdp=2 tensor=1 or data=4 fsdp=1 tens"),
        ((5, 3, 7), "use data=8 fsdp=1 tensor=1$"),
        ((8, 0, 1), "fsdp=0 must be at least 1"),
        ((-8, 1, -1), "data=-8 must be at least 1"),
    ],
)
def test_impossible_sizes_name_the_ones_that_work(sizes, message):
    with pytest.raises(ValueError, match=message):
        mesh.make_mesh(*sizes)


def test_activate_sets_and_restores_even_after_an_error():
    assert mesh.current() is None
    made = mesh.make_mesh(2, 2, 2)
    with pytest.raises(KeyError), mesh.activate(made) as active:
        assert active.mesh is made and active.rules is axes.RULES
        assert mesh.current() is active
        assert jax.sharding.get_abstract_mesh() == made.abstract_mesh
        raise KeyError
    assert mesh.current() is None
    assert jax.sharding.get_abstract_mesh().empty


def test_rules_that_name_an_axis_the_mesh_lacks():
    with (
        pytest.raises(ValueError, match="'mlp' to mesh axis 'stage'"),
        mesh.activate(mesh.make_mesh(8), axes.RULES | {"mlp": "stage"}),
    ):
        pass


def test_what_a_program_is_traced_for_is_the_meshs(monkeypatch):
    assert mesh.is_of_cpus() and not mesh.is_of_tpus()
    described = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform="tpu")]))
    monkeypatch.setattr(mesh, "current", lambda: mesh.Active(described, axes.RULES))
    assert mesh.is_of_tpus() and not mesh.is_of_cpus() and not mesh.is_of_gpus()
    for name in ("gpu", "cuda"):  # one at hand, and one that is described
        described.devices[0].platform = name
        assert mesh.is_of_gpus() and not mesh.is_of_cpus() and not mesh.is_of_tpus()


def test_a_mesh_without_rules_is_an_error():
    with jax.set_mesh(mesh.make_mesh(8)), pytest.raises(RuntimeError, match="activate"):
        mesh.current()
