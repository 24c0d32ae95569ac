"""One update: the same for any microbatches, cuts and devices; never a non-finite one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.core import keys, types
from r1_jax.models import config as model_config
from r1_jax.models import transformer
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.training import by_length, losses, optim, step
from r1_jax.training import state as train_state
from tests import tiny

B, T = 8, 16
MODEL = model_config.ModelConfig(
    vocab_size=16, num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=2, head_dim=8, mlp_dim=16
)


def _batch(vocab: int = MODEL.vocab_size) -> types.PolicyBatch:
    """Rows of 3 to 16 tokens, in no order, one of them left out."""
    rng = np.random.default_rng(0)
    logps = [rng.normal(-2.7, 0.3, (B, T)).astype(np.float32) for _ in range(3)]
    return types.PolicyBatch(
        tokens_BT=rng.integers(0, vocab, (B, T), np.int32),
        prompt_length_B=np.array([2, 3, 1, 4, 2, 3, 1, 2], np.int32),
        length_B=np.array([5, 1, 15, 3, 9, 2, 7, 4], np.int32),
        behavior_logps_BT=logps[0],
        old_logps_BT=None,
        reference_logps_BT=logps[1],
        advantage_B=rng.normal(size=B).astype(np.float32),
        include_B=np.arange(B) != 4,
    )


def _change(new: train_state.TrainState, old_params):
    """What SGD with rate 1 did: minus the gradient."""
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), new.params, old_params)


def _assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.abs(a).max() > 1e-4
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())


@pytest.fixture(scope="module")
def model_update():
    """(params, function: microbatches, lengths, mesh -> (new state, metrics)) of a real model."""
    # Weights as large as trained ones: every leaf has a gradient far above rounding.
    params = jax.tree.map(lambda x: 3 * x, transformer.init(MODEL, keys.root(0)))
    config = losses.PolicyLossConfig(clip_low=0.2, clip_high=0.28, kl_coef=0.1, entropy_coef=0.01)

    def run(num_microbatches, lengths=(T,), mesh=None):
        loss = losses.make_policy(MODEL, config, adjust=lambda logits: logits, max_length=T)
        tx = optax.sgd(1.0)
        cuts = by_length.cuts(lengths)
        update = by_length.make_update(
            step.make_update(loss, tx, num_microbatches=num_microbatches, cuts=cuts)
        )
        state, batch, order = train_state.create(params, tx), _batch(), jnp.arange(B)[::-1]
        if mesh is None:
            return jax.jit(update)(state, batch, order)
        with meshes.activate(mesh):
            boxed = jax.eval_shape(partial(transformer.init_boxed, MODEL), keys.root(0))
            placed = jax.device_put(params, place.shardings(boxed, mesh))
            batch = place.from_host(batch, mesh, place.batch_sharding(mesh).spec)
            return jax.jit(update)(train_state.create(placed, tx), batch, order)

    return params, run


@pytest.fixture(scope="module")
def whole(model_update):
    """(change of the parameters, metrics) of one update on the whole batch, on one device."""
    params, run = model_update
    new, metrics = run(1)
    return _change(new, params), metrics


def test_microbatches_and_cuts_change_nothing(model_update, whole):
    params, run = model_update
    new, metrics = run(4, (6, 11, T))
    _assert_same(whole[0], _change(new, params))
    assert metrics.keys() == whole[1].keys()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), metrics, whole[1])


def test_eight_devices_change_nothing(model_update, whole):
    params, run = model_update
    mesh = meshes.make_mesh(data=2, fsdp=2, tensor=2)
    new, metrics = run(2, mesh=mesh)
    assert len(new.params["layers"]["block"]["mlp"]["up"]["kernel"].sharding.device_set) == 8
    _assert_same(whole[0], _change(new, params))
    np.testing.assert_allclose(metrics["loss"], whole[1]["loss"], rtol=1e-5)


@pytest.mark.parametrize("aggregation", losses.objectives.AGGREGATIONS)
def test_eight_microbatches_of_one_row_are_one_batch_whatever_the_mean(aggregation, monkeypatch):
    tiny.patch(monkeypatch)
    config = losses.PolicyLossConfig(aggregation=aggregation, kl_coef=0.1, clip_low=0.2)
    loss = losses.make_policy(None, config, adjust=lambda x: x, max_length=T)
    batch = jax.tree.map(jnp.asarray, _batch(tiny.VOCAB))
    state = train_state.create(tiny.initial_table(), optax.sgd(1.0))
    changes = []
    for num in (1, 4, 8):
        update = step.make_update(loss, optax.sgd(1.0), num_microbatches=num)
        changes.append(_change(update(state, batch)[0], state.params))
    _assert_same(changes[0], changes[1])
    _assert_same(changes[0], changes[2])


# --- by hand ------------------------------------------------------------------------------------


def _squared(params, batch) -> step.LossOutput:
    """Mean over rows with weight of (w x - y)^2 weighted: gradients a hand can check."""
    error_B = params["w"] * batch["x"] - batch["y"]
    total = jnp.sum(batch["weight"] * error_B**2)
    weight = types.WeightedSum(total, jnp.sum(batch["weight"]))
    return step.LossOutput(
        weight, {"error": weight}, {"largest": jnp.max(jnp.abs(error_B))}, {"error": error_B}
    )


def _data(**changes):
    data = {"x": [1.0, 2.0, 3.0, 4.0], "y": [0.0, 0.0, 1.0, 0.0], "weight": [1.0, 0.0, 1.0, 2.0]}
    return {name: jnp.array(value) for name, value in (data | changes).items()}


def _state(tx):
    return train_state.create({"w": jnp.array(1.0)}, tx)


@pytest.mark.parametrize("num_microbatches", [1, 2, 4])
def test_the_gradient_is_the_weighted_mean_s(num_microbatches):
    # d/dw sum w_i (w x_i - y_i)^2 / 4 = 2 (1*1*1 + 1*3*2 + 2*4*4) / 4 = 19.5
    tx = optax.sgd(0.1)
    state, row = step.make_update(_squared, tx, num_microbatches=num_microbatches)(
        _state(tx), _data()
    )
    assert float(state.params["w"]) == pytest.approx(1.0 - 0.1 * 19.5)
    assert float(row["gradient/norm"]) == pytest.approx(19.5)
    assert float(row["loss"]) == pytest.approx((1 + 4 + 2 * 16) / 4)
    assert float(row["error"]) == pytest.approx((1 + 4 + 2 * 16) / 4)
    assert float(row["largest"]) == 4.0
    assert (int(state.step), float(row["update/skipped"])) == (1, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("num_microbatches", [1, 4])
def test_a_gradient_that_is_not_finite_is_never_applied_and_is_counted(bad, num_microbatches):
    tx = optim.make_optimizer(optim.OptimConfig(learning_rate=0.1), 10)
    update = step.make_update(_squared, tx, num_microbatches=num_microbatches)
    good, _ = update(_state(tx), _data())
    state, row = update(good, _data(y=[0.0, 0.0, bad, 0.0]))
    assert float(row["update/skipped"]) == 1.0
    assert not np.isfinite(row["gradient/norm"])
    assert int(state.step) == 2
    for kept, old in zip(
        jax.tree.leaves((state.params, state.opt_state)),
        jax.tree.leaves((good.params, good.opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(kept, old)
    recovered, row = update(state, _data())
    assert float(row["update/skipped"]) == 0.0
    assert float(recovered.params["w"]) != float(state.params["w"])


def test_a_batch_without_weight_moves_nothing():
    tx = optax.sgd(0.1)
    state, row = step.make_update(_squared, tx)(_state(tx), _data(weight=[0.0] * 4))
    assert float(state.params["w"]) == 1.0
    assert (float(row["loss"]), float(row["update/skipped"])) == (0.0, 0.0)
