"""DeepSeek-R1 with the paper's own numbers, stage by stage: what configs/r1_tiny.py is in small.

Paper: the revised supplement of DeepSeek-R1 (arXiv:2501.12948v2), sections 2.2, 3.1, 3.2, B.3 and
B.4. Not published, and here at this project's defaults: samples a prompt of cold start and
rejection sampling, Dev1's number of chains ("thousands"), clip range of R1-Zero, optimiser,
warm-up, packing. Batches of fine-tuning are rows of 32,768 tokens here, documents there. Base
checkpoints are folders made by `convert`; the judge of preferences is a function of yours.

Command:   python -m r1_jax pipeline --config=configs/r1_paper.py --workdir=runs/r1_paper
           --config.base.base=CONVERTED_V3 --config.student_base.base=CONVERTED_QWEN_32B
Hardware:  TPU pods; not run by this project
Expected:  AIME 2024 pass@1 of R1-Zero 77.9, Dev1 59.0, Dev2 74.0, Dev3 78.1, R1 79.8; student 72.6,
           by RL on the same base 47.0
"""

import dataclasses

import ml_collections

from configs import r1_zero_paper
from r1_jax.models import sizes


def get_config():
    config = ml_collections.ConfigDict()
    config.base = {"model": _size("deepseek_v3")}

    config.r1_zero = _reinforced("deepseek_v3")

    config.cold_start = {"num_prompts": 10_000, "num_samples": 16, "per_prompt": 1}
    config.dev1 = _tuned("deepseek_v3", learning_rate=5e-5, batch_rows=128)

    config.dev2 = _reinforced("deepseek_v3")
    config.dev2.reward.language_weight = 1.0
    config.dev2.reward.language = "question"

    config.rejection_sampling = {"num_prompts": 300_000, "num_samples": 16, "per_prompt": 2}
    config.dev3 = _tuned("deepseek_v3", learning_rate=5e-5, batch_rows=128)

    config.preferences = {"num_prompts": 66_000, "num_samples": 2}
    config.reward_model = _tuned("deepseek_v3", learning_rate=5e-5, batch_rows=128)
    config.reward_model.reward_model = {"batch_size": 256, "num_epochs": 1, "max_tokens": 8192}

    config.r1 = _reinforced("deepseek_v3")
    config.r1.task.name = "scenarios"
    config.r1.reward.language_weight = 1.0
    config.r1.reward.language = "question"
    config.r1.sampling.temperature = 0.7
    config.r1.grpo.num_steps = 1696  # 1,700, in whole rollouts of 16 updates
    config.r1.grpo.response_schedule = ((0, 32_768),)
    config.r1.general_reward = {"accuracy": False, "last_steps": 400, "asked_last_steps": 400}

    config.student_base = {"model": _size("qwen2p5_32b")}
    config.student = _tuned("qwen2p5_32b", learning_rate=6e-5, batch_rows=64)
    config.student_rl = _reinforced("qwen2p5_32b")
    config.student_rl.optim.learning_rate = 2e-6
    return config


def _size(name):
    return dataclasses.asdict(sizes.SIZES[name])


def _reinforced(size):
    config = r1_zero_paper.get_config()
    config.model = _size(size)
    return config


def _tuned(size, learning_rate, batch_rows):
    config = _reinforced(size)
    config.optim = {"learning_rate": learning_rate, "schedule": "cosine"}  # to a tenth of it
    config.sft = {
        "epochs": 2,
        "batch_rows": batch_rows,
        "row_length": 32_768,
        "num_microbatches": batch_rows,
        "storage": "bfloat16",
    }
    return config
