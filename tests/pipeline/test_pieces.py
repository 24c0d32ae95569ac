"""Scoring and updates piece by piece: what one program would give, and what is compiled when."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.core import types
from r1_jax.metrics import compilations
from r1_jax.pipeline import pieces
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.training import actor_critic, by_length, step
from r1_jax.training import state as train_state

PROMPT_B = np.array([2, 3, 1, 4, 2, 3, 1, 2], np.int32)
LENGTH_B = np.array([5, 1, 15, 3, 9, 2, 7, 4], np.int32)  # together 7 4 16 7 11 5 8 6
B, T = 8, 16
LENGTHS = (6, 8, 16)
EVERY = np.arange(B)


@pytest.fixture
def mesh():
    return meshes.make_mesh(data=2, devices=jax.devices()[:2])


def _rows(length_B=LENGTH_B) -> by_length.Rows:
    tokens_BT = np.random.default_rng(0).integers(1, 9, (B, T)).astype(np.int32)
    filledT = np.arange(T) < (PROMPT_B + length_B)[:, None]
    return by_length.Rows(np.where(filledT, tokens_BT, 0), PROMPT_B, length_B)


def _loss(params, rows: by_length.Rows) -> step.LossOutput:
    """Linear in "w" and "v"; columns beyond a row's end are zero, so that no cut changes it."""
    sum_b = jnp.sum(rows.tokens_BT, axis=1).astype(jnp.float32)
    total = params["w"] * jnp.sum(sum_b) + jnp.sum(params["v"]) * jnp.sum(sum_b**2)
    weight = jnp.sum(rows.length_B).astype(jnp.float32)
    longest = jnp.float32(rows.tokens_BT.shape[1])
    means = {"tokens": types.WeightedSum(jnp.sum(sum_b), weight)}
    return step.LossOutput(
        types.WeightedSum(total, weight), means, {"cut": longest}, {"sum": sum_b}
    )


def _state(mesh):
    params = {"w": jnp.float32(1.0), "v": jnp.arange(4, dtype=jnp.float32)}
    state = train_state.create(params, optax.sgd(0.01))
    laid: Any = {"w": place.replicated(mesh), "v": jax.NamedSharding(mesh, jax.P("data"))}
    everywhere: Any = place.replicated(mesh)
    shardings = train_state.TrainState(everywhere, laid, state.opt_state)
    return jax.device_put(state, shardings), shardings


def _put(rows, mesh):
    return place.from_host(rows, mesh, place.batch_sharding(mesh).spec)


def _parts(frozen, shared):
    return step.make_parts(_loss, optax.sgd(0.01 if frozen is None else 0.0))


@pytest.mark.parametrize("num_pieces", [1, 4])
def test_an_update_in_pieces_is_the_one_of_a_single_program(num_pieces, mesh):
    chosen = np.array([6, 1, 2, 5, 7, 0, 3, 4])
    cuts = by_length.cuts(LENGTHS)
    whole = by_length.make_update(
        step.make_update(_loss, optax.sgd(0.01), num_microbatches=num_pieces, cuts=cuts)
    )
    with meshes.activate(mesh):
        state, shardings = _state(mesh)
        expected, told = jax.jit(whole)(state, _put(_rows(), mesh), chosen)
        update = pieces.make_update(_parts, mesh, shardings, num_pieces, LENGTHS)
        filled = by_length.Filled.of(_rows())
        new, metrics = update(state, _put(_rows(), mesh), filled, chosen)
    assert state.params["v"].is_deleted()  # donated
    assert new.params["v"].sharding == shardings.params["v"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new, expected)
    order = by_length.order(filled, chosen, num_pieces, LENGTHS)
    assert metrics.pop("tokens/padding_share") == order.padding_share(filled)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), metrics, told)
    np.testing.assert_array_equal(metrics["rows"]["sum"], _rows().tokens_BT[chosen].sum(axis=1))
    assert float(metrics["cut"]) == 16 and int(new.step) == 1


def test_a_length_is_compiled_when_a_piece_first_has_it_and_never_again(mesh):
    short_B = np.full(B, 2, np.int32)  # all of 3 to 6
    with meshes.activate(mesh), compilations.Counter() as counter:
        state, shardings = _state(mesh)
        update = pieces.make_update(_parts, mesh, shardings, 4, LENGTHS)
        logps = pieces.make_logps(_positions, mesh, 4, LENGTHS)

        def both(state, length_B):
            rows = _rows(length_B)
            put, filled = _put(rows, mesh), by_length.Filled.of(rows)
            logps(jnp.float32(0.5), put, filled)
            state, _ = update(state, put, filled, EVERY)
            return state, counter.lap()

        state, first = both(state, short_B)
        state, again = both(state, short_B[::-1].copy())
        state, longer = both(state, LENGTH_B)  # which has all three lengths
        state, last = both(state, LENGTH_B)
    assert first and (again, longer, last) == (0, 4, 0)


def _positions(params, rows, shared=None):
    """Every token, plus 1000 times how many positions its piece was given."""
    return params + rows.tokens_BT.astype(jnp.float32) + 1000 * rows.tokens_BT.shape[1]


@pytest.mark.parametrize("num_pieces", [1, 4])
def test_scoring_in_pieces_is_that_of_a_single_program(num_pieces, mesh):
    rows = _rows()
    expected_BT = by_length.make_logps(_positions, num_pieces, LENGTHS)(jnp.float32(0.5), rows)
    with meshes.activate(mesh):
        logps = pieces.make_logps(_positions, mesh, num_pieces, LENGTHS)
        found_BT = logps(jnp.float32(0.5), _put(rows, mesh), by_length.Filled.of(rows))
    assert found_BT.sharding.is_equivalent_to(place.batch_sharding(mesh), 2)
    np.testing.assert_array_equal(found_BT, expected_BT)


def test_a_critic_s_sum_goes_beside_the_policy_s(mesh):
    def parts(frozen, shared):
        slower = step.make_parts(lambda p, r: _value_loss(p, r), optax.sgd(0.001))
        return actor_critic.make_parts(_parts(frozen, shared), slower)

    with meshes.activate(mesh):
        (policy, of_policy), (critic, of_critic) = _state(mesh), _state(mesh)
        alone, told = jax.jit(step.make_update(_loss, optax.sgd(0.01)))(policy, _rows())
        value, _ = jax.jit(step.make_update(_value_loss, optax.sgd(0.001)))(critic, _rows())
        state = actor_critic.State(policy, critic)
        shardings = actor_critic.State(of_policy, of_critic)
        update = pieces.make_update(parts, mesh, shardings, 2, LENGTHS)
        filled = by_length.Filled.of(_rows())
        new, metrics = update(state, _put(_rows(), mesh), filled, EVERY)
    for found, expected in ((new.policy, alone), (new.critic, value)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    np.testing.assert_allclose(metrics["loss"], told["loss"], rtol=1e-6)
    assert float(metrics["value/clip_share"]) == 0.25


def _value_loss(params, rows):
    found = _loss(params, rows)
    means = {name: types.WeightedSum(jnp.float32(1), jnp.float32(4)) for name in ("mean",)}
    means["clip_share"] = types.WeightedSum(jnp.float32(1), jnp.float32(4))
    return step.LossOutput(found.loss, means, {}, {})
