"""The Countdown base in DeepSeek-V3's shape: latent attention and routed experts, in small.

The corpus is that of configs/base_countdown.py, in batches half as large. Experts
are balanced as V3's were: by a selection bias that load moves (0.001 an update) and a weak sequence
balance loss (1e-4).

Command:   python -m r1_jax pretrain --config=configs/base_countdown_deepseek.py --workdir=runs/base
Hardware:  one CPU core, 2 GiB
Obtained:  loss 6.391 -> 0.371 to 0.427 (the last ten updates), load of the busiest expert 1.12 of
           an even share, 36 minutes (commit c2d059e); see bases/README.md
"""

from configs import base_countdown


def get_config():
    config = base_countdown.get_config()
    config.model = {"name": "deepseek_tiny"}
    config.pretrain.batch_rows = 16
    config.pretrain.num_microbatches = 2
    config.optim.warmup_steps = 30
    config.pretrain.balance_coef = 1e-4
    config.pretrain.bias_rate = 1e-3
    return config
