"""The supervised loop: passes in orders that a resume finds again."""

import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.data import packing
from r1_jax.training import state as train_state
from r1_jax.training import supervised

CONFIG = supervised.SupervisedConfig(batch_rows=3, row_length=4)


def _rows(num=11) -> packing.Packed:
    return packing.pack([[i, i, i] for i in range(num)], row_length=4, pad_id=99)


def _train(first_step=0, seed=0, rows=None, config=CONFIG, num_steps=3):
    """(batches of first tokens that the updates saw, log calls, saved steps)."""
    seen, logged, saved = [], [], []

    def update(state, batch):
        seen.append(batch.tokens_BT[:, 0].tolist())
        return train_state.TrainState(state.step + 1, state.params, ()), {"loss": jnp.float32(7)}

    state = supervised.train(
        config, train_state.TrainState(jnp.int32(first_step), {}, ()), rows or _rows(), update,
        lambda batch: batch, seed=seed,
        log=lambda step, row: logged.append((step, float(row["loss"]))),
        save=lambda state: saved.append(int(state.step)),
    )  # fmt: skip
    assert int(state.step) == num_steps
    return seen, logged, saved


def test_the_weight_of_multi_token_prediction_is_the_schedule_s_last_one_begun():
    config = supervised.SupervisedConfig(mtp_schedule=((0, 0.3), (10, 0.1)))
    found = [supervised.mtp_weight(config, step) for step in (0, 9, 10, 11)]
    assert found == [0.3, 0.3, 0.1, 0.1]
    assert supervised.mtp_weight(supervised.SupervisedConfig(), 5) == 0.0
    with pytest.raises(ValueError, match=r"mtp_schedule entry \(-1, 0\.3\) cannot be negative"):
        supervised.SupervisedConfig(mtp_schedule=((-1, 0.3),))


@pytest.mark.parametrize("name", ["balance_coef", "bias_rate"])
def test_what_balances_experts_is_not_negative(name):
    with pytest.raises(ValueError, match=f"{name}=-1"):
        supervised.SupervisedConfig(**{name: -1.0})


def test_one_pass_over_shuffled_rows_leaves_the_last_incomplete_batch_out():
    seen, logged, saved = _train()
    flat = [token for batch in seen for token in batch]
    assert len(flat) == len(set(flat)) == 9 and set(flat) <= set(range(11))
    assert flat != sorted(flat) and flat != sorted(flat, reverse=True)
    assert logged == [(0, 7.0), (1, 7.0), (2, 7.0)]
    assert saved == [1, 2, 3]


def test_the_order_is_a_function_of_the_seed():
    assert _train(seed=0)[0] == _train(seed=0)[0] != _train(seed=1)[0]


def test_a_resumed_run_sees_what_the_uninterrupted_one_would():
    assert _train(first_step=2)[0] == _train()[0][2:]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_rows": 5, "num_microbatches": 2}, "batch_rows=5 does not split"),
        ({"batch_rows": 0}, "batch_rows=0 must be at least 1"),
        ({"num_microbatches": 0}, "must be at least 1"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        supervised.SupervisedConfig(**wrong)


def test_a_corpus_smaller_than_one_batch_is_an_error():
    with pytest.raises(ValueError, match="pack into 2 rows, fewer than batch_rows=3; bring"):
        supervised.num_steps(CONFIG, _rows(2))
    assert supervised.num_steps(CONFIG, _rows(3)) == 1
    assert np.shape(_rows(3).tokens_BT) == (3, 4)


def test_every_epoch_has_an_order_of_its_own_and_a_resume_finds_it():
    config = supervised.SupervisedConfig(epochs=2, batch_rows=3, row_length=4)
    seen, _, _ = _train(config=config, num_steps=6)
    first, second = seen[:3], seen[3:]
    assert first == _train()[0] != second
    for epoch in (first, second):
        assert len({token for batch in epoch for token in batch}) == 9
    assert _train(config=config, first_step=4, num_steps=6)[0] == seen[4:]
