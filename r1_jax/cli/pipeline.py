"""`python -m r1_jax pipeline`: R1-Zero, R1's four stages and distillation, as one chain."""

import pathlib

from absl import flags

from r1_jax.cli import flagset, running
from r1_jax.pipeline import r1

_DOC = """
Runs the whole road of DeepSeek-R1 in --workdir, a folder a stage: base, r1_zero, cold_start, dev1,
dev2, rejection_sampling, dev3, preferences, reward_model, r1, student_base, student, student_rl,
standing. Stages that are done are skipped and a killed one goes on where it stopped. --from=STAGE
begins there, --only=STAGE runs one; what they are made from must be done.
WORKDIR/report.html shows what there is.
"""


def main(argv):
    """Runs the chain; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, r1.R1Config, unread=())
    values = parsed.values
    if not values.workdir:
        flagset.fail("--workdir is required; it names the folder of this chain, such as runs/r1")
    from r1_jax.pipeline import stage
    from r1_jax.reports import chain
    from r1_jax.training import grpo

    workdir = pathlib.Path(values.workdir)
    try:
        with running.guarded():
            stage.run(
                r1.stages(parsed.config, workdir),
                workdir,
                first=values["from"].value,
                only=values.only,
                say=lambda line: print(line, flush=True),
            )
        report = chain.write(workdir)
    except (OSError, ValueError, grpo.GapError) as error:
        flagset.fail(error)
    print(f"report: {report}")


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of this chain", flag_values=values)
    flags.DEFINE_string("from", None, "first stage to run", flag_values=values)
    flags.DEFINE_string("only", None, "the one stage to run", flag_values=values)
