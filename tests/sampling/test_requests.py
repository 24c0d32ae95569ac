import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.sampling import requests


@pytest.mark.parametrize("exchanged", [2**28, 200, 60])
def test_finished_rows_are_collected_whatever_is_exchanged_at_one_time(exchanged, monkeypatch):
    monkeypatch.setattr(requests, "EXCHANGED", exchanged)
    rng = np.random.default_rng(0)

    def drawn(num, first):
        return requests.Done(
            rng.integers(0, 9, (num, 13)).astype(np.int32),
            rng.normal(size=(num, 13)).astype(np.float32),
            np.arange(first, first + num, dtype=np.int32),
            np.arange(first, first + num, dtype=np.int32) + 50,
            rng.integers(0, 9, (num, 13, 2, 3)).astype(np.int16),
        )

    done, found = drawn(6, 0), drawn(3, 100)
    row_B = np.array([4, 6, 1])  # six is none
    collected = requests.collected(*jax.tree.map(jnp.asarray, (done, row_B, found)))
    for name in ("tokens_BR", "logps_BR", "length_B", "stop_B", "chosen_BRLX"):
        expected = getattr(done, name).copy()
        expected[4], expected[1] = getattr(found, name)[0], getattr(found, name)[2]
        np.testing.assert_array_equal(np.asarray(getattr(collected, name)), expected)
