"""A base model for Countdown, pre-trained from nothing on a synthetic corpus.

It stands for the paper's pre-trained base: it knows the format, can calculate and check, but
mostly guesses. The corpus' behaviours are configuration: `--config.corpus.search=0` takes
searching out of it (Gandhi et al., arXiv:2503.01307).

Command:   python -m r1_jax pretrain --config=configs/base_countdown.py --workdir=runs/base
Hardware:  two CPU cores, 2 GiB
Obtained:  see bases/README.md, with commit and digest
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.task = {
        "name": "countdown",
        "num_numbers": 3,
        "min_number": 1,
        "max_number": 16,
        "min_target": 10,
        "max_target": 80,
        "num_train": 4096,
        "num_validation": 512,
        "num_test": 512,
    }
    config.model = {
        "vocab_size": 576,
        "num_layers": 3,
        "embed_dim": 128,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 32,
        "mlp_dim": 384,
    }
    config.corpus = {
        "num_documents": 240_000,
        "guess": 0.37,  # answers without reasoning, most of them wrong
        "steps": 0.37,  # one attempt, not checked, most of them wrong
        "search": 0.18,  # tries, checks, says so, tries again
        "give_up": 0.08,  # tries, checks, resigns
        "guess_right": 0.15,
        "steps_right": 0.15,
    }
    config.pretrain = {"batch_rows": 32, "row_length": 256, "num_microbatches": 4}
    config.optim = {
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup_steps": 100,
        "weight_decay": 0.1,
    }
    config.checkpoint = {"every": 200}
    return config
