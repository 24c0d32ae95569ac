"""Ablation: which behaviours the base knows before RL (Gandhi et al., arXiv:2503.01307).

Variants: shipped (the quickstart's base), no_search and no_checks. Their bases are made first; the
documents that would have searched (or tried, checked and resigned) become single attempts:

  python -m r1_jax pretrain --config=configs/base_countdown.py --workdir=runs/base_no_search
    --config.corpus.search=0 --config.corpus.steps=0.55
  python -m r1_jax pretrain --config=configs/base_countdown.py --workdir=runs/base_no_checks
    --config.corpus.search=0 --config.corpus.give_up=0 --config.corpus.steps=0.63

Command:   python -m r1_jax sweep --config=configs/ablate_base_behaviours.py
           --workdir=runs/ablate_base_behaviours
           --grid "variant=shipped,no_search,no_checks" --seeds=3
Hardware:  two CPU cores, 2 GiB a worker; 9 runs, half a processor-hour a base
Expected:  length and reflection words rise less without searches in the base
Obtained:  no_search (docs/claims, three seeds): pass@1 0.066 -> 0.122, length 20.5 -> 20.3; the
           shipped base 0.15 -> 0.66 and x3.1. no_checks: not run yet
"""

from configs import r1_zero_countdown

BASES = {
    "shipped": "bases/countdown.safetensors",
    "no_search": "runs/base_no_search/base.safetensors",
    "no_checks": "runs/base_no_checks/base.safetensors",
}


def get_config(variant="shipped"):
    if variant not in BASES:
        raise ValueError(f"variant={variant!r} is none of {', '.join(BASES)}")
    config = r1_zero_countdown.get_config()
    config.base = BASES[variant]
    return config
