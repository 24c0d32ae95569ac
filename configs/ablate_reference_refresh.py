"""Ablation: how often the reference becomes the policy (paper: every 400 of 10,400 updates).

The quickstart's 100 updates never reach 400, so the grid scales it down: never, and every 50, 25
or 10 updates. --config.grpo.reference_mix=0.1 makes the refresh an average that follows slowly.

Command:   python -m r1_jax sweep --config=configs/ablate_reference_refresh.py
           --workdir=runs/ablate_reference_refresh --seeds=3
           --grid "grpo.reference_every=0,50,25,10"
Hardware:  two CPU cores, 2 GiB a worker; 12 runs of about a quarter of an hour
Expected:  KL to the reference falls back at each refresh; the policy moves farther from the base
Obtained:  not run yet
"""

from configs import r1_zero_countdown


def get_config():
    config = r1_zero_countdown.get_config()
    config.grpo.reference_every = 0
    return config
