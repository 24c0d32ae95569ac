"""A reward is read at the last token of a text, whatever stands behind it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import keys, trees
from r1_jax.models import heads, reward, transformer
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from tests.models import tiny


def _params():
    params = reward.from_policy(tiny.MODEL, tiny.params())
    rng = np.random.default_rng(1)
    width = tiny.MODEL.embed_dim
    return params | {"scalar": {"kernel": rng.normal(size=width).astype(np.float32), "bias": 0.5}}


def _texts():
    """(tokens_BT padded with stray tokens, length_B)."""
    rng = np.random.default_rng(0)
    tokens_BT = rng.integers(0, tiny.MODEL.vocab_size, (8, 11), np.int32)
    return tokens_BT, np.array([11, 1, 5, 7, 3, 10, 2, 6], np.int32)


@pytest.fixture(scope="module")
def whole():
    """reward_B of _texts()."""
    tokens_BT, length_B = _texts()
    rewards = tiny.jit(reward.rewards, static_argnums=0)
    return np.asarray(rewards(tiny.MODEL, _params(), tokens_BT, length_B))


def test_it_is_the_head_on_the_last_hidden_state_of_the_text_alone(whole):
    tokens_BT, length_B = _texts()
    params, model = _params(), reward.headless(tiny.MODEL)
    for row in (0, 1, 3):
        alone = tokens_BT[row : row + 1, : length_B[row]]
        hidden_1TD, _ = tiny.jit(transformer.forward, static_argnums=0)(
            model, params["transformer"], alone
        )
        found = heads.scalar(params["scalar"], hidden_1TD[0, -1])
        np.testing.assert_allclose(whole[row], found, rtol=1e-5)
    assert len(set(whole.tolist())) == 8 and np.abs(whole).max() > 0.5


def test_padding_does_not_matter_and_the_last_token_does(whole):
    tokens_BT, length_B = _texts()
    rewards = tiny.jit(reward.rewards, static_argnums=0)
    stray_BT, last_BT = tokens_BT.copy(), tokens_BT.copy()
    for row, length in enumerate(length_B):
        stray_BT[row, length:] = 0
        last_BT[row, length - 1] += 1
    last_BT %= tiny.MODEL.vocab_size
    np.testing.assert_array_equal(rewards(tiny.MODEL, _params(), stray_BT, length_B), whole)
    assert np.all(rewards(tiny.MODEL, _params(), last_BT, length_B) != whole)


def test_a_new_one_says_0_and_leaves_the_vocabulary_head_behind():
    params = reward.from_policy(tiny.MODEL, tiny.params())
    assert "head" in tiny.params() and "head" not in params["transformer"]
    tokens_BT, length_B = _texts()
    found = tiny.jit(reward.rewards, static_argnums=0)(tiny.MODEL, params, tokens_BT, length_B)
    np.testing.assert_array_equal(found, np.zeros(8))
    fresh = jax.eval_shape(lambda: reward.init_boxed(tiny.MODEL, keys.root(0)))
    assert trees.num_params(fresh) == trees.num_params(params)
    tied = dataclasses.replace(tiny.MODEL, tied_embeddings=True)
    assert reward.headless(tiny.MODEL) == tied == reward.headless(tied)


def test_eight_devices_give_what_one_gives(whole):
    mesh = meshes.make_mesh(2, 2, 2)
    boxed = jax.eval_shape(lambda: reward.init_boxed(tiny.MODEL, keys.root(0)))
    params = jax.tree.map(jnp.asarray, _params())
    with meshes.activate(mesh):
        placed = jax.device_put(params, place.shardings(boxed, mesh))
        assert placed["scalar"]["kernel"].sharding.spec == jax.P("fsdp")
        rows = place.from_host(_texts(), mesh, place.batch_sharding(mesh).spec)
        found = tiny.jit(reward.rewards, static_argnums=0)(tiny.MODEL, placed, *rows)
    np.testing.assert_allclose(found, whole, rtol=2e-5, atol=1e-6)
