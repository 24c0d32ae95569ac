"""A compiled program's text, read: computations, instructions, the arrays they touch.

XLA prints one instruction a line: `%name = shape opcode(%operand, ...), attributes`. The text is of
one device, after partitioning and fusion, so collectives and memory traffic stand in it.
"""

import math
import re
from typing import NamedTuple

BITS = {
    "pred": 8, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16, "s32": 32, "u32": 32,
    "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64, "s4": 4, "u4": 4,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")


class Array(NamedTuple):
    """An array as the text writes it."""

    dims: tuple[int, ...]
    num_bytes: float
    in_hbm: bool  # False in the chip's vector memory, S(n) in the layout


class Instruction(NamedTuple):
    name: str
    arrays: tuple[Array, ...]  # the result's
    opcode: str
    operands: tuple[str, ...]
    inside: str  # what stands between the parentheses
    attributes: str
    is_root: bool


Computation = dict[str, Instruction]


class Program(NamedTuple):
    computations: dict[str, Computation]
    entry: str


def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape, a tuple's one after the other."""
    found = []
    for dtype, dims, layout in _ARRAY.findall(shape):
        if dtype not in BITS:
            continue
        sizes = tuple(int(d) for d in dims.split(",") if d)
        in_hbm = "S(" not in layout
        found.append(Array(sizes, math.prod(sizes) * BITS[dtype] / 8, in_hbm))
    return tuple(found)


def _balanced(text: str, start: int) -> int:
    """The index after the parenthesis that closes the one at `start`."""
    depth = 0
    for match in re.finditer(r"[()]", text[start:]):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return start + match.end()
    return len(text)


def _instruction(line: str) -> Instruction | None:
    head, equals, rest = line.strip().partition(" = ")
    if not equals:
        return None
    is_root = head.startswith("ROOT ")
    name = head.removeprefix("ROOT ").lstrip("%")
    end = _balanced(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opens = rest.find("(")
    if opens < 0:
        return None
    closes = _balanced(rest, opens)
    inside = rest[opens + 1 : closes - 1]
    operands = tuple(_NAME.findall(_COMMENT.sub("", inside)))
    return Instruction(
        name, arrays(shape), rest[:opens].strip(), operands, inside, rest[closes:], is_root
    )


def read(text: str) -> Program:
    """The program that `compiled.as_text()` prints."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.endswith("{") and ("->" in line) and not line.startswith(" "):
            name = line.removeprefix("ENTRY ").lstrip("%").split(" ", 1)[0]
            current = computations[name] = {}
            if line.startswith("ENTRY "):
                entry = name
        elif line.rstrip() == "}":  # alone: attributes of a kernel may go on over lines
            current = None
        elif current is not None and (found := _instruction(line)) is not None:
            current[found.name] = found
    return Program(computations, entry)


def called(instruction: Instruction, attribute: str) -> list[str]:
    """Names of the computations under `attribute`, such as body, calls, branch_computations."""
    match = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%[\w.\-]+)", instruction.attributes)
    return _NAME.findall(match[1]) if match else []


def trip_count(program: Program, loop: Instruction) -> int | None:
    """How often a while loop runs, where the text says so; None where only the run can tell."""
    match = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    if match:
        return int(match[1])
    (name,) = called(loop, "condition")
    condition = program.computations[name]
    (root,) = (i for i in condition.values() if i.is_root)
    if root.opcode == "fusion":  # a comparison in a fusion of its own
        (inner,) = called(root, "calls")
        if any(i.opcode in ("and", "or") for i in program.computations[inner].values()):
            return None
        compared = [i for i in program.computations[inner].values() if i.opcode == "compare"]
        root = compared[0]._replace(operands=root.operands) if compared else root
    if root.opcode != "compare" or "direction=LT" not in root.attributes:
        return None
    for operand in root.operands:
        found = condition.get(operand)
        if found is not None and found.opcode == "constant" and found.inside.isdigit():
            counters = [condition.get(name) for name in root.operands if name != operand]
            return -(-int(found.inside) // _step(program, loop, counters[0] if counters else None))
    return None


def _step(program: Program, loop: Instruction, counter: Instruction | None) -> int:
    """What a turn adds to a loop's counter, which begins at 0: 2 where two turns are made one."""
    index = re.search(r"\bindex=(\d+)", counter.attributes) if counter else None
    body = program.computations[called(loop, "body")[0]]
    (root,) = (i for i in body.values() if i.is_root)
    if index is None or root.opcode != "tuple":
        return 1
    following = body.get(root.operands[int(index[1])])
    if following is None or following.opcode != "add":
        return 1
    added = [body[name].inside for name in following.operands if body[name].opcode == "constant"]
    return int(added[0]) if added and added[0].isdigit() else 1
