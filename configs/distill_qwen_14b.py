"""Distillation into Qwen2.5-14B: configs/distill_qwen_32b.py with another base.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.4; v2 B.4.3 and Table 6: the learning rate.

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax sft --config=configs/distill_qwen_14b.py
           --workdir=runs/distill_qwen_14b --config.base=FOLDER --data=data.jsonl
Hardware:  32 TPU chips, mesh fsdp: 32; weights, gradient and moments take 236 GB.
           Cost: see plan; none was measured
Expected:  AIME 2024 pass@1 69.7, cons@64 80.0, MATH-500 93.9, GPQA Diamond 59.1,
           LiveCodeBench 53.1
Obtained:  not run by this project
"""

from configs import distill_qwen_32b


def get_config():
    config = distill_qwen_32b.get_config()
    config.model = {"name": "qwen2p5_14b"}
    config.mesh = {"fsdp": 32}
    config.optim.learning_rate = 7e-5
    config.sft.num_microbatches = 2
    return config
