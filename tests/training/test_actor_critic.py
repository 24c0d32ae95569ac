"""What a critic adds: advantages of a rollout, and an update of two that do not see each other."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.core import keys, types
from r1_jax.models import config as model_config
from r1_jax.models import critic, heads, transformer
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.training import actor_critic, by_length, losses, step
from r1_jax.training import state as train_state
from tests import tiny
from tests.golden import rl_numpy as golden

B, T = 8, 16
MODEL = model_config.ModelConfig(
    vocab_size=16, num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=2, head_dim=8, mlp_dim=16
)


# --- the batch ----------------------------------------------------------------------------------


def _rollouts():
    return tiny.generate(
        tiny.initial_table(), tiny.prompt_batch(0, 4), keys.root(3), 0, 6,
        group_size=4, max_response=6,
    )  # fmt: skip


@pytest.mark.parametrize("kl_place", ["", "loss", "reward"])
@pytest.mark.parametrize("whiten", [False, True])
def test_advantages_and_returns_are_those_of_the_equations(kl_place, whiten):
    rollouts, rng = _rollouts(), np.random.default_rng(1)
    shape = rollouts.tokens_BT.shape
    include_B = np.arange(16) % 7 != 5
    reward_B = np.where(include_B, rng.normal(size=16), np.nan).astype(np.float32)
    value_BT = rng.normal(size=shape).astype(np.float32)
    reference_BT = None
    if kl_place:
        reference_BT = rollouts.logps_BT + rng.normal(0, 0.5, shape).astype(np.float32)
        reference_BT[0, rollouts.prompt_length_B[0]] = -1e30  # a token its filter excludes
    config = tiny.change(kl_coef=0.3, kl_estimator="k1", kl_place=kl_place or "loss")
    ppo = actor_critic.PPOConfig(gamma=0.9, gae_lambda=0.8, whiten=whiten)
    batch, facts = jax.jit(actor_critic.make_batch(config, ppo))(
        rollouts, reward_B, include_B, value_BT, reference_BT, None
    )
    reward_BT, mask_BT = np.zeros(shape), np.zeros(shape, bool)
    for b in range(16):
        start, end = rollouts.prompt_length_B[b], (rollouts.prompt_length_B + rollouts.length_B)[b]
        mask_BT[b, start:end] = True
        reward_BT[b, end - 1] += reward_B[b] if include_B[b] else 0.0
        for t in range(start, end):
            if kl_place == "reward" and reference_BT[b, t] > -1e20:
                reward_BT[b, t] -= 0.3 * float(rollouts.logps_BT[b, t] - reference_BT[b, t])
    advantage_BT, return_BT = golden.gae(reward_BT, value_BT, mask_BT, 0.9, 0.8)
    kept_BT = mask_BT & include_B[:, None]
    if whiten:
        kept = advantage_BT[kept_BT]
        advantage_BT = np.where(kept_BT, (advantage_BT - kept.mean()) / kept.std(), 0)
    np.testing.assert_allclose(batch.advantage_BT, advantage_BT, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch.return_BT, return_BT, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(batch.old_value_BT, value_BT)
    unexplained = np.var((return_BT - value_BT)[kept_BT]) / np.var(return_BT[kept_BT])
    assert float(facts["value/explained_variance"]) == pytest.approx(1 - unexplained, rel=1e-4)


# --- the update ---------------------------------------------------------------------------------


def _batch(**changes) -> types.ActorCriticBatch:
    """Rows of 4 to 16 tokens, in no order, one of them left out."""
    rng = np.random.default_rng(0)
    normal = partial(rng.normal, size=(B, T))
    batch = types.ActorCriticBatch(
        tokens_BT=rng.integers(0, tiny.VOCAB, (B, T), np.int32),
        prompt_length_B=np.array([2, 3, 1, 4, 2, 3, 1, 2], np.int32),
        length_B=np.array([5, 1, 15, 3, 9, 2, 7, 4], np.int32),
        behavior_logps_BT=normal(-2.7, 0.3).astype(np.float32),
        old_logps_BT=None,
        reference_logps_BT=None,
        advantage_BT=normal().astype(np.float32),
        old_value_BT=normal().astype(np.float32),
        return_BT=normal().astype(np.float32),
        include_B=np.arange(B) != 4,
    )
    return jax.tree.map(jnp.asarray, dataclasses.replace(batch, **changes))


def _table_update(num_microbatches=1):
    config = tiny.change(kl_coef=0.0, clip_low=0.2, num_microbatches=num_microbatches)
    ppo = actor_critic.PPOConfig(learning_rate=1.0)
    update = jax.jit(tiny.make_update(config, optax.sgd(1.0), of_ppo=ppo))
    state = tiny.with_critic(train_state.create(tiny.initial_table(), optax.sgd(1.0)), ppo)
    return state, lambda batch: update(state, batch, jnp.arange(B))


def _changes(new, old):
    """What SGD with rate 1 did: minus the gradients."""
    after, before = ((s.policy.params, s.critic.params) for s in (new, old))
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), after, before)


def _assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.abs(a).max() > 1e-4
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())


def test_microbatches_change_nothing(monkeypatch):
    tiny.patch(monkeypatch)
    results = []
    for num in (1, 4):
        state, update = _table_update(num)
        new, metrics = update(_batch())
        results.append((_changes(new, state), metrics))
    _assert_same(results[0][0], results[1][0])
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), results[0][1], results[1][1]
    )


@pytest.mark.parametrize(
    ("spoilt", "skipped"),
    [({"return_BT": np.nan}, (0, 1)), ({"advantage_BT": np.inf}, (1, 0)), ({}, (0, 0))],
)
def test_a_gradient_that_is_not_finite_skips_its_own_half_alone(spoilt, skipped, monkeypatch):
    tiny.patch(monkeypatch)
    state, update = _table_update()
    new, metrics = update(_batch(**{name: np.full((B, T), x) for name, x in spoilt.items()}))
    assert (float(metrics["update/skipped"]), float(metrics["value/skipped"])) == skipped
    policy, value = _changes(new, state)
    assert np.isfinite(policy["table"]).all() and np.isfinite(value["value"]).all()
    assert (not policy["table"].any(), not value["value"].any()) == tuple(map(bool, skipped))
    assert int(new.step) == int(new.policy.step) == int(new.critic.step) == 1
    assert new.params is new.policy.params


def test_eight_devices_change_nothing():
    policy = jax.tree.map(lambda x: 3 * x, transformer.init(MODEL, keys.root(0)))
    of_critic = critic.from_policy(MODEL, policy)
    of_critic["scalar"]["kernel"] += 0.3  # else the first gradient ends in the head
    tx = optax.sgd(1.0)
    config = losses.PolicyLossConfig(clip_low=0.2, clip_high=0.28, kl_coef=0.0)

    def run(mesh=None):
        loss = losses.make_policy(MODEL, config, adjust=lambda logits: logits, max_length=T)
        distance = losses.make_value(MODEL, clip=0.2, aggregation="sequence_mean", max_length=T)
        pieces = {"num_microbatches": 2, "cuts": by_length.cuts((11, T))}
        update = actor_critic.make_update(
            step.make_update(loss, tx, **pieces), step.make_update(distance, tx, **pieces)
        )
        update = jax.jit(by_length.make_update(update))
        params, batch, rows = (policy, of_critic), _batch(), jnp.arange(B)[::-1]
        if mesh is None:
            state = actor_critic.State(*(train_state.create(p, tx) for p in params))
            return state, *update(state, batch, rows)
        with meshes.activate(mesh):
            boxed = jax.eval_shape(partial(transformer.init_boxed, MODEL), keys.root(0))
            both = boxed, {"transformer": boxed, "scalar": heads.init_scalar_boxed(MODEL)}
            placed = [
                jax.device_put(p, place.shardings(b, mesh))
                for p, b in zip(params, both, strict=True)
            ]
            state = actor_critic.State(*(train_state.create(p, tx) for p in placed))
            batch = place.from_host(batch, mesh, place.batch_sharding(mesh).spec)
            return state, *update(state, batch, rows)

    one, one_new, one_metrics = run()
    many, many_new, many_metrics = run(meshes.make_mesh(data=2, fsdp=2, tensor=2))
    kernel = many_new.critic.params["transformer"]["layers"]["block"]["mlp"]["up"]["kernel"]
    assert len(kernel.sharding.device_set) == 8
    _assert_same(_changes(one_new, one), _changes(many_new, many))
    for name in ("loss", "value/loss", "value/mean", "value/gradient_norm"):
        np.testing.assert_allclose(many_metrics[name], one_metrics[name], rtol=1e-4)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gamma": 1.5}, r"gamma=1\.5 must lie in 0\.\.1"),
        ({"gae_lambda": -0.1}, r"gae_lambda=-0\.1 must lie in 0\.\.1"),
        ({"value_clip": -1.0}, r"value_clip=-1\.0 and .* cannot be negative"),
        ({"learning_rate": -1.0}, r"learning_rate=-1\.0 cannot be negative"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        actor_critic.PPOConfig(**wrong)
