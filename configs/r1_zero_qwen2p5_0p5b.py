"""R1-Zero on Qwen2.5-0.5B: the paper's RL from a base, with its own numbers.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.2. Settings are those of configs/r1_zero_paper.py;
the model's size and mesh differ. Its learning rate is R1-Zero's; for this size none is published.

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax train --config=configs/r1_zero_qwen2p5_0p5b.py
           --workdir=runs/r1_zero_qwen2p5_0p5b --config.base=FOLDER
Hardware:  4 TPU chips, mesh fsdp: 4; weights, gradient and moments take 8 GB.
           Cost: see plan; none was measured
Expected:  no number in the paper: below 32B pure RL did not raise AIME there (v2 G.1)
Obtained:  not run by this project
"""

from configs import r1_zero_paper


def get_config():
    config = r1_zero_paper.get_config()
    config.model = {"name": "qwen2p5_0p5b"}
    config.mesh = {"fsdp": 4}
    config.grpo.num_microbatches = 64
    return config
