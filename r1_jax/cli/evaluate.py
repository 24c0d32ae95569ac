"""`python -m r1_jax evaluate RUN`: a checkpoint's scores on held-out problems."""

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
"""


def main(argv):
    """Evaluates one checkpoint; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, define)
    if len(parsed.words) != 1:
        flagset.fail("give one run: the --workdir of train, such as runs/quickstart")
    run = pathlib.Path(parsed.words[0])
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


def changed(config: experiment.ExperimentConfig, assignments: list[str]):
    """`config` with "key.name=value" assignments; ValueError for unknown keys and wrong types."""
    mapping = build.to_dict(config)
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set={assignment} has no value; write --set=KEY=VALUE")
        mapping = build.merge(mapping, dotted, build.Text(text))
    return build.build(experiment.ExperimentConfig, mapping)


def define(values):
    """The flags that evaluate and generate share."""
    flags.DEFINE_integer(
        "step", None, "checkpoint to use; the newest if absent", flag_values=values
    )
    flags.DEFINE_multi_string(
        "set", [], "KEY=VALUE: change a key of the run's configuration", flag_values=values
    )
