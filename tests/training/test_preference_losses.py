"""The two losses by hand, and the same for any microbatches, cuts and devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.core import keys
from r1_jax.models import config as model_config
from r1_jax.models import reward, transformer
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.training import preference_losses, reward_model, step
from r1_jax.training import state as train_state
from tests.models import tiny

MODEL = model_config.ModelConfig(
    vocab_size=16, num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=2, head_dim=8, mlp_dim=16
)


def test_bradley_terry_by_hand():
    # d = 1 - (-1) = 2, 0, -3: -log sigmoid(d) = log(1 + e^-d) = 0.126928, 0.693147, 3.048587
    chosen_B, rejected_B = jnp.array([1.0, 4.0, 0.0]), jnp.array([-1.0, 4.0, 3.0])
    loss_B = preference_losses.bradley_terry(chosen_B, rejected_B)
    np.testing.assert_allclose(loss_B, [0.126928, 0.693147, 3.048587], rtol=1e-5)


def test_bradley_terry_s_gradient_by_hand():
    # d/dr_chosen = -sigmoid(-d): -1 / (1 + e^2) = -0.119203, -1 / 2, -1 / (1 + e^-3) = -0.952574
    chosen_B, rejected_B = jnp.array([1.0, 4.0, 0.0]), jnp.array([-1.0, 4.0, 3.0])

    def total(chosen_B, rejected_B):
        return jnp.sum(preference_losses.bradley_terry(chosen_B, rejected_B))

    by_chosen, by_rejected = jax.grad(total, (0, 1))(chosen_B, rejected_B)
    np.testing.assert_allclose(by_chosen, [-0.119203, -0.5, -0.952574], rtol=1e-5)
    np.testing.assert_allclose(by_rejected, -by_chosen)


def test_cross_entropy_and_its_gradient_by_hand():
    # -log sigmoid(2) = 0.126928 where good, -log(1 - sigmoid(2)) = 2.126928 where not
    reward_B, is_good_B = jnp.array([2.0, 2.0, 0.0]), jnp.array([True, False, True])
    loss_B = preference_losses.cross_entropy(reward_B, is_good_B)
    np.testing.assert_allclose(loss_B, [0.126928, 2.126928, 0.693147], rtol=1e-5)
    # sigmoid(r) - label: 0.880797 - 1, 0.880797 - 0, 0.5 - 1
    grad_B = jax.grad(lambda r: jnp.sum(preference_losses.cross_entropy(r, is_good_B)))(reward_B)
    np.testing.assert_allclose(grad_B, [-0.119203, 0.880797, -0.5], rtol=1e-5)


def test_rewards_far_apart_stay_finite():
    far_B = jnp.array([1e4, -1e4])
    for loss in (
        lambda r: preference_losses.bradley_terry(r, -r),
        lambda r: preference_losses.cross_entropy(r, jnp.array([True, True])),
    ):
        value_B, grad_B = loss(far_B), jax.grad(lambda r, loss=loss: jnp.sum(loss(r)))(far_B)
        assert value_B[0] == 0 and value_B[1] >= 1e4
        assert np.isfinite(value_B).all() and np.isfinite(grad_B).all() and grad_B[1] <= -1


def _examples(kind: str, num=8) -> list[reward_model.Example]:
    """Texts of 2 to 70 tokens, from short to long, so that cuts bite."""
    rng = np.random.default_rng(0)

    def text(i):
        return rng.integers(0, MODEL.vocab_size, 2 + 7 * i + int(rng.integers(0, 14))).tolist()

    size = 2 if kind == "pairwise" else 1
    return [
        reward_model.Example(tuple(text(i) for _ in range(size)), kind == "pairwise" or i % 2 == 0)
        for i in range(num)
    ]


def test_metrics_of_a_batch_by_hand(monkeypatch):
    rewards = jnp.array([3.0, 1.0, 0.0, 2.0])  # pairs (3, 1), (0, 2)
    monkeypatch.setattr(reward, "rewards", lambda *_: rewards)
    batch = reward_model.rows(_examples("pairwise", 2), 40, 0)
    out = preference_losses.make_pairwise(MODEL)({}, batch)
    means = {name: float(mean.total / mean.weight) for name, mean in out.means.items()}
    assert means == {"accuracy": 0.5, "margin": 0.0, "reward": 1.5}
    np.testing.assert_allclose(out.loss.total, 0.126928 + 2.126928, rtol=1e-5)
    assert float(out.loss.weight) == 2
    batch = reward_model.rows(_examples("pointwise", 4), 40, 0)  # good, not, good, not
    out = preference_losses.make_pointwise(MODEL)({}, batch)
    means = {name: float(mean.total / mean.weight) for name, mean in out.means.items()}
    # signed: 3, -1, 0, -2; right is the first alone, for 0 is on no side
    assert means == {"accuracy": 0.25, "margin": 0.0, "reward": 1.5}
    np.testing.assert_allclose(out.loss.total, 0.048587 + 1.313262 + 0.693147 + 2.126928, rtol=1e-5)


def _gradient(kind, num_microbatches, capacity=65, mesh=None, pad_id=0):
    """(loss, minus the gradient) of one update by SGD on 8 examples."""
    # Weights as large as trained ones: every leaf has a gradient far above rounding.
    decoder = jax.tree.map(lambda x: 3 * x, transformer.init(MODEL, keys.root(0)))
    params = reward.from_policy(MODEL, decoder)
    params["scalar"] = {"kernel": jnp.cos(jnp.arange(16.0)), "bias": jnp.float32(0.1)}
    before = jax.tree.map(np.asarray, params)
    tx = optax.sgd(1.0)
    update = tiny.jit(
        step.make_update(
            preference_losses.LOSSES[kind](MODEL), tx, num_microbatches=num_microbatches,
            cuts=reward_model.cuts(capacity),
        )
    )  # fmt: skip
    batch = reward_model.rows(_examples(kind), capacity, pad_id)
    if mesh is None:
        state, metrics = update(train_state.create(params, tx), batch)
    else:
        with meshes.activate(mesh):
            boxed = jax.eval_shape(partial(reward.init_boxed, MODEL), keys.root(0))
            placed = jax.device_put(params, place.shardings(boxed, mesh))
            batch = place.from_host(batch, mesh, place.batch_sharding(mesh).spec)
            state, metrics = update(train_state.create(placed, tx), batch)
    change = jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, before)
    return float(metrics["loss"]), change


@pytest.fixture(scope="module")
def whole():
    return {kind: _gradient(kind, 1) for kind in ("pairwise", "pointwise")}


@pytest.mark.parametrize(
    ("kind", "num_microbatches", "more"),
    [
        ("pairwise", 4, {}),
        ("pointwise", 8, {}),
        ("pairwise", 1, {"capacity": 97, "pad_id": 9}),
        ("pairwise", 2, {"mesh": (2, 2, 2)}),
    ],
)
def test_any_microbatches_padding_and_devices_give_one_gradient(
    kind, num_microbatches, more, whole
):
    if "mesh" in more:
        more = {"mesh": meshes.make_mesh(*more["mesh"])}
    loss, change = _gradient(kind, num_microbatches, **more)
    expected_loss, expected = whole[kind]
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    pairs = zip(jax.tree.leaves(change), jax.tree.leaves(expected), strict=True)
    for index, (a, b) in enumerate(pairs):
        if kind == "pairwise" and b.ndim == 0:  # a pair's difference knows no bias
            assert abs(a) < 1e-6 and abs(b) < 1e-6
            continue
        assert np.abs(b).max() > 1e-4, index
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
