"""A reward model of the shipped Countdown base's size, trained on judged pairs of your own.

DeepSeek-R1 (Nature, 2025) 3.1 at toy scale. The paper's own numbers (256 pairs a batch, learning
rate 6e-6, one epoch, 8,192 tokens) are the defaults of reward_model.*; a base of 0.66M parameters
wants more epochs and a larger rate. `--config.reward_model.kind=pointwise` makes a safety model.

Command:   python -m r1_jax reward_model --config=configs/reward_model_tiny.py \
             --candidates=pairs_to_judge.jsonl --judge=my_rules:better --data=runs/pairs.jsonl \
             --workdir=runs/reward_model
Hardware:  two CPU cores, 2 GiB
Obtained:  depends on the pairs; tests/pipeline/test_reward_models.py holds a smaller one to more
           than 0.9 of unseen pairs right
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.base = "bases/countdown.safetensors"
    config.model = {
        "vocab_size": 576,
        "num_layers": 3,
        "embed_dim": 128,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 32,
        "mlp_dim": 384,
    }
    config.reward_model = {
        "batch_size": 32,
        "num_epochs": 3,
        "max_tokens": 256,
        "held_out_share": 0.1,
        "optim": {
            "learning_rate": 3e-4,
            "schedule": "cosine",
            "warmup_steps": 10,
            "weight_decay": 0.1,
        },
    }
    return config
