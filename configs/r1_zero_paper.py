"""R1-Zero with the paper's own numbers: what the small runs are a scale model of.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.2, and its revised supplement for the settings. A
rollout is 512 questions x 16 answers, cut at random into 16 minibatches, one pass; a step is one
update on 512 answers. Published: learning rate, KL coefficient, group size, temperature, lengths,
batch, reference refresh, steps. Not published, and therefore at this project's defaults: clip range
of R1-Zero (R1's first stage: 10), optimiser, betas, decay, size of the format reward.

The model here is the shape of Qwen2.5-32B, the largest of the paper's own R1-Zero runs that the
dense decoder can hold (there with learning rate 2e-6); DeepSeek-V3's shape is another
architecture. Its weights and its questions are yours to bring: `base` and `tokenizer.path`.

Command:   python -m r1_jax train --config=configs/r1_zero_paper.py --workdir=runs/paper
           --config.base=BASE.safetensors --config.tokenizer.path=TOKENIZER.model
Hardware:  a TPU pod slice; not run by this project
Expected:  AIME 2024 pass@1 15.6 -> 77.9 for the 671B model, 47.0 for 32B dense
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.task = {"name": "reasoning_gym", "dataset": "gsm_symbolic", "num_train": 80_000}
    config.model = {
        "vocab_size": 152_064,
        "num_layers": 64,
        "embed_dim": 5120,
        "num_heads": 40,
        "num_kv_heads": 8,
        "head_dim": 128,
        "mlp_dim": 27_648,
        "qkv_bias": True,
        "tied_embeddings": False,
        "rope_theta": 1e6,
        "norm_epsilon": 1e-5,
        "compute_dtype": "bfloat16",
        "remat": "full",
    }
    config.optim = {"learning_rate": 3e-6}
    config.sampling = {"temperature": 1.0, "num_slots": 1024}
    config.grpo = {
        "num_steps": 10_400,
        "prompts_per_rollout": 512,
        "group_size": 16,
        "num_minibatches": 16,
        "inner_epochs": 1,
        "clip_low": 10.0,
        "clip_high": 10.0,
        "kl_coef": 0.001,
        "kl_estimator": "k3",
        "reference_every": 400,
        "max_prompt": 1024,
        "max_response": 65_536,
        "response_schedule": ((0, 32_768), (8200, 65_536)),
        "num_microbatches": 64,
        "gap_bound": 2.0,  # of the worst token of millions, in bfloat16
    }
    config.reward = {"accuracy_weight": 1.0, "format_weight": 1.0}
    config.eval = {"num_problems": 512, "every": 200}
    config.checkpoint = {"every": 100}
    return config
