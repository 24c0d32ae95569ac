"""A critic: reads what stands before a token, starts as the policy, shares nothing with it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import critic, transformer
from tests.models import tiny

TOKENS_BT = np.random.default_rng(0).integers(0, 26, (2, 9), np.int32)


@pytest.fixture(scope="module")
def values():
    """values(params, tokens_BT), compiled, and parameters whose head is not 0."""
    params = critic.from_policy(tiny.MODEL, tiny.params())
    head = np.random.default_rng(1).normal(size=32).astype(np.float32)
    params["scalar"] = {"kernel": jnp.asarray(head), "bias": jnp.array(0.25)}
    return tiny.jit(critic.values, static_argnums=0), params


def test_a_value_stands_beside_the_token_it_was_said_before(values):
    function, params = values
    found_BT = np.asarray(function(tiny.MODEL, params, TOKENS_BT))
    hidden_BTD, _ = tiny.jit(transformer.forward, static_argnums=0)(
        tiny.MODEL, tiny.params(), TOKENS_BT
    )
    said_BT = np.asarray(hidden_BTD, np.float64) @ np.asarray(params["scalar"]["kernel"]) + 0.25
    np.testing.assert_array_equal(found_BT[:, 0], 0)
    np.testing.assert_allclose(found_BT[:, 1:], said_BT[:, :-1], rtol=1e-4, atol=1e-4)
    # Token 4 is not known when it is drawn, and known from then on.
    other_BT = TOKENS_BT.copy()
    other_BT[:, 4] = (other_BT[:, 4] + 1) % 26
    moved_BT = np.abs(function(tiny.MODEL, params, other_BT) - found_BT)
    assert not moved_BT[:, :5].any() and (moved_BT[:, 5:] > 1e-4).all()


def test_it_starts_as_the_policy_without_its_vocabulary_and_expects_0(values):
    policy = tiny.params()
    new = critic.from_policy(tiny.MODEL, policy)
    assert "head" in policy and "head" not in new["transformer"]
    assert not np.any(values[0](tiny.MODEL, new, TOKENS_BT))
    for name in ("embedding", "layers", "final_norm"):
        jax.tree.map(np.testing.assert_array_equal, new["transformer"][name], policy[name])


def test_its_arrays_are_its_own():
    policy = {"embedding": jnp.ones((3, 2))}
    new = critic.from_policy(dataclasses.replace(tiny.MODEL, embed_dim=2), policy)
    policy["embedding"].delete()  # as an update that was given it does
    assert float(new["transformer"]["embedding"].sum()) == 6
