"""The reward model's loop: an order that a resume finds again, rows as they were given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.training import reward_model
from r1_jax.training import state as train_state

CONFIG = reward_model.RewardModelConfig(batch_size=3, num_epochs=2, max_tokens=12)


def _examples(num=11):
    return [reward_model.Example(([i] * (2 + i % 5), [i] * 3)) for i in range(num)]


def _train(first_step=0, seed=0, config=CONFIG):
    """(examples that each update saw, their lengths, saved steps)."""
    seen, lengths, saved, logged = [], [], [], []

    def update(state, batch):
        seen.append(batch.tokens_BXT[:, 0, 0].tolist())
        lengths.append(batch.length_BX.max(axis=1).tolist())
        assert batch.tokens_BXT.shape == (3, 2, 12)
        return train_state.TrainState(state.step + 1, state.params, ()), {
            "loss": jnp.float32(7), "rows": {},
        }  # fmt: skip

    state = reward_model.train(
        config, train_state.TrainState(jnp.int32(first_step), {}, ()), _examples(), update,
        lambda batch: batch, pad_id=99, seed=seed,
        log=lambda step, row: logged.append((step, row)),
        save=lambda state: saved.append(int(state.step)),
    )  # fmt: skip
    assert int(state.step) == 6 and saved == list(range(first_step + 1, 7))
    assert logged == [(step, {"loss": 7.0}) for step in range(first_step, 6)]
    return seen, lengths


def test_every_epoch_is_a_fresh_pass_without_the_last_incomplete_batch():
    seen, lengths = _train()
    for epoch in (seen[:3], seen[3:]):
        flat = [i for batch in epoch for i in batch]
        assert len(flat) == len(set(flat)) == 9
    assert sorted(map(sorted, seen[:3])) != sorted(map(sorted, seen[3:]))
    assert all(batch == sorted(batch) for batch in lengths)  # short to long


def test_a_resumed_run_sees_what_the_uninterrupted_one_would():
    whole = _train()[0]
    for first_step in (1, 3, 5):
        assert _train(first_step)[0] == whole[first_step:]
    assert _train(seed=1)[0] != whole


def test_rows_by_hand():
    examples = [reward_model.Example(([1, 2], [3])), reward_model.Example(([4], [5, 6, 7]), False)]
    rows = reward_model.rows(examples, 4, pad_id=9)
    assert rows.tokens_BXT.tolist() == [
        [[1, 2, 9, 9], [3, 9, 9, 9]],
        [[4, 9, 9, 9], [5, 6, 7, 9]],
    ]
    assert rows.length_BX.tolist() == [[2, 1], [1, 3]]
    assert rows.is_good_B.tolist() == [True, False]
    assert examples[1].longest == 3


def test_a_cut_leaves_no_token_out_and_no_more_than_it_must():
    cuts = reward_model.cuts(200)
    for longest in (2, 33, 34, 97, 150, 200):
        rows = reward_model.rows([reward_model.Example(([1] * longest, [1]))], 200, 0)
        rows = jax.tree.map(jnp.asarray, rows)
        cut = cuts.all[int(cuts.which(rows))](rows)
        assert longest <= cut.tokens_BXT.shape[2] <= max(33, longest + 64)
        np.testing.assert_array_equal(cut.length_BX, rows.length_BX)


def test_the_defaults_are_the_paper_s():
    config = reward_model.RewardModelConfig()
    assert (config.batch_size, config.num_epochs, config.max_tokens) == (256, 1, 8192)
    assert config.optim.learning_rate == 6e-6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 5, "num_microbatches": 2}, "batch_size=5 does not split"),
        ({"batch_size": 0}, "must be at least 1"),
        ({"num_epochs": 0}, "must be at least 1"),
        ({"max_tokens": 1}, "max_tokens 2"),
        ({"held_out_share": 0.0}, "held_out_share=0.0 must be a share"),
        ({"held_out_share": 1.0}, "held_out_share=1.0 must be a share"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        reward_model.RewardModelConfig(**wrong)


def test_too_few_examples_are_an_error():
    with pytest.raises(ValueError, match="2 examples to train on are fewer than batch_size=3"):
        reward_model.num_steps(CONFIG, 2)
    assert reward_model.num_steps(CONFIG, 11) == 6
