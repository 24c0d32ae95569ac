"""`python -m r1_jax profile`: where the steps of a run spend their time."""

import pathlib

from absl import flags

from r1_jax.cli import flagset, running, train
from r1_jax.pipeline import experiment

_DOC = """
Runs a few rollouts of a configuration with their updates under jax's profiler, two to warm up
before, and prints the ten costliest regions of its programs by named scope:

  python -m r1_jax profile --config=configs/r1_zero_countdown.py --workdir=runs/profile

"backward" is a region's gradient, "again" what is computed a second time for it (remat). Seconds
are of the region's own operations, on all threads or devices, over the rollouts that were traced.
The trace lies in --workdir, for TensorBoard or ui.perfetto.dev. Nothing else is written.
"""


def main(argv):
    """Prints the table; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, experiment.ExperimentConfig, unread=train.UNREAD)
    if not parsed.values.workdir:
        flagset.fail("--workdir is required; it names the folder of the trace")
    from r1_jax.metrics import regions
    from r1_jax.pipeline import profile

    workdir = pathlib.Path(parsed.values.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    num_steps = parsed.values.rollouts
    try:
        with running.guarded():
            found, seconds = profile.run(parsed.config, workdir, num_steps)
    except (OSError, ValueError) as error:
        flagset.fail(error)
    phases = ", ".join(f"{name} {s / num_steps:.3f}" for name, s in seconds.items() if s)
    print(f"{num_steps} rollouts traced into {workdir}; wall seconds a rollout: {phases}\n")
    print(regions.table(found))


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of the trace", flag_values=values)
    flags.DEFINE_integer("rollouts", 3, "that are traced", lower_bound=1, flag_values=values)
