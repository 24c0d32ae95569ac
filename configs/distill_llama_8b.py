"""Distillation into Llama-3.1-8B: configs/distill_qwen_32b.py with another base.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.4; v2 B.4.3 and Table 6: the learning rate.

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax sft --config=configs/distill_llama_8b.py
           --workdir=runs/distill_llama_8b --config.base=FOLDER --data=data.jsonl
Hardware:  16 TPU chips, mesh fsdp: 16; weights, gradient and moments take 128 GB.
           Cost: see plan; none was measured
Expected:  AIME 2024 pass@1 50.4, cons@64 80.0, MATH-500 89.1, GPQA Diamond 49.0,
           LiveCodeBench 39.6
Obtained:  not run by this project
"""

from configs import distill_qwen_32b


def get_config():
    config = distill_qwen_32b.get_config()
    config.model = {"name": "llama3p1_8b"}
    config.mesh = {"fsdp": 16}
    config.optim.learning_rate = 5e-5
    config.sft.num_microbatches = 4
    return config
