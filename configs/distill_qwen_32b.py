"""Distillation into Qwen2.5-32B: fine-tuning on R1's ~800K answers, no RL. Others start from here.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.4; v2 B.4.3: two to three epochs, learning rate by
cosine to a tenth, context 32,768, batch 64, which here are packed rows and there documents. The
answers are yours to bring: a JSON line each with uid, question, completion and source, as the stage
rejection_sampling of `pipeline` leaves them (data/demonstrations).

Command:   python -m r1_jax convert --from-hf=DIR --to=FOLDER
           python -m r1_jax sft --config=configs/distill_qwen_32b.py
           --workdir=runs/distill_qwen_32b --config.base=FOLDER --data=data.jsonl
Hardware:  64 TPU chips, mesh fsdp: 64; weights, gradient and moments take 524 GB.
           Cost: see plan; none was measured
Expected:  AIME 2024 pass@1 72.6, cons@64 83.3, MATH-500 94.3, GPQA Diamond 62.1,
           LiveCodeBench 57.2
Obtained:  not run by this project
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.model = {"name": "qwen2p5_32b"}
    config.mesh = {"fsdp": 64}
    config.optim = {"learning_rate": 6e-5, "schedule": "cosine", "final_share": 0.1}
    config.sft = {
        "epochs": 2,
        "batch_rows": 64,
        "row_length": 32_768,
        "num_microbatches": 1,
        "storage": "bfloat16",
    }
    config.checkpoint = {"every": 200}
    return config
