"""Ablation: the length cap and what a completion cut off by it gets.

Paper: a cap of 32,768 tokens, 65,536 late in the run, at which length and accuracy jump. What cut
off completions are paid is not published. soft_penalty is DAPO's, over the last 48 tokens.

Command:   python -m r1_jax sweep --config=configs/ablate_length.py --workdir=runs/ablate_length
           --grid "grpo.response_schedule=(),((0,96),),((0,96),(50,176))"
           --grid "grpo.truncated=zero_reward,mask,soft_penalty" --seeds=3
Hardware:  two CPU cores, 2 GiB a worker; 27 runs of at most a quarter of an hour
Expected:  a lower cap holds the length down, and a rise of the cap lets it rise
Obtained:  not run yet
"""

from configs import r1_zero_countdown


def get_config():
    config = r1_zero_countdown.get_config()
    config.grpo.overlong_buffer = 48  # read by soft_penalty alone
    return config
