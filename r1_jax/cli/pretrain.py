"""`python -m r1_jax pretrain`: a base model from nothing."""

from absl import flags

from r1_jax.cli import flagset, running
from r1_jax.pipeline import experiment

_DOC = """
Writes a synthetic corpus, trains a tokenizer and a small base model on it, and leaves
WORKDIR/base.safetensors (with its manifest) and WORKDIR/base.model beside it. `train` starts from
it with --config.base=WORKDIR/base.safetensors. A second call goes on where the first one stopped.
"""
UNREAD = (
    *("sampling", "sft", "grpo", "ppo", "reward", "sandbox", "eval", "preference"),
    "reward_model",
    *("lora", "layout"),
)


def main(argv):
    """Trains the base; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, experiment.ExperimentConfig, unread=UNREAD)
    if not parsed.values.workdir:
        flagset.fail("--workdir is required; it names the folder of this run, such as runs/base")
    from r1_jax.pipeline import base

    try:
        with running.guarded():
            path = base.run(parsed.config, parsed.values.workdir)
    except (OSError, ValueError) as error:
        flagset.fail(error)
    print(f"base: {path}")


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of this run", flag_values=values)
