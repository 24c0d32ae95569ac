"""R1-Zero on Countdown with latent attention and routed experts: DeepSeek-V3's shape in small.

The quickstart (configs/r1_zero_countdown.py) with another model and the base that fits it, and
nothing else changed; the same as its --config.model=deepseek_tiny --config.base=... Selection
biases of the routers are held, and the learner replays the sampler's choices of experts.

Command:   python -m r1_jax train --config=configs/r1_zero_countdown_deepseek.py
           --workdir=runs/deepseek
Hardware:  one CPU core, 2 GiB
Obtained:  held-out pass@1 0.123 -> 0.412, length x2.4, reflection words x4.1 (seed 0, docs/LOG.md)
"""

from configs import r1_zero_countdown


def get_config():
    config = r1_zero_countdown.get_config()
    config.model = {"name": "deepseek_tiny"}
    config.base = "bases/countdown_deepseek.safetensors"
    return config
