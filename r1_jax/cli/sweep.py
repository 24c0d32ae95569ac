"""`python -m r1_jax sweep`: settings x paired seeds, one `train` process and run directory each."""

import pathlib
import signal
import sys

from absl import flags

from r1_jax.cli import flagset, train
from r1_jax.core import build
from r1_jax.pipeline import experiment, sweep

_DOC = """
Trains every combination of the --grid values with every seed, in WORKDIR/<cell>/seed<k>:

  python -m r1_jax sweep --config=configs/r1_zero_countdown.py --grid "grpo.kl_coef=0,0.001,0.04" \\
    --grid "grpo.kl_estimator=k1,k3" --seeds=3 --workdir=runs/kl

Seed k of all cells sees the same problems in the same order. A second call goes on: runs that are
done are skipped, the others resume. A run that fails is tried once more; what failed twice is told
at the end with the last lines of its log, and the exit status is 1. --grid "variant=a,b" stands
for --config=FILE:a and FILE:b, for files whose get_config takes a word. --config.key=value holds
for all cells. `python -m r1_jax report WORKDIR` compares the cells. Seeds run as processes, not as
one vectorised program; on an accelerator that one process fills, leave --workers at 1.
"""


def main(argv):
    """Runs the sweep; returns 1 if runs failed; exits with 2 for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, experiment.ExperimentConfig, unread=train.UNREAD)
    values = parsed.values
    if not values.workdir:
        flagset.fail("--workdir is required; it names the folder of this sweep, such as runs/kl")
    if values.seeds < 1 or values.workers < 1 or values.cores < 0 or values.first_seed < 0:
        flagset.fail("--seeds and --workers must be at least 1, --cores and --first_seed 0")
    if any(key.partition(".")[0] == "seed" for key, _ in parsed.overrides):
        flagset.fail("--config.seed would be overwritten by every run; use --first_seed")
    workdir = pathlib.Path(values.workdir)
    file = parsed.config_file
    try:
        grid = sweep.cells(values.grid, pathlib.Path(file.partition(":")[0]).stem)
        configs = {}
        commands = {}
        for cell in grid:
            commands[cell.name] = words = _words(file, parsed.overrides, cell.settings)
            # Parsed as the child will parse them: what it would refuse is refused here.
            checked = flagset.parse(
                [argv[0], *words], _DOC, None, experiment.ExperimentConfig, unread=train.UNREAD
            )
            configs[cell.name] = build.to_dict(checked.config)
        seeds = range(values.first_seed, values.first_seed + values.seeds)
        jobs = []
        for seed in seeds:  # all cells of one seed first: an early look is a fair one
            for cell in grid:
                path = workdir / cell.name / f"seed{seed}"
                own = [f"--config.seed={seed}", f"--workdir={path}"]
                command = [sys.executable, "-m", "r1_jax", "train", *commands[cell.name], *own]
                config = configs[cell.name] | {"seed": seed}
                jobs.append(sweep.Job(cell.name, seed, path, tuple(command), config))
        with sweep.lock(workdir) as held:
            told = sweep.record(
                workdir,
                config_file=file,
                overrides=parsed.overrides,
                grid=grid,
                seeds=seeds,
                base=build.to_dict(parsed.config),
                configs=configs,
            )
            print(f"cells: {', '.join(configs)}; baseline {told['baseline']}", flush=True)
            before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            try:
                failures = sweep.run(
                    jobs,
                    workers=values.workers,
                    cores=values.cores,
                    held=held,
                    say=lambda line: print(line, flush=True),
                )
            finally:
                signal.signal(signal.SIGTERM, before)
    except (OSError, ValueError) as error:
        return flagset.fail(error)
    print(f"{len(jobs) - len(failures)} of {len(jobs)} runs are done in {workdir}")
    if failures:
        print("\n".join(sweep.told(failures)), file=sys.stderr)
        return 1
    print(f"compare: python -m r1_jax report {workdir}")
    return 0


def _words(file, overrides, settings):
    """Returns the words of `train` for one cell, without seed and workdir."""
    settings = dict(settings)
    variant = settings.pop(sweep.VARIANT, None)
    if variant is not None:
        file = f"{file.partition(':')[0]}:{variant}"
    settings = dict(overrides) | settings
    return [f"--config={file}", *(f"--config.{key}={text}" for key, text in settings.items())]


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of this sweep", flag_values=values)
    flags.DEFINE_multi_string(
        "grid", [], "KEY=VALUE,VALUE: values of one setting; give it again for more settings",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer("seeds", 3, "how many seeds each cell gets", flag_values=values)
    flags.DEFINE_integer("first_seed", 0, "the first of the seeds", flag_values=values)
    flags.DEFINE_integer("workers", 1, "runs at a time", flag_values=values)
    flags.DEFINE_integer(
        "cores", 1, "processor cores each worker is pinned to; 0: none", flag_values=values
    )
