"""Regions of a trace: operations find their scope, loops do not count what is inside."""

import types

import jax
import jax.numpy as jnp
import pytest

from r1_jax.metrics import regions


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("jit(f)/stack/while/body/closed_call/layer/norm/mul", "stack/layer/norm"),
        ("jit(f)/transpose(jvp(Transformer))/while/body/block/mlp/dot", "backward block/mlp"),
        ("jit(f)/transpose(jvp())/checkpoint/rematted_computation/head/dot", "again head"),
        ("jit(f)/while/cond/lt", "(wrapped_compare)"),
        ("", "(wrapped_compare)"),
    ],
)
def test_a_scope_is_a_name_without_what_says_how_it_is_run(name, region):
    assert regions.scope(name, "wrapped_compare.12") == region


def _event(start, duration, op, module="jit_f", **stats):
    stats = {"hlo_op": op, "hlo_module": module} | stats if op else stats
    return types.SimpleNamespace(
        name=op or "python", start_ns=start, duration_ns=duration, stats=list(stats.items())
    )


def test_a_loop_counts_without_what_is_inside_and_lines_add_up():
    loop = [
        _event(0, 100e9, "while.1"),
        _event(5e9, 30e9, "dot.1"),
        _event(40e9, 50e9, "dot.1"),
        _event(41e9, 9e9, "exp.2"),
        _event(0, 200e9, None),
        _event(100e9, 7e9, "dot.1"),
    ]
    other = [_event(50e9, 2e9, "dot.1"), _event(60e9, 1e9, "dot.1", module="jit_g")]
    lines = [types.SimpleNamespace(events=events) for events in (loop, other)]
    trace = types.SimpleNamespace(planes=[types.SimpleNamespace(lines=lines)])
    names = {("jit_f", "dot.1"): "jit(f)/mlp/dot_general", ("jit_f", "exp.2"): "jit(f)/mlp/exp"}
    found = regions.of_trace(trace, names)
    assert found == [
        ("jit_f", "mlp", 89.0, 5),  # 30 + (50 - 9) + 9 + 7 + 2
        ("jit_f", "(while)", 20.0, 1),
        ("jit_g", "(dot)", 1.0, 1),
    ]
    text = regions.table(found, num=2).splitlines()
    assert len(text) == 3 and text[1].split() == ["89.000", "80.9%", "5", "jit_f", "mlp"]


def test_a_program_that_runs_under_the_profiler_is_found_by_its_scopes(tmp_path):
    @jax.jit
    def lopsided(x):
        with jax.named_scope("heavy"):
            for _ in range(8):
                x = jnp.tanh(x @ x)
        with jax.named_scope("light"):
            return x + 1.0

    x = jnp.ones((512, 512))
    lopsided(x).block_until_ready()
    found = regions.traced(lambda: jax.block_until_ready(lopsided(x)), tmp_path)
    ours = [region for region in found if region.program == "jit_lopsided"]
    assert ours[0].scope == "heavy" and ours[0].seconds > 0
    assert sum(region.seconds for region in ours) < 60
    with pytest.raises(ValueError, match="holds no operation"):
        regions.traced(lambda: None, tmp_path)
