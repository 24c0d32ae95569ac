"""`python -m r1_jax reward_model`: judges pairs of answers, trains a reward model on them."""

import json
import pathlib

from absl import flags

from r1_jax.cli import flagset, running
from r1_jax.pipeline import experiment

_DOC = """
Trains a reward model on --data, a JSON-lines file of judged pairs (reward_model.kind=pairwise: uid,
question, chosen, rejected, margin, view) or of labelled answers (pointwise: uid, question,
response, is_safe), and leaves WORKDIR/reward_model.safetensors with its manifest. With
--candidates (uid, question, first, second) and --judge=module:function(question, first, second) ->
number in [-2, 2] the pairs are judged first, into the file that --data names. A second call goes
on where the first one stopped.
"""
UNREAD = (
    *("task", "corpus", "pretrain", "sft", "optim", "sampling", "grpo", "ppo", "reward", "graders"),
    *("sandbox", "eval", "lora"),
)


def main(argv):
    """Trains a reward model; exits with 2 and one line for input that cannot be used."""
    parsed = flagset.parse(argv, _DOC, _define, experiment.ExperimentConfig, unread=UNREAD)
    values = parsed.values
    if not values.workdir or not values.data:
        flagset.fail("--workdir and --data are required: the folder of this run, and its examples")
    if bool(values.candidates) != bool(values.judge):
        flagset.fail("--candidates and --judge go together: what is judged, and by which function")
    from r1_jax.pipeline import preference_data, reward_models
    from r1_jax.rewards import judge

    try:
        if values.candidates and not pathlib.Path(values.data).exists():
            by = judge.named(better=values.judge)
            stats = preference_data.collect(parsed.config, values.candidates, by, values.data)
            print(f"{values.data}: {json.dumps(stats['counts'])}")
        with running.guarded():
            path = reward_models.run(parsed.config, values.workdir, values.data)
    except (OSError, ValueError) as error:
        flagset.fail(error)
    print(f"reward model: {path}")


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of this run", flag_values=values)
    flags.DEFINE_string("data", None, "judged pairs or labelled answers", flag_values=values)
    flags.DEFINE_string("candidates", None, "pairs still to be judged", flag_values=values)
    flags.DEFINE_string("judge", None, "module:function that scores a pair", flag_values=values)
