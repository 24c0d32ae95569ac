"""R1-Zero on Qwen2.5-7B: 16 answers of up to 8,192 tokens a question, for a slice of 64 chips.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.2: its settings (configs/r1_zero_paper.py) with a
shorter cap, as open reproductions on 7B models use. Weights and questions are yours to bring.

Price:     python -m r1_jax plan --config=configs/r1_zero_qwen2p5_7b_8k.py --topology=v5p:4x4x4
Command:   python -m r1_jax train --config=configs/r1_zero_qwen2p5_7b_8k.py --workdir=runs/qwen
           --config.base=CONVERTED_QWEN
Hardware:  64 chips of v5e, v5p or v6e; planned (docs/PLAN.md), not run by this project
Expected:  not known; the paper's 7B runs did not move AIME (v2, G.1)
"""

from configs import r1_zero_paper


def get_config():
    config = r1_zero_paper.get_config()
    config.model = {"name": "qwen2p5_7b"}
    config.mesh = {"data": 1, "fsdp": 16, "tensor": 4}  # 4 key/value heads
    config.sampling.num_slots = 512  # rows whose cache is held at one time
    config.grpo.max_response = 8192
    config.grpo.response_schedule = ((0, 8192),)
    config.grpo.num_microbatches = 32  # 16 rows a piece, one a chip of the fsdp axis
    return config
