"""FLOPs, traffic and collectives of compiled programs against arithmetic by hand."""

import jax
import jax.numpy as jnp
import pytest

from r1_jax.pipeline import program_cost, program_text
from r1_jax.sharding import mesh as meshes


def _cost(f, *arguments, mesh_shape=None, trips=(), turns=1.0):
    program = program_text.read(jax.jit(f).lower(*arguments).compile().as_text())
    return program_cost.of_program(program, mesh_shape or {"data": 1}, trips, turns)


def test_a_scan_of_products_costs_its_body_times_its_length():
    def f(x, ws):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0]

    outside, inside = _cost(f, jnp.zeros((16, 32)), jnp.zeros((12, 32, 32)))
    assert outside.flops == 12 * 2 * 16 * 32 * 32
    assert inside.flops == 0
    # at least each matrix once; at most the few arrays of a step, not all twelve at every step
    assert 12 * 32 * 32 * 4 <= outside.hbm_bytes <= 12 * 6 * 32 * 32 * 4


def test_a_loop_that_only_the_run_can_end_is_apart_and_counted_as_told():
    def f(x, w, n):
        def step(carry):
            i, x = carry
            return i + 1, jnp.tanh(x @ w)

        return jax.lax.while_loop(lambda c: c[0] < n, step, (0, x @ w))[1]

    outside, inside = _cost(f, jnp.zeros((16, 32)), jnp.zeros((32, 32)), 3, trips=(5,))
    assert outside.flops == 2 * 16 * 32 * 32
    assert inside.flops == 5 * 2 * 16 * 32 * 32


def test_a_loop_of_unknown_length_within_a_scan_turns_as_told_and_is_not_apart():
    def f(x, ws, n):
        def layer(x, w):
            return jax.lax.fori_loop(0, n, lambda i, x: jnp.tanh(x @ w), x), None

        return jax.lax.scan(layer, x, ws)[0]

    given = jnp.zeros((16, 32)), jnp.zeros((6, 32, 32)), 3
    outside, inside = _cost(f, *given, trips=(5,), turns=4)
    assert outside.flops == 6 * 4 * 2 * 16 * 32 * 32
    assert inside.flops == 0


def test_of_branches_the_dearest_is_counted():
    def f(i, x, w):
        return jax.lax.switch(i, [lambda: x, lambda: x @ w, lambda: x @ w @ w])

    outside, _ = _cost(f, 1, jnp.zeros((32, 32)), jnp.zeros((32, 32)))
    assert outside.flops == 2 * 2 * 32**3


def test_collectives_are_counted_by_the_mesh_axes_they_span():
    mesh = meshes.make_mesh(data=2, fsdp=4)
    whole, split = jax.NamedSharding(mesh, jax.P()), jax.NamedSharding(mesh, jax.P("fsdp"))
    x = jax.device_put(jnp.zeros((64, 32)), split)
    program = jax.jit(lambda x: x * 1.5, out_shardings=whole).lower(x).compile().as_text()
    shape = {"data": 2, "fsdp": 4, "tensor": 1}
    outside, _ = program_cost.of_program(program_text.read(program), shape)
    # of 8 KiB, each device has a quarter and passes on three
    assert outside.sent == {("fsdp",): 64 * 32 * 4 * 3 / 4}


@pytest.mark.parametrize(
    ("attributes", "axes", "size"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", ("fsdp", "tensor"), 4),
        ("replica_groups=[4,2]<=[8]", ("tensor",), 2),
        ("replica_groups=[2,4]<=[2,2,2]T(1,0,2)", ("data", "tensor"), 4),
        ("replica_groups=[1,8]<=[8]", ("data", "fsdp", "tensor"), 8),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", ("data", "fsdp"), 4),
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(2)2}", ("fsdp",), 2),
        ("source_target_pairs={{0,4},{4,0}}", ("data",), 2),
        ("source_target_pairs={{0,0},{1,3},{3,1}}", ("fsdp",), 2),
    ],
)
def test_groups_in_every_way_they_are_written(attributes, axes, size):
    shape = {"data": 2, "fsdp": 2, "tensor": 2}
    assert program_cost.groups(attributes, shape) == (axes, size)


def test_products_as_a_tpu_writes_them_are_windows_whose_padding_costs_nothing():
    # [4096, 3584] times [3584, 28, 128]: heads are a window of 28 that slides over one place
    text = """ENTRY %main (a: bf16[4096,3584,1], b: bf16[3584,28,128]) -> bf16[4096,28,128] {
  %a = bf16[4096,3584,1]{1,0,2} parameter(0)
  %b = bf16[3584,28,128]{2,1,0} parameter(1)
  ROOT %c = bf16[4096,28,128]{0,2,1} convolution(%a, %b), window={size=28 pad=27_27 rhs_reversal=1}, dim_labels=bf0_i0o->b0f
}
"""  # noqa: E501
    outside, _ = program_cost.of_program(program_text.read(text), {"data": 1})
    assert outside.flops == 2 * 4096 * 3584 * 28 * 128


def test_the_attention_kernel_costs_the_blocks_it_looks_at():
    text = """ENTRY %main (q: bf16[4,1024,64], k: bf16[2,1024,64], v: bf16[2,1024,32]) -> bf16[4,1024,32] {
  %q = bf16[4,1024,64]{2,1,0} parameter(0)
  %k = bf16[2,1024,64]{2,1,0} parameter(1)
  %v = bf16[2,1024,32]{2,1,0} parameter(2)
  ROOT %splash_mha_fwd_segmented.1 = bf16[4,1024,32]{2,1,0} custom-call(%q, %k, %v), custom_call_target="tpu_custom_call"
}
"""  # noqa: E501
    outside, _ = program_cost.of_program(program_text.read(text), {"data": 1})
    pairs = 4 * (1024 * 1024 * 3 / 4)  # of four blocks of 512 x 512, three
    assert outside.flops == 2 * pairs * (64 + 32)


def test_a_part_fetched_ahead_is_read_and_not_what_it_is_a_part_of():
    text = """ENTRY %main (x: bf16[64,128]) -> bf16[16,128] {
  %x = bf16[64,128]{1,0} parameter(0)
  %s = ((bf16[64,128]{1,0}), bf16[16,128]{1,0:T(8,128)S(1)}, s32[]) slice-start(%x), slice={[0:16]}
  ROOT %r = bf16[16,128]{1,0:T(8,128)S(1)} slice-done(%s)
}
"""
    outside, _ = program_cost.of_program(program_text.read(text), {"data": 1})
    assert outside.hbm_bytes == 16 * 128 * 2


def test_a_collective_spread_over_several_fusions_is_sent_once():
    part = """%{name} (x: bf16[16,128]) -> bf16[64,128] {{
  %x.{name} = bf16[16,128] parameter(0)
  %gather.{name} = bf16[64,128] all-gather(%x.{name}), replica_groups={{{{0,1,2,3}}}}
}}
"""
    beside = "async_collective_fusion.2"
    parts = [part.format(name=name) for name in ("begun", beside, "ended")]
    both = "bf16[16,128], bf16[64,128]"
    on = f"output_to_operand_aliasing={{{{1}}: (0, {{}}), {{2}}: (1, {{}})}}, calls=%{beside}"
    end = "output_to_operand_aliasing={{}: (0, {})}, calls=%ended"
    entry = f"""ENTRY %main (x: bf16[16,128]) -> bf16[64,128] {{
  %x = bf16[16,128] parameter(0)
  %async-collective-start.1 = ({both}) fusion(%x), kind=kCustom, calls=%begun
  %a = bf16[16,128] get-tuple-element(%async-collective-start.1), index=0
  %b = bf16[64,128] get-tuple-element(%async-collective-start.1), index=1
  %fusion.2 = (bf16[8,8], {both}) fusion(%a, %b), kind=kOutput, {on}
  %c = bf16[64,128] get-tuple-element(%fusion.2), index=2
  ROOT %async-collective-done.1 = bf16[64,128] fusion(%c), kind=kCustom, {end}
}}
"""
    program = program_text.read("".join(parts) + entry)
    outside, _ = program_cost.of_program(program, {"data": 1, "fsdp": 4})
    assert outside.sent == {("fsdp",): 64 * 128 * 2 * 3 / 4}
    # the share read and, with it, the whole written; the product's own result; nothing at the end
    assert outside.hbm_bytes == 2 * (2 * 16 * 128 + 64 * 128 + 8 * 8)


def test_rows_added_in_place_are_read_and_written_and_not_what_they_are_added_to():
    program = program_text.read("""
HloModule added

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}

%added (p: f32[1000,8], i: s32[4,1], u: f32[4,8]) -> f32[1000,8] {
  %p = f32[1000,8] parameter(0)
  %i = s32[4,1] parameter(1)
  %u = f32[4,8] parameter(2)
  ROOT %add = f32[1000,8] scatter(%p, %i, %u), update_window_dims={1}, to_apply=%sum
}

ENTRY %main (x: f32[1000,8], i: s32[4,1], u: f32[4,8]) -> f32[1000,8] {
  %x = f32[1000,8] parameter(0)
  %i = s32[4,1] parameter(1)
  %u = f32[4,8] parameter(2)
  ROOT %f = f32[1000,8] fusion(%x, %i, %u), kind=kCustom, calls=%added
}
""")
    outside, _ = program_cost.of_program(program, {"x": 1})
    # numbers and new rows are read, old rows are read and written
    assert outside.hbm_bytes == 4 * (4 + 3 * 4 * 8)
