"""The base of the tiny R1 chain's student: base_r1's corpus, a smaller model.

Command:   python -m r1_jax pretrain --config=configs/base_r1_student.py --workdir=runs/student
Hardware:  two CPU cores, 2 GiB
Obtained:  see bases/README.md, with commit and digest
"""

from configs import base_r1


def get_config():
    config = base_r1.get_config()
    config.model.num_layers = 2
    config.model.embed_dim = 96
    config.model.num_heads = 3
    config.model.num_kv_heads = 1
    config.model.mlp_dim = 256
    return config
