"""Memory as the compiler allots it, on a CPU and, with libtpu, on both sides of a chip's limit."""

from importlib import util

import jax
import jax.numpy as jnp
import pytest

from r1_jax.pipeline import chips, plan_compile
from r1_jax.sharding import mesh as meshes

needs_libtpu = pytest.mark.skipif(util.find_spec("libtpu") is None, reason="make plan-deps")


def _wide(num_rows, devices):
    """(a phase whose temporaries grow with its rows, each of 16 KiB, and split; its mesh)."""
    mesh = meshes.make_mesh(fsdp=len(devices), devices=devices)
    split = jax.NamedSharding(mesh, jax.P("fsdp"))
    x = jax.ShapeDtypeStruct((len(devices) * num_rows, 4096), jnp.float32, sharding=split)
    w = jax.ShapeDtypeStruct(
        (2, 4096, 4096), jnp.float32, sharding=jax.NamedSharding(mesh, jax.P())
    )

    @jax.grad
    def loss(x, w):
        return jnp.sum(jax.lax.scan(jax.checkpoint(lambda c, w: (jnp.tanh(c @ w), None)), x, w)[0])

    return lambda: jax.jit(loss).lower(x, w), mesh


@pytest.fixture
def all_cached():
    """Every program that is compiled stands in the compilation cache, however quick that was."""
    was = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", was)


def test_memory_is_what_the_compiler_allots(all_cached):
    lower, mesh = _wide(512, jax.devices()[:2])
    found = plan_compile.compile_phase("wide", lower, 1.0, mesh)
    assert found.memory["arguments"] == pytest.approx((512 + 2 * 4096) * 2**14, rel=0.01)
    assert found.memory["results"] == pytest.approx(512 * 2**14, rel=0.01)
    assert found.memory["beside"] == 1
    # a second time, too: a program from the compilation cache would have no report
    assert plan_compile.compile_phase("wide", lower, 1.0, mesh).memory == found.memory
    temporaries = lower().compile().memory_analysis().temp_size_in_bytes  # exact on a CPU
    assert found.memory["temporaries"] == pytest.approx(temporaries, rel=0.01)


@needs_libtpu
def test_memory_is_what_the_compiler_holds_against_the_chip():
    where = chips.describe("v5e:2x2")
    limit = where.chip.hbm_bytes

    def compiled(num_rows):
        lower, mesh = _wide(int(num_rows), where.devices)
        return plan_compile.compile_phase("wide", lower, 0.0, mesh)

    one = sum(compiled(100_000).memory.values()) / 100_000  # bytes a row
    assert compiled(0.97 * limit / one).program is not None
    too_large = compiled(1.03 * limit / one)
    assert too_large.program is None
    assert too_large.memory["refused"] == pytest.approx(1.03 * limit, rel=0.02)


@pytest.mark.parametrize(
    ("message", "gib"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
         "temporaries (16.62G) exceeds available HBM (15.75G).", 16.62),
        ("RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: XLA:TPU compile permanent error. Ran out "
         "of memory in memory space hbm. Used 1.5T of 15.75G hbm. Exceeded by much.", 1536),
    ],
)  # fmt: skip
def test_what_was_refused_is_read_from_the_refusal(message, gib):
    assert plan_compile.refused(message) == pytest.approx(gib * 2**30)
    with pytest.raises(RuntimeError, match="the compiler failed: INTERNAL"):
        plan_compile.refused("INTERNAL: " + message.removeprefix("RESOURCE_EXHAUSTED: "))


def test_a_refusal_for_another_memory_is_an_error():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 32.42M of 16.00M vmem."
    )
    with pytest.raises(RuntimeError, match="vmem"):
        plan_compile.refused(message)
