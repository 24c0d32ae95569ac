"""R1-Zero on DeepSeek-V3-Base: the paper's RL from a base, with its own numbers.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.2. Settings are those of configs/r1_zero_paper.py;
the model's shape and mesh differ. Selection biases of the routers are not moved in RL.

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax train --config=configs/r1_zero_deepseek_v3.py
           --workdir=runs/r1_zero_deepseek_v3 --config.base=FOLDER
Hardware:  2048 TPU chips, mesh fsdp: 2, tensor: 4, expert: 32, context: 8; weights, gradient and
           moments take 10,736 GB. Cost: see plan; every phase fits v5p:8x16x16 (docs/PLAN.md);
           none was measured
Expected:  AIME 2024 pass@1 15.6 -> 77.9, cons@64 86.7
Obtained:  not run by this project
"""

from configs import r1_zero_paper


def get_config():
    config = r1_zero_paper.get_config()
    config.model = {"name": "deepseek_v3"}
    # The sampler's weights are split by tensor and expert alone, a row's positions by context.
    config.mesh = {"fsdp": 2, "tensor": 4, "expert": 32, "context": 8}
    config.grpo.num_microbatches = 8
    return config
