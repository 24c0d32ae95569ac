"""`python -m r1_jax plan`: a run priced on a TPU slice that is described, not attached."""

import json
import pathlib

from absl import flags

from r1_jax.cli import flagset
from r1_jax.pipeline import chips, experiment, plan, plan_sweep, plan_table, r1

_DOC = """
Compiles every phase of a run with the TPU's own compiler (the package libtpu; no TPU is needed) and
reports memory a chip, whether it fits, FLOPs, traffic, collectives, roofline seconds, hours:

  python -m r1_jax plan --config=configs/r1_zero_qwen2p5_7b_8k.py --topology=v5p:4x4x4 --json=F

--topology is GENERATION:SHAPE, v4, v5e, v5p or v6e. --kind=sft or pretrain prices the update of
those commands. A configuration of the whole of R1 (configs/r1_paper.py) is priced stage by stage;
--stage=NAME takes one. --sweep tries mesh shapes and microbatches and ranks those that fit. Exit
status 1 where a phase does not fit.
"""


def main(argv):
    """Writes the report; returns 1 where something does not fit; exits with 2 for bad input."""
    parsed = flagset.parse(
        argv, _DOC, _define, (experiment.ExperimentConfig, r1.R1Config), unread=()
    )
    values, config = parsed.values, parsed.config
    if not values.topology:
        flagset.fail("--topology is required, such as v5p:4x4x4 or v5e:8x8")
    try:
        where = chips.describe(values.topology)
        staged = plan_sweep.stages(config, values.kind, values.stage)
        reports = {}
        for name, (of_stage, kind, num_steps) in staged.items():
            if values.sweep:
                ranked = plan_sweep.rank(of_stage, where, kind, num_steps, say=_say)
                reports[name] = ranked[0] | {"ranked": ranked[1:]}
                print(plan_sweep.table(ranked))
            else:
                reports[name] = plan.run(of_stage, where, kind, num_steps, _say, values.phase)
            print(f"\n{name}" if name else "")
            print(plan_table.table(reports[name]), flush=True)
    except ValueError as error:
        flagset.fail(error)
    if values.json:
        whole = reports[""] if "" in reports else {"stages": reports}
        pathlib.Path(values.json).write_text(json.dumps(whole, indent=2) + "\n")
    return 0 if all(p["fits"] for r in reports.values() for p in r["phases"]) else 1


def _say(line):
    print(line, flush=True)


def _define(values):
    flags.DEFINE_string("topology", None, "the slice, such as v5p:4x4x4", flag_values=values)
    flags.DEFINE_string("json", None, "file for the report", flag_values=values)
    flags.DEFINE_enum(
        "kind", "rl", ["rl", "sft", "pretrain"], "which command's run", flag_values=values
    )
    flags.DEFINE_string("stage", None, "the one stage of R1 to price", flag_values=values)
    flags.DEFINE_string("phase", None, "the one phase to price", flag_values=values)
    flags.DEFINE_boolean("sweep", False, "try meshes and microbatches", flag_values=values)
