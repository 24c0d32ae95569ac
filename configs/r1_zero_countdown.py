"""R1-Zero on Countdown with a 0.66M-parameter base: the paper's Figures 2 and 3 in small.

Paper section 2.2: GRPO with rule rewards (accuracy + format, equal weight), no SFT. What differs
from configs/r1_zero_paper.py: a learning rate for a small model, one update a rollout, 16 prompts
instead of 512, 176 tokens instead of 32,768, and DeepSeekMath's KL coefficient, 0.04, which keeps
the control (ablate_random_reward.py) where it was.

Command:   python -m r1_jax train --config=configs/r1_zero_countdown.py --workdir=runs/first
Hardware:  two CPU cores, 2 GiB, about eight minutes
Expected:  held-out pass@1 from 0.15 to 0.65, length x3, reflection words x6 (seeds 0-2: README.md)
"""

from configs import base_countdown


def get_config():
    config = base_countdown.get_config()
    config.base = "bases/countdown.safetensors"
    config.optim = {"learning_rate": 7e-5}
    config.sampling = {"num_slots": 16}  # their cache fits a core's own; 64 take twice as long
    config.grpo = {
        "num_steps": 100,
        "prompts_per_rollout": 16,
        "group_size": 16,
        "num_minibatches": 1,
        "num_microbatches": 16,
        "kl_coef": 0.04,
        "reference_every": 400,
        "max_prompt": 24,
        "max_response": 176,
    }
    config.eval = {"num_problems": 512, "num_problems_between": 64, "every": 20}
    config.checkpoint = {"every": 20}
    return config
