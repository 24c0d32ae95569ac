"""Ablation: how far the policy may move from its reference (paper section 2.2, Eq. 2).

The quickstart's run; coefficient and estimator are the grid. 0.04 with k3 is the quickstart, 0.001
the paper's own coefficient.

Command:   python -m r1_jax sweep --config=configs/ablate_kl.py --workdir=runs/ablate_kl
           --grid "grpo.kl_coef=0,0.001,0.04" --grid "grpo.kl_estimator=k1,k3" --seeds=3
Hardware:  two CPU cores, 2 GiB a worker; 18 runs of about a quarter of an hour
Expected:  KL to the reference falls with the coefficient; at coefficient 0 it is not measured, and
           the two estimators are one run
Obtained:  not run yet
"""

from configs import r1_zero_countdown


def get_config():
    return r1_zero_countdown.get_config()
