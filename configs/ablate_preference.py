"""Ablation: how long the reward model pays R1's last stage (revised paper 3.2.2, B.5).

Variants: rules (general answers are paid by their own verdict, no reward model), late (the last 20
of 60 updates, R1's way) and always (from the first update on). All start from one chain's Dev3
and its reward model; `claims` gives their paths, by hand:

Command:   python -m r1_jax sweep --config=configs/ablate_preference.py --workdir=runs/preference
           --grid "variant=rules,late,always" --seeds=3
           --config.base=runs/r1/dev3/policy.safetensors
           --config.general_reward.path=runs/r1/reward_model/reward_model.safetensors
Hardware:  two CPU cores, 2 GiB a worker; 9 runs of ten minutes, after a chain
Expected:  the paper's: with the reward model from the start, its opinion rises and what it cannot
           see falls
Obtained:  docs/claims/CLAIMS.md
"""

from configs import r1_tiny


def get_config(variant="late"):
    config = r1_tiny.get_config().r1
    config.general_reward.asked_last_steps = 0  # the same prompts in every arm
    if variant == "rules":
        config.general_reward = {"accuracy": True, "weight": 0.0}
    elif variant in ("late", "always"):
        config.general_reward.last_steps = 20 if variant == "late" else 0
    else:
        raise ValueError(f"variant={variant!r} is none of rules, late and always")
    return config
