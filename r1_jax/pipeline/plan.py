"""A run priced on TPUs that are described, not attached: each phase compiled ahead of time.

The functions are those that a run compiles (`traced`), on the shapes of its arrays (`abstract`),
with the TPU's own compiler. Memory is what that compiler allots, and a program that it refuses
does not fit (`plan_compile`). FLOPs, traffic and collectives are read from the compiled program,
loops multiplied out (`program_cost`). Seconds are a roofline: the largest of FLOPs, HBM bytes and
interconnect bytes over the chip's ceilings (`chips`), all overlap assumed; a run is slower.
Completions are taken to be as long as they may be, so hours are an upper end of that bound. Pieces
of rows are compiled at their full length alone, the dearest branch.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from r1_jax.models import expert_rows, lora
from r1_jax.pipeline import (
    abstract,
    assemble,
    chips,
    experiment,
    plan_compile,
    program_cost,
    relayout,
    shapes,
    traced,
)
from r1_jax.training import optim, supervised

GIB = chips.GIB


def lower_rl(config: experiment.ExperimentConfig, mesh, num_steps: int) -> dict[str, Any]:
    """name -> (function that lowers the phase, bytes a chip that lie beside its arguments).

    Also "state": bytes of what a checkpoint holds.
    """
    if config.ppo is not None:
        raise ValueError("plan does not price a critic yet (config.ppo); leave ppo out")
    shapes.rows_that_split(config, mesh)
    assemble.gap_that_counts(config)
    frozen, trained = abstract.beside(config, abstract.params(config, mesh), mesh)
    params = lora.join_shapes(frozen, trained)
    tx = optim.make_optimizer(config.optim, num_steps)
    state, shardings = abstract.state(trained, tx, mesh)
    capacity = config.grpo.max_prompt + config.grpo.max_response
    loop = traced.make_traced(config, mesh, tx, shardings, lengths=(capacity,))
    shapeless = {"stop_ids": (0,), "pad_id": 0}
    generate = traced.make_generate(
        config, config.grpo.group_size, keep_routing=config.replays_routing, **shapeless
    )
    copies = bool(config.grpo.kl_coef) + config.grpo.one_step_off  # reference; what samples next
    kept = copies * abstract.bytes_per_chip(trained)
    held, of_params = abstract.bytes_per_chip((state, frozen)), abstract.bytes_per_chip(params)
    batch, order = abstract.policy_batch(config, mesh)
    rows = abstract.scored_rows(config, mesh)
    step, limit = abstract.scalar(), abstract.scalar()
    sampled = abstract.relaid(config, params)
    phases: dict[str, tuple[Callable[[], Any], float]] = {
        "relayout": (
            lambda: relayout.jitted(config.model, params, config.sampling.weights).lower(params),
            held - of_params + kept,
        ),
        "generate": (
            lambda: generate.lower(
                sampled, abstract.prompts(config, mesh), abstract.key(), step, limit
            ),
            held + kept,
        ),
    }
    if config.grpo.kl_coef:
        # what is frozen is among the arguments, and so is the reference
        own = abstract.bytes_per_chip(state) + kept - abstract.bytes_per_chip(trained)
        phases["reference scoring"] = lambda: loop.logps.lower(params, rows), own
    if config.grpo.importance_cap:
        beside = held - of_params + kept
        replayed = rows._replace(chosen_BTLX=batch.chosen_BTLX)
        phases["policy scoring"] = lambda: loop.logps.lower(params, replayed), beside
    phases["update"] = lambda: loop.update.lower(state, batch, order, frozen), kept
    saved = abstract.bytes_of(state) + copies * abstract.bytes_of(trained)
    return {"phases": phases, "resident": held + kept, "saved": saved}


def lower_supervised(
    config: experiment.ExperimentConfig, loop: supervised.SupervisedConfig, mesh
) -> dict[str, Any]:
    """As `lower_rl`, of next-token training on packed rows."""
    if loop.mtp_schedule or loop.teacher:
        raise ValueError("plan does not price mtp_schedule or a teacher yet; leave them out")
    frozen, trained = abstract.beside(config, abstract.params(config, mesh), mesh)
    tx = optim.make_optimizer(config.optim, 1000)
    state, shardings = abstract.state(trained, tx, mesh)
    update = traced.make_next_token(config, loop, tx, shardings)
    phases = {"update": (lambda: update.lower(state, abstract.packed(loop, mesh), frozen), 0.0)}
    resident = abstract.bytes_per_chip((state, frozen))
    return {"phases": phases, "resident": resident, "saved": abstract.bytes_of(state)}


def price(
    found: plan_compile.Compiled,
    where: chips.Slice,
    mesh: jax.sharding.Mesh,
    config: experiment.ExperimentConfig,
    trips: tuple[float, ...] = (),
    turns: float = 1.0,
) -> list[dict[str, Any]]:
    """The rows of a report that one compiled program is: prefill and decoding are one program.

    trips, turns: of loops as long as the run says, as in program_cost.of_program. Of a program that
    was refused memory is known alone.
    """
    memory = {name: value / GIB for name, value in found.memory.items()}
    names = ("prefill", "decode") if found.name == "generate" else (found.name,)
    if found.program is None:
        return [row(name, None, memory, where, mesh, config) for name in names]
    shape = dict(zip(mesh.axis_names, mesh.devices.shape, strict=True))
    outside, inside = program_cost.of_program(found.program, shape, trips, turns)
    if len(names) == 1:
        outside.add(inside)
    costs = (outside, inside)[: len(names)]
    return [
        row(name, cost, memory, where, mesh, config)
        for name, cost in zip(names, costs, strict=True)
    ]


KNOBS = {
    "generate": "lower sampling.num_slots (its cache) or raise mesh.tensor (weights, heads)",
    "relayout": "raise mesh.tensor (and mesh.expert), which alone split the sampler's weights",
    "reference scoring": "raise grpo.num_microbatches, or mesh.fsdp over mesh.data",
    "policy scoring": "raise grpo.num_microbatches, or mesh.fsdp over mesh.data",
    "update": "raise num_microbatches, set model.remat=full (or parts), or raise mesh.fsdp",
    "save": "raise mesh.fsdp over mesh.data",
}


def row(name, cost, memory, where: chips.Slice, mesh, config) -> dict[str, Any]:
    """One phase of the report; cost None, and its figures too, where it was refused."""
    chip, total = where.chip, sum(memory.values())
    limit = chip.hbm_bytes / GIB
    fits = cost is not None and total <= limit
    key = "generate" if name in ("prefill", "decode") else name
    found = {
        "name": name,
        "hbm_gib": total,
        "limit_gib": limit,
        "fits": fits,
        "memory": memory,
        "advice": "" if fits else f"{total - limit:.1f} GiB too much: {KNOBS[key]}",
    }
    if cost is None:
        unknown = ("tflop", "hbm_traffic_gib", "seconds", "roofline_seconds", "bound_by")
        return found | dict.fromkeys(unknown) | {"collective_gib": {}}
    seconds = {
        "flops": cost.flops / peak(chip, config),
        "hbm": cost.hbm_bytes / chip.hbm_bandwidth,
        "ici": sum(b / bandwidth(axes, where, mesh) for axes, b in cost.sent.items()),
    }
    bound_by = max(seconds, key=lambda k: seconds[k])
    return found | {
        "tflop": cost.flops / 1e12,
        "hbm_traffic_gib": cost.hbm_bytes / GIB,
        "collective_gib": {"+".join(axes): b / GIB for axes, b in sorted(cost.sent.items()) if b},
        "seconds": seconds,
        "roofline_seconds": seconds[bound_by],
        "bound_by": bound_by,
    }


def peak(chip: chips.Chip, config: experiment.ExperimentConfig) -> float:
    """FLOPs a second in the model's compute type; float32 products take about six passes."""
    return chip.peak_flops / (1 if config.model.compute_dtype == "bfloat16" else 6)


def bandwidth(axes: tuple[str, ...], where: chips.Slice, mesh: jax.sharding.Mesh) -> float:
    """Bytes a second a chip can send to a group along mesh `axes`: two ports a torus dimension."""
    names = list(mesh.axis_names)
    cut = tuple(slice(None) if name in axes else 0 for name in names)
    group = np.ravel(mesh.devices[cut])
    coordinates = np.array([getattr(d, "coords", (i,)) for i, d in enumerate(group)])
    spanned = sum(len(set(c.tolist())) > 1 for c in coordinates.T)
    return where.chip.link_bandwidth * 2 * max(1, spanned)


def save_row(lowered: dict[str, Any], where: chips.Slice) -> dict[str, Any]:
    """Saving: every array once through its host; no program runs, so only HBM is a bound."""
    num_chips, resident = len(where.devices), lowered["resident"] / GIB
    saved, limit = lowered["saved"] / GIB, where.chip.hbm_bytes / GIB
    seconds = lowered["saved"] / num_chips / where.chip.hbm_bandwidth
    return {
        "name": "save",
        "hbm_gib": resident,
        "limit_gib": limit,
        "fits": resident <= limit,
        "memory": {"beside": resident},
        "advice": "" if resident <= limit else f"the state alone is too much: {KNOBS['save']}",
        "tflop": 0.0,
        "hbm_traffic_gib": saved / num_chips,
        "collective_gib": {},
        "seconds": {"hbm": seconds},
        "roofline_seconds": seconds,
        "bound_by": "hbm",
        "checkpoint_gib": saved,
        "host_gib": saved / num_chips * where.chip.chips_per_host,
    }


def run(
    config: experiment.ExperimentConfig,
    where: chips.Slice,
    kind: str = "rl",
    num_steps: int = 0,
    say: Callable[[str], None] = lambda line: None,
    only: str | None = None,
) -> dict[str, Any]:
    """The report of one experiment on one slice. kind: rl, sft or pretrain.

    Hours, and what follows from them, are None where a phase is refused for its memory.

    only: a phase, to price it alone; hours are then its own. num_steps: updates of sft or pretrain,
    0 where only the data would tell. Raises ValueError for a mesh or batch that does not divide.
    """
    mesh = assemble.make_mesh(config.mesh, where.devices)
    loop = {"sft": config.sft, "pretrain": config.pretrain}.get(kind)
    cfg = config.grpo
    if loop is None:
        lowered = lower_rl(config, mesh, cfg.num_steps)
    else:
        lowered = lower_supervised(config, loop, mesh)
    phases = lowered["phases"]
    if only is not None:
        if only not in phases:
            raise ValueError(f"phase={only!r} is not one of this run's: {', '.join(phases)}")
        phases = {only: phases[only]}
    waves = -(-cfg.prompts_per_rollout * cfg.group_size // slots(config))
    rows, compile_seconds = [], {}
    for name, (lower, beside) in phases.items():
        found = plan_compile.compile_phase(name, lower, beside, mesh)
        compile_seconds[name] = found.seconds
        trips = (waves, cfg.max_response) if name == "generate" else ()
        turns = expert_turns(config, mesh, tokens_at_once(config, loop, name))
        rows += price(found, where, mesh, config, trips, turns)
        total = rows[-1]["hbm_gib"]
        did = "compiled" if found.program else "refused"
        say(f"{name}: {did} in {found.seconds:.0f} s, {total:.2f} GiB a chip")
    rows.append(save_row(lowered, where))
    report = {
        "topology": where.name,
        "num_chips": len(where.devices),
        "mesh": dict(zip(mesh.axis_names, mesh.devices.shape, strict=True)),
        "kind": kind,
        "phases": rows,
        "compile_seconds": compile_seconds,
    }
    if loop is None:
        times = rl_times(config)
        tokens = cfg.prompts_per_rollout * cfg.group_size * cfg.max_response
        steps = cfg.num_steps
    else:
        num_steps = num_steps or 1
        every = config.checkpoint.every or num_steps
        times = {"update": num_steps, "save": -(-num_steps // every)}
        tokens, steps = loop.batch_rows * loop.row_length, num_steps
    report |= {"num_steps": steps}
    if any(r["roofline_seconds"] is None for r in rows):
        unknown = ("hours", "hours_by_phase", "chip_hours", "tokens_per_second")
        return report | dict.fromkeys(unknown)
    seconds = {r["name"]: r["roofline_seconds"] * times[r["name"]] for r in rows}
    total = sum(seconds.values())
    rounds = times.get("decode", steps)
    return report | {
        "hours": total / 3600,
        "hours_by_phase": {name: s / 3600 for name, s in seconds.items()},
        "chip_hours": total / 3600 * len(where.devices),
        "tokens_per_second": tokens * rounds / total,
    }


def tokens_at_once(config: experiment.ExperimentConfig, loop, name: str) -> int:
    """Positions that one pass of a phase's layers is over, of all devices; padding included."""
    if loop is not None:
        return loop.batch_rows // loop.num_microbatches * loop.row_length
    cfg = config.grpo
    if name == "generate":  # prompts; a step's few tokens make no loop
        return cfg.prompts_per_rollout * cfg.max_prompt
    rows = cfg.prompts_per_rollout * cfg.group_size // cfg.num_minibatches // cfg.num_microbatches
    return rows * (cfg.max_prompt + cfg.max_response)


def expert_turns(config: experiment.ExperimentConfig, mesh, num_tokens: int) -> float:
    """Turns of the loop over an expert's blocks of rows, were all experts asked alike."""
    if config.model.experts is None:
        return 1.0
    shape = mesh.shape
    split = shape["data"] * shape["fsdp"] * shape.get("context", 1)
    rows = num_tokens / split * config.model.experts.num_chosen / config.model.experts.num_routed
    return float(np.ceil(rows / expert_rows.ROWS))


def slots(config: experiment.ExperimentConfig) -> int:
    num = config.grpo.prompts_per_rollout * config.grpo.group_size
    return min(config.sampling.num_slots or num, num)


def rl_times(config: experiment.ExperimentConfig) -> dict[str, float]:
    """How often each phase runs; evaluations are left out."""
    cfg = config.grpo
    rollouts = cfg.num_steps // cfg.updates_per_rollout
    every = config.checkpoint.every or cfg.num_steps
    return {
        "relayout": rollouts,
        "prefill": rollouts,
        "decode": rollouts,
        "reference scoring": rollouts,
        "policy scoring": rollouts,
        "update": cfg.num_steps,
        "save": -(-cfg.num_steps // every),
    }
