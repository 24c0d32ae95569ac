"""TrainState: a pytree with nothing but arrays in it."""

import time

import jax
import jax.numpy as jnp
import optax

from r1_jax.core import trees
from r1_jax.models import sizes, transformer
from r1_jax.training import optim
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


def test_the_whole_state_of_deepseek_v3_is_described_in_seconds():
    """671B parameters with their moments, allocated nowhere."""
    began = time.process_time()
    model = sizes.SIZES["deepseek_v3"]
    tx = optim.make_optimizer(optim.OptimConfig(), num_steps=10)

    def fresh(key):
        return train_state.create(transformer.init(model, key), tx)

    abstract = jax.eval_shape(fresh, jax.random.key(0))
    assert time.process_time() - began < 20  # of a machine with much else to do
    assert trees.num_params(abstract.params) == 671_026_419_200
    moments = trees.num_params(abstract.opt_state)
    assert 2 * 671_026_419_200 <= moments < 2 * 671_026_419_200 + 10  # and a few counters
