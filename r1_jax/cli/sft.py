"""`python -m r1_jax sft`: fine-tuning of a base on demonstrations; so are students taught."""

from absl import flags

from r1_jax.cli import flagset, running
from r1_jax.pipeline import experiment

_DOC = """
Fine-tunes config.base on --data, a JSON-lines file of demonstrations (uid, question, completion,
source) or a folder of them as a tfds data set, and leaves WORKDIR/policy.safetensors with its
tokenizer beside it. With --config.lora.rank=16 only adapters learn, and come merged into the base.
A second call goes on where the first one stopped.
"""
UNREAD = (
    *(
        "task",
        "corpus",
        "pretrain",
        "sampling",
        "grpo",
        "ppo",
        "reward",
        "general_reward",
        "teacher",
    ),
    *("graders", "sandbox", "eval", "preference", "reward_model"),
)


def main(argv):
    """Fine-tunes; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, experiment.ExperimentConfig, unread=UNREAD)
    if not parsed.values.workdir or not parsed.values.data:
        flagset.fail(
            "--workdir and --data are required: the folder of this run, and what is learnt"
        )
    from r1_jax.pipeline import sft

    try:
        with running.guarded(on_several=True):
            path = sft.run(parsed.config, parsed.values.data, parsed.values.workdir)
    except (OSError, ValueError) as error:
        flagset.fail(error)
    print(f"policy: {path}")


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of this run", flag_values=values)
    flags.DEFINE_string("data", None, "demonstrations", flag_values=values)
