"""PPO with a critic in the place of GRPO's groups: the paper's comparison (revised supplement A.3).

Variants: 1.0 and 0.95, the lambda of generalised advantage estimation, and grpo, the quickstart.
All see the same number of completions, one update a rollout. The critic begins as the base with a
head that says 0, and learns ten times as fast as the policy (TinyZero's ratio). Its KL penalty
is RLHF's: k1, per token, in the reward, where it adds up over a completion; so 0.001 and not
the quickstart's 0.04, which GRPO's loss averages over some 60 tokens.

Command:   python -m r1_jax sweep --config=configs/ppo_countdown.py --workdir=runs/ppo_countdown
           --grid "variant=grpo,0.95,1.0" --seeds=3
Hardware:  two CPU cores, 2 GiB a worker; 9 runs, a third longer with a critic than without
Expected:  the paper's: 0.95 clearly below GRPO, 1.0 close to it
Obtained:  not run yet
"""

from configs import r1_zero_countdown


def get_config(variant="1.0"):
    config = r1_zero_countdown.get_config()
    if variant == "grpo":
        return config
    if variant not in ("0.95", "1.0"):
        raise ValueError(f"variant={variant!r} is none of grpo, 0.95 and 1.0")
    config.ppo = {"gae_lambda": float(variant), "learning_rate": 7e-4}
    config.grpo.kl_place, config.grpo.kl_estimator, config.grpo.kl_coef = "reward", "k1", 0.001
    return config
