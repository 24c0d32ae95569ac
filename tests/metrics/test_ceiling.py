"""The ceiling is measured once, and is a rate that this machine can have."""

from r1_jax.metrics import ceiling


def test_it_is_measured_once_and_is_no_other_machine_s(monkeypatch):
    assert 1e8 < ceiling.measured("float32", size=256, rounds=2) < 1e15
    readings = iter([3.0, 4.0])
    monkeypatch.setattr(ceiling, "measured", lambda dtype: next(readings))
    ceiling.matmul_flops.cache_clear()
    assert [ceiling.matmul_flops("float32") for _ in range(2)] == [3.0, 3.0]
    ceiling.matmul_flops.cache_clear()
