"""Distillation into Qwen2.5-Math-7B: configs/distill_qwen_32b.py with another base.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.4; v2 B.4.3 and Table 6: the learning rate.

The base has a window of 4,096 tokens (rope_theta 10,000), which is kept as its checkpoint says.
Others raised rope_theta to 300,000 for rows of this length: change it in config.json before convert
and in model here.

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax sft --config=configs/distill_qwen_7b.py
           --workdir=runs/distill_qwen_7b --config.base=FOLDER --data=data.jsonl
Hardware:  16 TPU chips, mesh fsdp: 16; weights, gradient and moments take 122 GB.
           Cost: see plan; none was measured
Expected:  AIME 2024 pass@1 55.5, cons@64 83.3, MATH-500 92.8, GPQA Diamond 49.1,
           LiveCodeBench 37.6
Obtained:  not run by this project
"""

from configs import distill_qwen_32b


def get_config():
    config = distill_qwen_32b.get_config()
    config.model = {"name": "qwen2p5_math_7b"}
    config.mesh = {"fsdp": 16}
    config.optim.learning_rate = 8e-5
    config.sft.num_microbatches = 4
    return config
