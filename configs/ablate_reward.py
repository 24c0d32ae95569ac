"""Ablation: what is paid (paper section 2.2.2: accuracy and format rewards).

Variants: both (the quickstart), accuracy alone, format alone, and a coin; the coin's cut-off
completions are left out of the loss, or it would pay for being short (ablate_random_reward.py).

Command:   python -m r1_jax sweep --config=configs/ablate_reward.py --workdir=runs/ablate_reward
           --grid "variant=both,accuracy,format,coin" --seeds=3
Hardware:  two CPU cores, 2 GiB a worker; 12 runs of about a quarter of an hour
Expected:  pass@1 rises where accuracy is paid; format alone raises the share in the asked form
Obtained:  docs/ABLATIONS.md (seeds 0-2, commit efea861): pass@1 from 0.146 to 0.658 both, 0.677
           accuracy, 0.109 format, 0.132 coin; format alone reaches 0.998 in form by shorter answers
"""

from configs import ablate_random_reward, r1_zero_countdown


def get_config(variant="both"):
    if variant == "coin":
        return ablate_random_reward.get_config()
    weights = {"both": (1.0, 1.0), "accuracy": (1.0, 0.0), "format": (0.0, 1.0)}
    if variant not in weights:
        raise ValueError(f"variant={variant!r} is none of {', '.join(weights)}, coin")
    config = r1_zero_countdown.get_config()
    accuracy, form = weights[variant]
    config.reward = {"accuracy_weight": accuracy, "format_weight": form}
    return config
