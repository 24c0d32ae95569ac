"""The ceiling is measured once, and is a rate that this machine can have."""

from r1_jax.metrics import ceiling


def test_it_is_measured_once_and_is_no_other_machine_s():
    found = ceiling.matmul_flops("float32", size=256, rounds=2)
    assert 1e8 < found < 1e15
    assert ceiling.matmul_flops("float32", size=256, rounds=2) == found
