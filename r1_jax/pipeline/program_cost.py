"""What a compiled program costs one device: FLOPs, bytes of HBM, bytes sent by mesh axis.

XLA's own cost analysis counts a loop's body once; here every computation is counted as often as it
runs. FLOPs are those of matrix products (and kernels we know); all else is counted by its bytes.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from r1_jax.pipeline import program_text as text

COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute", "collective-broadcast",
)  # fmt: skip
FREE = frozenset((
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "copy-done", "opt-barrier", "add-dependency",
))  # fmt: skip


@dataclasses.dataclass
class Cost:
    """Sums over a program's run on one device."""

    flops: float = 0.0
    hbm_bytes: float = 0.0
    sent: dict[tuple[str, ...], float] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(float)
    )  # mesh axes that the groups of a collective span -> bytes a device sends

    def add(self, other: "Cost", times: float = 1.0) -> None:
        self.flops += times * other.flops
        self.hbm_bytes += times * other.hbm_bytes
        for axes, num_bytes in other.sent.items():
            self.sent[axes] += times * num_bytes


def of_program(
    program: text.Program,
    mesh_shape: dict[str, int],
    unknown_trips: Sequence[float] = (),
    unknown_turns: float = 1.0,
) -> tuple[Cost, Cost]:
    """(cost outside of loops whose length only the run can tell, cost inside of them).

    mesh_shape: the mesh's axes in order. unknown_trips: how often such loops run, from the outer
    to the inner; those nested deeper run once. unknown_turns: of such loops within a loop of known
    length, such as those of the layers, which are no part of what is "inside".
    """
    outside, inside = Cost(), Cost()
    turns = _Turns(unknown_turns)
    _walk(program, program.entry, 1.0, mesh_shape, list(unknown_trips), outside, inside, turns)
    return outside, inside


class _Turns(NamedTuple):
    """Of loops of unknown length within those of known length, and whether this is one of those."""

    number: float
    is_within: bool = False


def _walk(program, name, times, mesh_shape, trips, cost, inside, turns):
    """Adds a computation's cost to `cost`, that of loops of unknown length to `inside`."""
    computation = program.computations[name]
    for op in computation.values():
        if op.opcode in FREE:
            continue
        if op.opcode == "while":
            (body,) = text.called(op, "body")
            count = text.trip_count(program, op)
            if count is not None:
                within = turns._replace(is_within=True)
                _walk(program, body, times * count, mesh_shape, trips, cost, inside, within)
            elif turns.is_within:
                _walk(program, body, times * turns.number, mesh_shape, trips, cost, inside, turns)
            else:
                once = trips[0] if trips else 1.0
                _walk(program, body, times * once, mesh_shape, trips[1:], inside, inside, turns)
        elif op.opcode == "conditional":
            branches = text.called(op, "branch_computations") or (
                text.called(op, "true_computation") + text.called(op, "false_computation")
            )
            priced = []
            for branch in branches:
                one, of_loops = Cost(), Cost()
                _walk(program, branch, 1.0, mesh_shape, trips, one, of_loops, turns)
                priced.append((one.flops + of_loops.flops, one.hbm_bytes, one, of_loops))
            _, _, one, of_loops = max(priced, key=lambda p: p[:2])  # the one that costs most
            cost.add(one, times)
            inside.add(of_loops, times)
        elif op.opcode in ("call", "async-start"):
            for callee in text.called(op, "to_apply") + text.called(op, "calls"):
                _walk(program, callee, times, mesh_shape, trips, cost, inside, turns)
        elif not op.opcode.endswith(("-done", "-update")):
            cost.add(_instruction(program, computation, op, mesh_shape), times)


def _instruction(program, computation, op, mesh_shape) -> Cost:
    cost = Cost()
    opcode = op.opcode.removesuffix("-start")
    if opcode in COLLECTIVES:
        _send(cost, op, opcode, mesh_shape)
    callees = text.called(op, "calls") if op.opcode == "fusion" else []
    for callee in callees:
        is_cut = "scatter" in callee or "scatter" in op.name  # a reduction cut in the same kernel
        cost.add(_fused(program, callee, mesh_shape, is_cut, _goes_on(op)))
    cost.flops += _flops(program, computation, op)
    cost.hbm_bytes = _traffic(program, computation, op, callees)
    return cost


def _goes_on(op) -> bool:
    """Whether a fusion goes on with, or ends, a collective that one before it has begun.

    libtpu spreads a collective over the products beside which it runs; each part prints it whole.
    """
    if "async-collective-done" in op.name:
        return True
    return any(name.startswith("async_collective_fusion") for name in text.called(op, "calls"))


def _fused(program, name, mesh_shape, is_cut, goes_on) -> Cost:
    """FLOPs and collectives of a fusion, and of fusions within it; its traffic is its caller's."""
    cost, computation = Cost(), program.computations[name]
    for op in computation.values():
        cost.flops += _flops(program, computation, op)
        if op.opcode in COLLECTIVES and not goes_on:
            kind = "reduce-scatter" if is_cut and op.opcode == "all-reduce" else op.opcode
            _send(cost, op, kind, mesh_shape)
        if op.opcode == "fusion":
            for callee in text.called(op, "calls"):
                cost.add(_fused(program, callee, mesh_shape, is_cut, goes_on))
    return cost


def _traffic(program, computation, op, callees) -> float:
    """Bytes of HBM an instruction reads and writes; of what is cut out or written into, the cut."""
    if op.opcode == "dynamic-update-slice":
        update = computation.get(op.operands[1])
        return 2.0 * _hbm(update) if update else 0.0
    if op.opcode in ("dynamic-slice", "slice", "gather"):
        return 2.0 * _hbm(op)
    if op.opcode in ("slice-start", "dynamic-slice-start"):  # what it is cut from, then the cut
        cut = op.arrays[1]
        return cut.num_bytes * (2.0 if cut.in_hbm else 1.0)
    if not callees:
        read = sum(_hbm(computation.get(name)) for name in op.operands)
        arrays = op.arrays[:1] if op.opcode.endswith("-start") else op.arrays
        return read + sum(a.num_bytes for a in arrays if a.in_hbm)
    inner = program.computations[callees[0]]
    parameters = {i.inside: i for i in inner.values() if i.opcode == "parameter"}
    users = collections.defaultdict(list)
    for i in inner.values():
        for name in i.operands:
            users[name].append(i)
    total, updated = 0.0, 0.0
    # what a collective has gathered so far is handed on
    handed_on = re.findall(r"\{(\d*)\}: \((\d+),", op.attributes) if _goes_on(op) else []
    to_results = {int(result or 0) for result, _ in handed_on}
    from_operands = {int(operand) for _, operand in handed_on}
    for index, name in enumerate(op.operands):
        if index in from_operands:
            continue
        outer, parameter = computation.get(name), parameters.get(str(index))
        if outer is None or parameter is None or not _hbm(outer):
            continue
        inside, of_it = parameter.name, users[parameter.name]
        while len(of_it) == 1 and of_it[0].opcode == "bitcast":
            inside, of_it = of_it[0].name, users[of_it[0].name]
        if of_it and all(i.opcode in ("dynamic-slice", "slice", "gather") for i in of_it):
            total += min(_hbm(outer), sum(_size(i) for i in of_it))
        elif (
            len(of_it) == 1
            and of_it[0].opcode in ("dynamic-update-slice", "scatter")
            and of_it[0].operands[0] == inside
        ):
            is_added = of_it[0].opcode == "scatter"
            update = inner.get(of_it[0].operands[2 if is_added else 1])
            written = _size(update) if update else 0.0
            # In place: only the new part is written, and read before where something is added.
            total += written * (2.0 if is_added else 1.0)
            updated += _hbm(outer)
        else:
            total += _hbm(outer)
    written = sum(a.num_bytes for i, a in enumerate(op.arrays) if a.in_hbm and i not in to_results)
    return total + max(0.0, written - updated)


def _size(op) -> float:
    return sum(a.num_bytes for a in op.arrays)


def _hbm(op) -> float:
    return sum(a.num_bytes for a in op.arrays if a.in_hbm) if op else 0.0


def _flops(program, computation, op) -> float:
    def dims(index):
        found = computation.get(op.operands[index])
        return list(found.arrays[0].dims) if found and found.arrays else []

    if op.opcode == "dot":
        match = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", op.attributes)
        lhs = dims(0)
        inner = [lhs[int(d)] for d in match[1].split(",") if d] if match and lhs else []
        return 2.0 * math.prod(op.arrays[0].dims) * math.prod(inner)
    if op.opcode == "ragged-dot":
        return 2.0 * math.prod(dims(0)) * dims(1)[-1]
    if op.opcode == "convolution":
        return _convolution(dims(0), dims(1), op)
    if op.opcode == "custom-call":
        return _kernel(op, [dims(i) for i in range(len(op.operands))])
    return 0.0


def _kernel(op, operands) -> float:
    """FLOPs of the attention kernel: causal, in blocks; those on the diagonal are whole."""
    match = re.search(r"splash_m[hq]a_(fwd|dq|dkv)", op.name)
    if match is None:
        return 0.0
    # queries, keys and values are the first three arrays of rank 3 with positions and features
    large = [d for d in operands if len(d) >= 3 and d[-2] >= 128]
    (heads, num_queries, width), (_, num_keys, _), (_, _, value_width) = (d[-3:] for d in large[:3])
    pairs = heads * num_queries * (num_keys + 512) / 2 * math.prod(large[0][:-3])
    products = {"fwd": (1, 1), "dq": (2, 1), "dkv": (2, 2)}[match[1]]  # with keys, with values
    return 2.0 * pairs * (products[0] * width + products[1] * value_width)


def _convolution(lhs, rhs, op) -> float:
    """As XLA counts: pairs of output and window positions that meet an element of the input."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", op.attributes)
    if labels is None or not lhs or not rhs:
        return 0.0
    left, right, out = labels[1], labels[2], labels[3]
    window = dict(re.findall(r"(\w+)=([\d_x\-]+)", _within(op.attributes, "window")))
    spatial = sorted(c for c in left if c.isdigit())

    def numbers(key, default):
        if key not in window:
            return [default] * len(spatial)
        return [tuple(int(i) for i in n.split("_")) for n in window[key].split("x")]

    strides, pads = numbers("stride", (1,)), numbers("pad", (0, 0))
    left_dilation, right_dilation = numbers("lhs_dilate", (1,)), numbers("rhs_dilate", (1,))
    total = 2.0 * op.arrays[0].dims[out.index("b")] * op.arrays[0].dims[out.index("f")]
    total *= rhs[right.index("i")]
    for i, c in enumerate(spatial):
        size, base = rhs[right.index(c)], lhs[left.index(c)]
        place = np.arange(op.arrays[0].dims[out.index(c)])[:, None] * strides[i][0]
        place = place + np.arange(size)[None, :] * right_dilation[i][0] - pads[i][0]
        valid = (place >= 0) & (place < (base - 1) * left_dilation[i][0] + 1)
        total *= int(np.sum(valid & (place % left_dilation[i][0] == 0)))
    return total


def _within(attributes: str, key: str) -> str:
    match = re.search(rf"\b{key}=\{{([^}}]*)\}}", attributes)
    return match[1] if match else ""


def _send(cost: Cost, op, opcode: str, mesh_shape) -> None:
    axes, num_bytes = sent(op, opcode, mesh_shape)
    if num_bytes:
        cost.sent[axes] += num_bytes


def sent(op, opcode: str, mesh_shape) -> tuple[tuple[str, ...], float]:
    """(mesh axes of a collective's groups, bytes one device sends by the usual ring)."""
    axes, size = groups(op.attributes, mesh_shape)
    # -start carries its operands in its result; the larger of the two is what travels
    sizes = [a.num_bytes for a in op.arrays]
    whole = max(sizes) if op.opcode.endswith("-start") else sum(sizes)
    share = (size - 1) / size if size > 1 else 0.0
    if opcode == "all-reduce":
        return axes, 2 * whole * share
    if opcode == "reduce-scatter":  # its result is a part, unless it is an all-reduce still uncut
        return axes, whole * share * (size if op.opcode.startswith("reduce-scatter") else 1)
    if opcode == "collective-permute":
        return axes, whole
    return axes, whole * share


def groups(attributes: str, mesh_shape: dict[str, int]) -> tuple[tuple[str, ...], int]:
    """(mesh axes that vary within a collective's first group, the group's size)."""
    names, shape = list(mesh_shape), tuple(mesh_shape.values())
    first = _first_group(attributes, math.prod(shape))
    if first is None or not len(first):
        first = np.arange(math.prod(shape))
    coordinates = np.array(np.unravel_index(np.asarray(first), shape))
    varies = [name for name, c in zip(names, coordinates, strict=True) if len(set(c.tolist())) > 1]
    return tuple(varies), len(first)


def _first_group(attributes: str, num_devices: int):
    if match := re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", attributes):
        pairs = [(int(a), int(b)) for a, b in re.findall(r"(\d+),(\d+)", match[1])]
        return next((pair for pair in pairs if pair[0] != pair[1]), (0, 0))  # some keep their own
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return [int(i) for i in match[1].split(",") if i]
    number = r"\[([\d,]+)\]"
    if match := re.search(rf"replica_groups={number}<={number}(?:T\(([\d,]+)\))?", attributes):
        wanted, source, order = (
            [int(i) for i in (g or "").split(",") if i] for g in match.groups()
        )
        ids = np.arange(math.prod(source)).reshape(source)
        ids = ids.transpose(order) if order else ids
        return ids.reshape(wanted)[0]
    # mesh['axis_0'=16,'axis_1'=4] {'axis_0'}, with the order of its devices where that is another
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\]([^{]*)\{([^}]*)\}", attributes):
        sizes = [(n, int(s)) for n, s in re.findall(r"'(\w+)'=(\d+)", match[1])]
        ids = np.arange(math.prod(s for _, s in sizes))
        if order := re.search(rf"{number}(?:T\(([\d,]+)\))?", match[2]):
            source, turned = ([int(i) for i in (g or "").split(",") if i] for g in order.groups())
            ids = ids.reshape(source)
            ids = ids.transpose(turned) if turned else ids
        ids = ids.reshape([s for _, s in sizes])
        grouped = re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", match[3])
        for axis, (name, _) in reversed(list(enumerate(sizes))):
            parts = [g for g in grouped if g[0] == name]
            if not parts:
                ids = ids.take(0, axis=axis)
            elif parts[0][2]:  # a part of an axis: (what stands before it)its size
                before, part = int(parts[0][1]), int(parts[0][2])
                after = ids.shape[axis] // (before * part)
                ids = ids.take(np.arange(part) * after, axis=axis)
        return ids.ravel()
    return None
