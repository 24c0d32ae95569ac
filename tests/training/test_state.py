"""TrainState: a pytree with nothing but arrays in it."""

import jax
import jax.numpy as jnp
import optax

from r1_jax.training import state as train_state


def test_a_fresh_state_holds_step_0_and_the_optimiser_s_start():
    params = {"w": jnp.ones(3)}
    state = train_state.create(params, optax.adam(1e-3))
    assert (int(state.step), state.step.dtype) == (0, jnp.int32)
    assert state.params is params
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    # step, w, and Adam's count, mean and square
    assert len(jax.tree.leaves(state)) == 5


def test_it_passes_through_jit():
    state = train_state.create({"w": jnp.ones(3)}, optax.sgd(1.0))
    doubled = jax.jit(lambda s: jax.tree.map(lambda x: 2 * x, s))(state)
    assert isinstance(doubled, train_state.TrainState)
    assert float(doubled.params["w"][0]) == 2.0
