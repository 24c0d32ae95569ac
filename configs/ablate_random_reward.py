"""The control: the quickstart's run with a coin for a reward (Spurious Rewards, arXiv:2506.10947).

Whatever rises here does not rise because of the reward. Everything else is the quickstart's, but
for completions that are cut off: reward 0 would pay for being short, so they are left out.

Command:   python -m r1_jax train --config=configs/ablate_random_reward.py --workdir=runs/random
Hardware:  two CPU cores, 2 GiB
Expected:  pass@1 within 0.05 of the base
Obtained:  0.145 -> 0.125 (seed 0), 0.148 -> 0.125 (seed 1), commit efedc0b
"""

from configs import r1_zero_countdown


def get_config():
    config = r1_zero_countdown.get_config()
    config.reward = {"accuracy_weight": 0.0, "format_weight": 0.0, "random_weight": 1.0}
    config.grpo.truncated = "mask"
    return config
