"""`python -m r1_jax generate RUN QUESTION...`: completions of a run's policy."""

import pathlib

from absl import flags

from r1_jax.cli import evaluate, flagset

_DOC = """
Words: RUN, the --workdir of a train run, then questions, such as "Using the numbers [3, 5, 7],
write an expression that equals 22. Use + - * / and each number exactly once." Each is put into the
run's template and sampled --samples times from its newest checkpoint (or --step).
"""


def main(argv):
    """Prints completions; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define)
    if len(parsed.words) < 2:
        flagset.fail("give a run and at least one question in quotes")
    run, questions = pathlib.Path(parsed.words[0]), list(parsed.words[1:])
    from r1_jax.pipeline import policy

    try:
        config = evaluate.changed(policy.open_config(run), parsed.values.set)
        found = policy.generate(run, config, parsed.values.step, questions, parsed.values.samples)
    except (OSError, ValueError) as error:
        flagset.fail(error)
    for question, completions in zip(questions, found, strict=True):
        print(question)
        for completion in completions:
            print(f"  {completion.strip()}")


def _define(values):
    evaluate.define(values)
    flags.DEFINE_integer("samples", 4, "completions of each question", flag_values=values)
