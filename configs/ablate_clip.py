"""Ablation: the clip range (paper's R1: 10; community: 0.2 and 0.28, DAPO arXiv:2503.14476).

With one update a rollout the ratio is 1 and nothing is clipped, so each rollout here is cut into
four minibatches and seen twice: 8 updates a rollout, 13 rollouts.

Command:   python -m r1_jax sweep --config=configs/ablate_clip.py --workdir=runs/ablate_clip
           --grid "grpo.clip_low=0.2,10" --grid "grpo.clip_high=0.2,0.28,10" --seeds=3
Hardware:  two CPU cores, 2 GiB a worker; 18 runs
Expected:  clip/share above 0 for the small ranges and near 0 at 10
Obtained:  not run yet
"""

from configs import r1_zero_countdown


def get_config():
    config = r1_zero_countdown.get_config()
    config.grpo.num_minibatches = 4
    config.grpo.inner_epochs = 2
    config.grpo.num_microbatches = 4
    config.grpo.num_steps = 104
    return config
