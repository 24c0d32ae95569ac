"""Distillation into Qwen2.5-Math-1.5B: configs/distill_qwen_32b.py with another base.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.4; v2 B.4.3 and Table 6: the learning rate.

The base has a window of 4,096 tokens (rope_theta 10,000), which is kept as its checkpoint says.
Others raised rope_theta to 300,000 for rows of this length: change it in config.json before convert
and in model here.
The published student has a head of its own; this one keeps the base's tied embedding.

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax sft --config=configs/distill_qwen_1p5b.py
           --workdir=runs/distill_qwen_1p5b --config.base=FOLDER --data=data.jsonl
Hardware:  8 TPU chips, mesh fsdp: 8; weights, gradient and moments take 25 GB.
           Cost: see plan; none was measured
Expected:  AIME 2024 pass@1 28.9, cons@64 52.7, MATH-500 83.9, GPQA Diamond 33.8,
           LiveCodeBench 16.9
Obtained:  not run by this project
"""

from configs import distill_qwen_32b


def get_config():
    config = distill_qwen_32b.get_config()
    config.model = {"name": "qwen2p5_math_1p5b"}
    config.mesh = {"fsdp": 8}
    config.optim.learning_rate = 1e-4
    config.sft.num_microbatches = 8
    return config
