"""`python -m r1_jax train`: R1-Zero from a base model, resumable."""

from absl import flags

from r1_jax.cli import flagset, running
from r1_jax.pipeline import experiment

_DOC = """
Reinforcement learning with rule rewards from a base model (R1-Zero). A second call with the same
--workdir goes on where the first one stopped, to the bit, or says that it is done.
"""
UNREAD = ("corpus", "pretrain", "sft", "preference", "reward_model")  # other commands' matters


def main(argv):
    """Runs R1-Zero; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, experiment.ExperimentConfig, unread=UNREAD)
    if not parsed.values.workdir:
        flagset.fail("--workdir is required; it names the folder of this run, such as runs/first")
    from r1_jax.pipeline import r1_zero
    from r1_jax.training import grpo

    try:
        with running.guarded(on_several=True):
            is_news = r1_zero.run(parsed.config, parsed.values.workdir)
    except (OSError, ValueError, grpo.GapError) as error:
        flagset.fail(error)
    if not is_news:
        print(f"{parsed.values.workdir} is done already: {parsed.config.grpo.num_steps} steps")


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of this run", flag_values=values)
