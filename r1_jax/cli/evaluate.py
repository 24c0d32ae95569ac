"""`python -m r1_jax evaluate RUN`: a checkpoint's scores on held-out problems or a suite."""

import hashlib
import json
import pathlib

from absl import flags

from r1_jax.cli import flagset
from r1_jax.core import build
from r1_jax.pipeline import experiment

_DOC = """
Word: RUN, the --workdir of a train run. Samples its newest checkpoint (or --step) on its task's
held-out problems and prints pass@1 with n and interval, cons@k and lengths. The row goes to
RUN/evaluations/, beside every completion behind it. --set changes keys of the run's own
configuration, such as --set=eval.num_problems=128 --set=sampling.temperature=0.6.

--suite=configs/eval_paper.py scores it on that suite's benchmarks instead, each a row and its
completions under RUN/evaluations/. --checkpoint=RUN says RUN as well.

--regrade=FILE takes stored completions (RUN/evaluations/*_samples.jsonl, RUN/samples/eval_step_*)
and scores them again with the task's present grader and --set=reward.*; it needs no RUN and no
model. The result goes beside FILE, or into RUN/evaluations/ for a run's own samples.
"""


def main(argv):
    """Evaluates one checkpoint; exits with 2 and one line for input that cannot be used."""
    from r1_jax.pipeline import suite

    parsed = flagset.parse(argv, _DOC, _define, suite.SuiteConfig, config_flag="suite")
    runs = [*parsed.words, *([parsed.values.checkpoint] if parsed.values.checkpoint else [])]
    if parsed.values.regrade:
        if runs or parsed.config:
            flagset.fail("--regrade needs no run and no --suite: it reads what FILE was made with")
        _regrade(pathlib.Path(parsed.values.regrade), parsed.values.set)
        return
    if len(runs) != 1:
        flagset.fail("give one run: the --workdir of train, such as runs/quickstart")
    if parsed.config:
        _suite(pathlib.Path(runs[0]), parsed)
    else:
        _own(pathlib.Path(runs[0]), parsed)


def _own(run: pathlib.Path, parsed: flagset.Parsed):
    from r1_jax.metrics import jsonl
    from r1_jax.pipeline import policy

    try:
        config = changed(policy.open_config(run), parsed.values.set)
        row, samples = policy.evaluate(run, config, parsed.values.step)
        folder = run / "evaluations"
        folder.mkdir(exist_ok=True)
        # Other settings are another file: nothing is overwritten but a repetition of itself.
        settings = hashlib.sha256(json.dumps(build.to_dict(config)).encode()).hexdigest()[:8]
        name = f"step_{row['step']:06d}_{config.eval.split}_{settings}"
        jsonl.write(folder / f"{name}.jsonl", [row | {"config": build.to_dict(config)}])
        jsonl.write(folder / f"{name}_samples.jsonl", samples)
    except (OSError, ValueError) as error:
        flagset.fail(error)
    print(json.dumps(row, indent=2))
    print(f"row and completions: {folder / name}*.jsonl")


def _suite(run: pathlib.Path, parsed: flagset.Parsed):
    from r1_jax.metrics import jsonl
    from r1_jax.pipeline import policy, suite

    try:
        config = changed(policy.open_config(run), parsed.values.set)
        made_with = {"config": build.to_dict(config), "suite": build.to_dict(parsed.config)}
        settings = hashlib.sha256(json.dumps(made_with).encode()).hexdigest()[:8]
        folder = run / "evaluations"
        for entry, row, samples in suite.evaluate(run, config, parsed.config, parsed.values.step):
            folder.mkdir(exist_ok=True)
            name = f"step_{row['step']:06d}_{entry}_{settings}"
            jsonl.write(folder / f"{name}_samples.jsonl", samples)
            jsonl.write(folder / f"{name}.jsonl", [row | made_with])
            print(json.dumps(row, indent=2))
            print(f"row and completions: {folder / name}*.jsonl", flush=True)
    except (OSError, ValueError) as error:
        flagset.fail(error)


def _regrade(path: pathlib.Path, assignments: list[str]):
    from r1_jax.metrics import jsonl
    from r1_jax.pipeline import suite

    try:
        _, row, samples = suite.regrade(path, lambda mapping: merged(mapping, assignments))
        stem = path.stem.removesuffix("_samples")
        folder = path.parent
        if folder.name == "samples":  # a run's own, in which a resumed run may delete
            folder = folder.with_name("evaluations")
            folder.mkdir(exist_ok=True)
        jsonl.write(folder / f"{stem}_regraded_samples.jsonl", samples)
        jsonl.write(folder / f"{stem}_regraded.jsonl", [row])
    except (OSError, ValueError) as error:
        flagset.fail(error)
    print(json.dumps({k: v for k, v in row.items() if k not in ("config", "suite")}, indent=2))
    print(f"row and completions: {folder / stem}_regraded*.jsonl")


def changed(config: experiment.ExperimentConfig, assignments: list[str]):
    """`config` with "key.name=value" assignments; ValueError for unknown keys and wrong types."""
    return build.build(experiment.ExperimentConfig, merged(build.to_dict(config), assignments))


def merged(mapping, assignments: list[str]):
    """`mapping` with "key.name=value" assignments; ValueError for one without a value."""
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set={assignment} has no value; write --set=KEY=VALUE")
        mapping = build.merge(mapping, dotted, build.Text(text))
    return mapping


def _define(values):
    define(values)
    flags.DEFINE_string("checkpoint", None, "RUN: the --workdir of a train run", flag_values=values)
    flags.DEFINE_string(
        "regrade", None, "FILE of stored completions to score again", flag_values=values
    )


def define(values):
    """The flags that evaluate and generate share."""
    flags.DEFINE_integer(
        "step", None, "checkpoint to use; the newest if absent", flag_values=values
    )
    flags.DEFINE_multi_string(
        "set", [], "KEY=VALUE: change a key of the run's configuration", flag_values=values
    )
