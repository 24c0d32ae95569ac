"""Our own test sets under the paper's protocol: Countdown, arithmetic, a reasoning-gym set.

The shipped base knows Countdown alone, and its tokenizer was made for it: the other questions take
more tokens.

Command:   python -m r1_jax evaluate --checkpoint=RUN --suite=configs/eval_own.py
Hardware:  two CPU cores
Expected:  numbers with intervals; what they should be depends on RUN
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.sampling = {"temperature": 0.6, "top_p": 0.95, "num_slots": 64}
    config.max_prompt = 256
    config.max_response = 176
    config.entries = {
        "countdown": {"num_samples": 16, "ks": (1, 16), "num_problems": 256, "task": {}},
        "arithmetic": {
            "num_samples": 16, "ks": (1, 16), "num_problems": 64,
            "task": {"name": "arithmetic", "num_train": 1024, "num_validation": 64, "num_test": 64},
        },
        "chain_sum": {
            "num_samples": 16, "ks": (1, 16), "num_problems": 64,
            "task": {
                "name": "reasoning_gym", "dataset": "chain_sum", "num_train": 1024,
                "num_validation": 64, "num_test": 64,
            },
        },
    }  # fmt: skip
    return config
