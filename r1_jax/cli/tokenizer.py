"""`python -m r1_jax tokenizer`: a SentencePiece model for a task's corpus."""

from absl import flags

from r1_jax.cli import flagset
from r1_jax.pipeline import experiment

_DOC = """
Trains a SentencePiece model of model.vocab_size pieces on the configuration's corpus. Numbers, tags
and the template's constant text are single tokens. Equal configurations give equal files.
"""


def main(argv):
    """Trains and writes the tokenizer; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, experiment.ExperimentConfig)
    if not parsed.values.out:
        flagset.fail("--out is required; it names the model file to write, such as runs/x.model")
    from r1_jax.pipeline import base

    try:
        tokens = base.train_tokenizer(parsed.config, parsed.values.out)
    except (OSError, ValueError) as error:
        flagset.fail(error)
    print(f"{parsed.values.out}: {tokens.vocab_size} pieces, digest {tokens.digest[:12]}")


def _define(values):
    flags.DEFINE_string("out", None, "model file to write", flag_values=values)
