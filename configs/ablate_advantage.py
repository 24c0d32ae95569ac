"""Ablation: the advantage (paper Eq. 3: z-score) and the loss average.

z-score against mean-only (Dr. GRPO, arXiv:2503.20783) and leave-one-out (RLOO, arXiv:2402.14740);
mean over sequences (DeepSeekMath Eq. 3) against mean over tokens (DAPO) and over a constant length
(Dr. GRPO), which change how a long completion weighs.

Command:   python -m r1_jax sweep --config=configs/ablate_advantage.py
           --workdir=runs/ablate_advantage --seeds=3
           --grid "grpo.advantage=zscore,mean_only,leave_one_out"
           --grid "grpo.aggregation=sequence_mean,token_mean,constant_length"
Hardware:  two CPU cores, 2 GiB a worker; 27 runs of about a quarter of an hour
Expected:  not known; the paper publishes no such comparison
Obtained:  not run yet
"""

from configs import r1_zero_countdown


def get_config():
    return r1_zero_countdown.get_config()
