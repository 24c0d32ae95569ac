"""Experts: who is chosen, by hand; what they do, against loops; load, balance, bias."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import config as model_config
from r1_jax.models import expert_rows, experts
from r1_jax.sharding import axes
from r1_jax.sharding import mesh as meshes
from tests.golden import decoder_numpy as golden
from tests.models import tiny

V3 = model_config.Experts(
    num_routed=6, num_chosen=2, dim=5, num_shared=0, first_dense=0, num_groups=3, groups_kept=2
)
V2 = dataclasses.replace(V3, scoring="softmax", normalise=False, scale=16.0)
SCORE = np.array([[[0.1, 0.9, 0.5, 0.45, 0.6, 0.4]]], np.float32)


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_groups_are_ranked_by_two_experts_with_a_bias_and_by_one_without():
    # without a bias: groups of best 0.9, 0.5, 0.6, so the middle one is out
    assert experts.choose(V2, SCORE, None).tolist() == [[[1, 4]]]
    # sums of two: 1.0, 0.95, 1.0; the bias lifts the middle group above the first
    bias = np.array([0.0, 0.0, 0.0, 0.2, 0.0, 0.1], np.float32)
    assert experts.choose(V3, SCORE, np.zeros(6, np.float32)).tolist() == [[[1, 4]]]
    assert experts.choose(V3, SCORE, bias).tolist() == [[[3, 4]]]
    # one group: the best of all; a masked expert is never taken, however low the others
    free = dataclasses.replace(V3, num_groups=1, groups_kept=1, num_chosen=3)
    assert experts.choose(free, SCORE, bias).tolist() == [[[1, 3, 4]]]
    low = np.full(6, -5.0, np.float32)
    assert set(experts.choose(V3, SCORE, low).ravel().tolist()) <= {0, 1, 4, 5}


def test_weights_are_unbiased_scores_normalised_and_scaled():
    chosen = np.array([[[1, 4]]])
    np.testing.assert_allclose(
        experts.weights(V3, SCORE, chosen), [[[2.5 * 0.9 / 1.5, 2.5 * 0.6 / 1.5]]], rtol=1e-6
    )
    np.testing.assert_allclose(experts.weights(V2, SCORE, chosen), [[[14.4, 9.6]]], rtol=1e-6)


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize(("few", "block"), [(0, 1000), (4, 1000), (0, 6)])
def test_the_mix_is_each_token_s_own_experts_and_drops_nobody(few, block, crowd, monkeypatch):
    monkeypatch.setattr(experts, "FEW", few)  # sorted, or all of them run
    monkeypatch.setattr(expert_rows, "ROWS", block)
    B, T, X, D, E, F = 2, 7, 2, 6, 4, 5
    chosen_BTX = np.random.default_rng(0).permuted(np.tile(np.arange(E), (B, T, 1)), axis=-1)
    chosen_BTX = chosen_BTX[..., :X]
    if crowd:  # all want the same two
        chosen_BTX = np.broadcast_to([3, 1], (B, T, X))
    x_BTD, weight_BTX = _normal(B, T, D), _normal(B, T, X, seed=1)
    gate, up, down = _normal(E, D, F, seed=2), _normal(E, D, F, seed=3), _normal(E, F, D, seed=4)
    found = tiny.jit(experts.mix)(x_BTD, chosen_BTX, weight_BTX, gate, up, down)
    expected = np.zeros((B, T, D))
    for b, t, k in np.ndindex(B, T, X):
        e, x = chosen_BTX[b, t, k], x_BTD[b, t].astype(float)
        hidden = golden.silu(x @ gate[e]) * (x @ up[e])
        expected[b, t] += weight_BTX[b, t, k] * (hidden @ down[e])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # a part of the experts does its part: what a device of the expert axis adds
    part = tiny.jit(experts._mix_of_few if few else experts._mix_of_many)
    mine = part(x_BTD, chosen_BTX, weight_BTX, gate[2:], up[2:], down[2:], first=2)
    others = part(x_BTD, chosen_BTX, weight_BTX, gate[:2], up[:2], down[:2], first=0)
    np.testing.assert_allclose(mine + others, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [3, 1000])
def test_blocks_of_rows_have_the_gradient_of_all_experts_run_on_every_token(block, monkeypatch):
    monkeypatch.setattr(expert_rows, "ROWS", block)
    N, X, D, E, F = 14, 2, 6, 4, 5
    chosen_NX = np.random.default_rng(0).permuted(np.tile(np.arange(E), (N, 1)), axis=-1)[:, :X]
    inputs = _normal(N, D), _normal(N, X, seed=1)
    inputs += _normal(E, D, F, seed=2), _normal(E, D, F, seed=3), _normal(E, F, D, seed=4)
    wanted_ND = _normal(N, D, seed=5)

    def in_blocks(x_ND, weight_NX, gate, up, down):  # of experts 1 and 2
        part = gate[1:3], up[1:3], down[1:3], 1
        return jnp.sum(expert_rows.mix(x_ND, chosen_NX, weight_NX, *part) * wanted_ND)

    def all_run(x_ND, weight_NX, gate, up, down):
        rows = x_ND[None], chosen_NX[None], weight_NX[None]
        out_BTD = experts._mix_of_few(*rows, gate[1:3], up[1:3], down[1:3], 1)
        return jnp.sum(out_BTD[0] * wanted_ND)

    found = tiny.jit(jax.grad(in_blocks, argnums=range(5)))(*inputs)
    expected = tiny.jit(jax.grad(all_run, argnums=range(5)))(*inputs)
    for new, old in zip(found, expected, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("few", [8, 0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("rules", [axes.RULES, axes.SAMPLER_RULES], ids=["learner", "sampler"])
@pytest.mark.parametrize("num_rows", [8, 1])
def test_every_device_gets_its_own_rows_of_all_devices_parts(
    num_rows, rules, dtype, few, monkeypatch
):
    monkeypatch.setattr(experts, "FEW", few)
    D, F, E = 6, 4, 8
    x_BTD = jnp.asarray(_normal(num_rows, 4, D), dtype)
    chosen_BTX = np.random.default_rng(1).integers(0, E, (num_rows, 4, 1)).astype(np.int32)
    chosen_BTX = np.concatenate([chosen_BTX, (chosen_BTX + 3) % E], axis=2)
    weight_BTX = np.abs(_normal(num_rows, 4, 2, seed=2))
    kernels = [
        jnp.asarray(_normal(*shape, seed=3 + i), dtype)
        for i, shape in enumerate([(E, D, F), (E, D, F), (E, F, D)])
    ]
    inputs = x_BTD, jnp.asarray(chosen_BTX), jnp.asarray(weight_BTX), *kernels

    def loss(x_BTD, weight_BTX, kernels):
        out_BTD = experts.mix(x_BTD, inputs[1], weight_BTX, *kernels).astype(jnp.float32)
        return jnp.sum(out_BTD * jnp.cos(jnp.arange(out_BTD.size)).reshape(out_BTD.shape)), out_BTD

    def run():
        given = inputs[0], inputs[2], list(kernels)
        (_, out), gradient = tiny.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*given)
        return jax.tree.map(lambda a: np.asarray(a, np.float32), (out, gradient))

    alone = run()
    with meshes.activate(meshes.make_mesh(expert=2, tensor=2, context=2), rules):
        split = run()
    # a part is rounded to eight bits, of tensor's and expert's four
    near = 1e-5 if dtype == jnp.float32 else 0.03
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(split), strict=True):
        assert np.abs(one).max() > 0.1
        np.testing.assert_allclose(other, one, rtol=0, atol=near * np.abs(one).max())


def test_load_and_balance_by_hand():
    # two tokens count, the third is padding; E = 4, X = 1
    chosen_BTX = np.array([[[0], [2], [3]]])
    mask_BT = np.array([[True, True, False]])
    assert experts.load(chosen_BTX, 4, mask_BT).tolist() == [[1, 0, 1, 0]]
    score_BTE = np.array([[[0.4, 0.2, 0.2, 0.0], [0.1, 0.1, 0.2, 0.0], [9.0, 9.0, 9.0, 9.0]]])
    # f = 4/2 each for experts 0 and 2; P_0 = (0.5 + 0.25)/2, P_2 = (0.25 + 0.5)/2
    found = experts.balance_loss(score_BTE.astype(np.float32), chosen_BTX, mask_BT)
    np.testing.assert_allclose(found, [2 * 0.375 + 2 * 0.375], rtol=1e-6)
    nobody = experts.balance_loss(score_BTE.astype(np.float32), chosen_BTX, mask_BT & False)
    assert nobody.tolist() == [0]


def test_balance_is_one_when_even_and_its_gradient_evens():
    even = np.ones((1, 4, 4), np.float32)
    turns = np.arange(4).reshape(1, 4, 1)
    everyone = np.ones((1, 4), bool)
    np.testing.assert_allclose(experts.balance_loss(even, turns, everyone), [1.0], rtol=1e-6)
    # all on expert 0: more of its score costs more, more of the others' less
    gradient = jax.grad(lambda s: experts.balance_loss(s, turns * 0, everyone)[0])(even)
    assert (gradient[..., 0] > 0).all() and (gradient[..., 1:] < 0).all()


def test_the_bias_moves_against_the_load():
    bias_LE = jnp.array([[0.0, 0.5, 0.0], [1.0, 1.0, 1.0]])
    load_LE = jnp.array([[4.0, 2.0, 0.0], [2.0, 2.0, 2.0]])
    moved = experts.moved_bias(bias_LE, load_LE, 0.25)
    np.testing.assert_allclose(moved, [[-0.25, 0.5, 0.25], [1.0, 1.0, 1.0]])
