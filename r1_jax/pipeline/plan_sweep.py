"""Which experiments a plan is of, and which meshes and microbatches of one would fit best."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from r1_jax.pipeline import chips, experiment, plan, r1

Staged = dict[str, tuple[experiment.ExperimentConfig, str, int]]


def stages(
    config: experiment.ExperimentConfig | r1.R1Config, kind: str, only: str | None
) -> Staged:
    """stage -> (experiment, kind, updates); an experiment by itself is the stage "".

    Fine-tuning's updates are counted as if every document filled a row: an upper end. Stages that
    only sample (cold_start, rejection_sampling, preferences) run generate, which is priced in
    the stage whose policy they sample.
    """
    if isinstance(config, experiment.ExperimentConfig):
        if only:
            raise ValueError(f"stage={only}: this configuration is one experiment; leave it out")
        return {"": (config, kind, 0)}
    num_first = config.cold_start.num_prompts * config.cold_start.per_prompt
    second = config.rejection_sampling
    num_second = second.num_prompts * second.per_prompt

    def tuned(given: experiment.ExperimentConfig, num_documents: int):
        return given, "sft", max(1, num_documents // given.sft.batch_rows) * given.sft.epochs

    found: Staged = {
        "r1_zero": (config.r1_zero, "rl", 0),
        "dev1": tuned(config.dev1, num_first),
        "dev2": (config.dev2, "rl", 0),
        "dev3": tuned(config.dev3, num_second),
        "r1": (config.r1, "rl", 0),
        "student": tuned(config.student, num_second),
        "student_rl": (config.student_rl, "rl", 0),
    }
    if only and only not in found:
        raise ValueError(f"stage={only} is not one of {', '.join(found)}")
    return {only: found[only]} if only else found


def meshes_of(
    config: experiment.ExperimentConfig, num_chips: int
) -> Iterator[experiment.MeshConfig]:
    """Meshes whose tensor axis divides the heads; other chips on fsdp, and on expert in turn."""
    model = config.model
    heads = model.num_heads if model.latent else model.num_kv_heads
    for tensor in (1, 2, 4, 8):
        if heads % tensor or num_chips % tensor:
            continue
        rest = num_chips // tensor
        for expert in (1, 8, 32, 64) if model.experts else (1,):
            if rest % expert == 0 and (not model.experts or not model.experts.num_routed % expert):
                yield experiment.MeshConfig(1, rest // expert, tensor, expert)


def rank(
    config: experiment.ExperimentConfig,
    where: chips.Slice,
    kind: str,
    num_steps: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Reports of all that were tried, those that fit first, then by hours.

    Raises ValueError when nothing divides.
    """
    reports, why = [], ""
    for mesh in meshes_of(config, len(where.devices)):
        for pieces in (1, 4):
            tried = _with(config, mesh, kind, pieces)
            if tried is None:
                continue
            try:
                report = plan.run(tried, where, kind, num_steps)
            except ValueError as error:
                why = str(error)
                say(f"fsdp {mesh.fsdp} tensor {mesh.tensor} expert {mesh.expert}: {why}")
                continue
            reports.append(report | {"num_microbatches": _pieces(tried, kind)})
            say(row(reports[-1]))
    if not reports:
        raise ValueError(f"no mesh of {len(where.devices)} chips divides this run; last: {why}")
    return sorted(reports, key=lambda r: (not fits(r), r["hours"] or math.inf))


def fits(report: dict[str, Any]) -> bool:
    return all(phase["fits"] for phase in report["phases"])


def row(report: dict[str, Any]) -> str:
    """One line on one report."""
    mesh = " ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    most = max(phase["hbm_gib"] for phase in report["phases"])
    verdict = "fits" if fits(report) else "does not fit"
    took = "hours unknown" if report["hours"] is None else f"{report['hours']:.3g} hours"
    pieces = report["num_microbatches"]
    return f"{mesh}, microbatches {pieces}: {verdict}, {most:.1f} GiB, {took}"


def table(ranked: list[dict[str, Any]]) -> str:
    return "\n".join(f"{place}. {row(report)}" for place, report in enumerate(ranked, 1))


def _pieces(config, kind: str) -> int:
    loop = {"sft": config.sft, "pretrain": config.pretrain}.get(kind)
    return (loop or config.grpo).num_microbatches


def _with(config, mesh, kind: str, factor: int):
    """`config` on `mesh`, its pieces `factor` times smaller; None where they do not divide."""
    config = dataclasses.replace(config, mesh=mesh)
    name = kind if kind in ("sft", "pretrain") else "grpo"
    loop = getattr(config, name)
    try:
        loop = dataclasses.replace(loop, num_microbatches=loop.num_microbatches * factor)
    except ValueError:
        return None
    return dataclasses.replace(config, **{name: loop})
