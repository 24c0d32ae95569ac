"""What is read from a program's text: shapes, memory spaces, loops, kernels that span lines."""

from r1_jax.pipeline import program_text

TEXT = """HloModule jit_f, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%body (p: (s32[], bf16[2,8])) -> (s32[], bf16[2,8]) {
  %p = (s32[]{:T(128)}, bf16[2,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %kernel.3 = (f32[512,128]{1,0:T(8,128)}, bf16[28,4096,128]{2,1,0}) custom-call(%p, /*index=1*/%q), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{}"
}}, metadata={op_name="x"}
  ROOT %t = (s32[], bf16[2,8]) tuple(%p, %kernel.3)
}

%condition (c: (s32[], bf16[2,8])) -> pred[] {
  %c = (s32[], bf16[2,8]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %limit = s32[]{:T(128)} constant(28)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%open (c: (s32[], s32[])) -> pred[] {
  %c = (s32[], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %n = s32[] get-tuple-element(%c), index=1
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %w = (s32[], bf16[2,8]) while(%a), condition=%condition, body=%body
  %u = (s32[], s32[]) while(%a), condition=%open, body=%body
  %k = (s32[], s32[]) while(%a), condition=%open, body=%body, backend_config={"known_trip_count":{"n":"7"}}
  ROOT %r = f32[4]{0} copy(%a)
}
"""  # noqa: E501


def test_every_instruction_of_every_computation_is_read():
    program = program_text.read(TEXT)
    assert program.entry == "main"
    assert {name: len(c) for name, c in program.computations.items()} == {
        "body": 3, "condition": 4, "open": 4, "main": 5,
    }  # fmt: skip
    kernel = program.computations["body"]["kernel.3"]
    assert kernel.opcode == "custom-call" and kernel.operands == ("p", "q")
    assert kernel.arrays[1].dims == (28, 4096, 128)
    assert program.computations["body"]["t"].is_root


def test_bytes_and_the_memory_they_lie_in():
    scalar, matrix = program_text.read(TEXT).computations["body"]["p"].arrays
    assert (scalar.num_bytes, scalar.in_hbm) == (4, True)
    assert (matrix.num_bytes, matrix.in_hbm) == (2 * 8 * 2, False)


def test_a_loop_runs_as_often_as_its_condition_or_the_compiler_says():
    program = program_text.read(TEXT)
    main = program.computations["main"]
    counts = {name: program_text.trip_count(program, main[name]) for name in ("w", "u", "k")}
    assert counts == {"w": 28, "u": None, "k": 7}


def test_a_loop_whose_turns_were_joined_counts_by_more_than_one():
    text = """%pairs (p: (u32[], f32[8])) -> (u32[], f32[8]) {
  %p = (u32[], f32[8]{0}) parameter(0)
  %i = u32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %two = u32[] constant(2)
  %next = u32[] add(%i, %two)
  ROOT %t = (u32[], f32[8]{0}) tuple(%next, %x)
}
%below (p: (u32[], f32[8])) -> pred[] {
  %p = (u32[], f32[8]{0}) parameter(0)
  %i = u32[] get-tuple-element(%p), index=0
  %n = u32[] constant(9)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}
ENTRY %main (a: (u32[], f32[8])) -> (u32[], f32[8]) {
  %a = (u32[], f32[8]{0}) parameter(0)
  ROOT %w = (u32[], f32[8]{0}) while(%a), condition=%below, body=%pairs
}
"""
    program = program_text.read(text)
    assert program_text.trip_count(program, program.computations["main"]["w"]) == 5
