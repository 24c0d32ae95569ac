"""Distillation into Llama-3.3-70B-Instruct: configs/distill_qwen_32b.py with another base.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.4; v2 B.4.3 and Table 6: the learning rate.

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax sft --config=configs/distill_llama_70b.py
           --workdir=runs/distill_llama_70b --config.base=FOLDER --data=data.jsonl
Hardware:  64 TPU chips, mesh fsdp: 64; weights, gradient and moments take 1,129 GB.
           Cost: see plan; none was measured
Expected:  AIME 2024 pass@1 70.0, cons@64 86.7, MATH-500 94.5, GPQA Diamond 65.2,
           LiveCodeBench 57.5
Obtained:  not run by this project
"""

from configs import distill_qwen_32b


def get_config():
    config = distill_qwen_32b.get_config()
    config.model = {"name": "llama3p3_70b"}
    config.mesh = {"fsdp": 64}
    config.optim.learning_rate = 2e-5
    config.sft.num_microbatches = 1
    return config
