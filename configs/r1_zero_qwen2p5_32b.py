"""R1-Zero on Qwen2.5-32B: the paper's RL from a base, with its own numbers.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.2. Settings are those of configs/r1_zero_paper.py;
the learning rate of this run was 2e-6 (v2 B.4.1).

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax train --config=configs/r1_zero_qwen2p5_32b.py
           --workdir=runs/r1_zero_qwen2p5_32b --config.base=FOLDER
Hardware:  64 TPU chips, mesh fsdp: 64; weights, gradient and moments take 524 GB.
           Cost: see plan; none was measured
Expected:  AIME 2024 pass@1 47.0, cons@64 60.0, MATH-500 91.6 after more than 10,000 steps
Obtained:  not run by this project
"""

from configs import r1_zero_paper


def get_config():
    config = r1_zero_paper.get_config()
    config.model = {"name": "qwen2p5_32b"}
    config.mesh = {"fsdp": 64}
    config.grpo.num_microbatches = 8
    config.optim.learning_rate = 2e-6
    return config
