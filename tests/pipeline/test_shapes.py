"""What is told of the compiled shapes is what a run's own configuration comes to."""

import dataclasses

from r1_jax.core import build
from r1_jax.pipeline import experiment, shapes

CONFIG = build.build(
    experiment.ExperimentConfig,
    {
        "sampling": {"num_slots": 12},
        "grpo": {
            "num_steps": 8, "prompts_per_rollout": 4, "group_size": 4, "num_minibatches": 2,
            "num_microbatches": 2, "max_prompt": 24, "max_response": 176,
        },
        "eval": {"num_samples": 2},
    },
)  # fmt: skip


def test_every_shape_of_a_run_is_told_in_one_line():
    # 4 * 4 completions in 2 * 2 pieces; evaluation has 8 completions, fewer than slots. Of 200
    # positions the fifths are 40, 80, 120 and 160, each as 1 more than a multiple of 32.
    assert str(shapes.of(CONFIG)) == (
        "4 prompts of 24 tokens, 4 completions each in 12 slots, 2 completions each in 8 slots, "
        "176 tokens a completion; scoring and update in pieces of 4 rows x 65, 97, 129, 161, 200 "
        "tokens, of a group's prompt none, 7, 15, 23 shared"
    )


def test_one_program_serves_training_and_evaluation_where_they_draw_alike():
    alike = dataclasses.replace(CONFIG.eval, num_samples=4)
    found = shapes.of(dataclasses.replace(CONFIG, eval=alike))
    assert found.num_samples == (4,) and found.num_slots == (12,)
