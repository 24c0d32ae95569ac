"""Routers in training: the bias moves by load alone, balance adds up, routes are replayed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import masked, types
from r1_jax.data import packing
from r1_jax.models import experts, scoring
from r1_jax.sampling import generate as sampling_generate
from r1_jax.sampling import logits as sampling_logits
from r1_jax.training import by_length, losses, router, switches
from r1_jax.training import state as train_state
from tests.models import tiny

MODEL = tiny.DEEPSEEK
BIAS = ("layers", "block", "experts", "router", "bias")


def _bias(params):
    return np.asarray(functools.reduce(lambda tree, name: tree[name], BIAS, params))


def _rows(num=4, length=10, seed=0):
    rng = np.random.default_rng(seed)
    documents = [rng.integers(1, MODEL.vocab_size, length - i).tolist() for i in range(num)]
    rows = packing.pack(documents, row_length=length, pad_id=0)
    return jax.tree.map(jnp.asarray, rows)


@functools.cache
def _loss():
    """loss(params, rows, balance_coef), compiled once a shape."""

    def loss(params, rows, balance_coef):
        return losses.make_next_token(MODEL, balance_coef=balance_coef)(params, rows)

    return tiny.jit(loss)


def test_load_and_balance_of_the_loss_and_their_sum_over_microbatches():
    rows, params = _rows(), tiny.params(MODEL)
    plain, out = (_loss()(params, rows, coef) for coef in (0.0, 0.5))
    load, balance = out.means[router.LOAD], out.means["router/balance"]
    num_real = int((rows.segment_BT > 0).sum())
    assert 0 < num_real < rows.segment_BT.size
    # every real token asks for three experts in each of two layers; padding for none
    np.testing.assert_allclose(np.sum(load.total, axis=1) * 3 / 8, 3 * num_real, rtol=1e-6)
    assert load.weight == num_real
    assert balance.total / balance.weight > 1.5  # about one a layer
    np.testing.assert_allclose(out.loss.total, plain.loss.total + 0.5 * balance.total, rtol=1e-5)
    assert out.loss.weight == balance.weight == jnp.sum(rows.weight_BT)
    halves = [
        _loss()(params, jax.tree.map(lambda x, half=half: x[half], rows), 0.5)
        for half in (slice(2), slice(2, 4))
    ]
    np.testing.assert_allclose(sum(h.loss.total for h in halves), out.loss.total, rtol=1e-5)
    added = halves[0].means[router.LOAD] + halves[1].means[router.LOAD]
    np.testing.assert_allclose(added.total, load.total, rtol=1e-6)


def _after(load_LE, *, bias_rate, skipped=0.0, model=MODEL):
    """(biases before, state after, metrics) of an update that shrinks all, as a decay does."""
    params = tiny.params(model)
    state = train_state.TrainState(jnp.int32(0), params, ())

    def shrink(state, batch):
        shrunk = jax.tree.map(lambda x: 0.5 * x, state.params)
        metrics = {router.LOAD: load_LE, "update/skipped": jnp.float32(skipped)}
        return dataclasses.replace(state, params=shrunk), metrics

    new, metrics = router.make_update(shrink, model, bias_rate=bias_rate)(state, None)
    return _bias(params), new, metrics


LOAD_LE = jnp.array([[3.0, 1, 1, 1, 1, 1, 0, 0], [1.0] * 8])


def test_the_bias_moves_against_the_load_and_by_nothing_else():
    before, new, metrics = _after(LOAD_LE, bias_rate=0.25)
    step_LE = np.array([[-0.25, 0, 0, 0, 0, 0, 0.25, 0.25], [0.0] * 8])
    np.testing.assert_allclose(_bias(new.params), before + step_LE, rtol=1e-6)
    assert metrics["router/load_max"] == 3 and metrics["router/load_min"] == 0
    assert router.LOAD not in metrics
    # all else is as the update left it
    old = tiny.params(MODEL)
    np.testing.assert_array_equal(new.params["embedding"], 0.5 * old["embedding"])
    kernel = new.params["layers"]["block"]["experts"]["router"]["kernel"]
    old_kernel = old["layers"]["block"]["experts"]["router"]["kernel"]
    np.testing.assert_array_equal(kernel, 0.5 * old_kernel)


@pytest.mark.parametrize("options", [{"bias_rate": 0.0}, {"bias_rate": 0.25, "skipped": 1.0}])
def test_it_is_held_without_a_rate_and_by_an_update_that_is_skipped(options):
    before, new, _ = _after(LOAD_LE, **options)
    np.testing.assert_array_equal(_bias(new.params), before)


def test_the_layer_of_prediction_has_a_bias_of_its_own():
    ahead = dataclasses.replace(MODEL, mtp_layers=1)

    def own(params):
        return np.asarray(params["mtp"]["layer"]["experts"]["router"]["bias"])

    old = own(tiny.params(ahead))
    load_LE = jnp.concatenate([LOAD_LE, LOAD_LE[:1]])
    _, new, _ = _after(load_LE, bias_rate=0.25, model=ahead)
    np.testing.assert_allclose(own(new.params) - old, [-0.25, *[0] * 5, 0.25, 0.25], atol=1e-6)
    _, new, _ = _after(LOAD_LE, bias_rate=0.25, model=ahead)  # it was not in the loss
    np.testing.assert_array_equal(own(new.params), old)


def test_a_rate_for_routers_without_a_bias_is_an_error():
    with pytest.raises(ValueError, match="softmax scores have no selection bias"):
        router.make_update(None, tiny.DEEPSEEK_V2, bias_rate=0.1)


# --- replay -------------------------------------------------------------------------------------

P, G, CAPACITY, RESPONSE = 2, 3, 4, 6
ADJUST = functools.partial(sampling_logits.adjust, sampling_logits.SamplingConfig())


@pytest.fixture(scope="module")
def rollouts():
    generate = sampling_generate.make_generate(
        MODEL,
        sampling_logits.SamplingConfig(num_slots=4),  # fewer than completions: slots are refilled
        group_size=G,
        max_response=RESPONSE,
        stop_ids=(3, 5, 7),
        pad_id=0,
        keep_routing=True,
    )
    tokens_PT = np.random.default_rng(0).integers(0, MODEL.vocab_size, (P, CAPACITY), np.int32)
    batch = types.PromptBatch(tokens_PT, np.array([4, 2], np.int32), np.arange(P, dtype=np.int32))
    found = tiny.jit(generate)(
        tiny.params(MODEL), batch, jax.random.key(0), np.int32(0), np.int32(RESPONSE)
    )
    return jax.tree.map(np.asarray, found)


@functools.cache
def _learner(replay):
    """learn(params, rollouts) -> (logps_BT, entropy_BT, routed), compiled once."""

    def learn(params, rollouts):
        rows = by_length.Rows.of(rollouts, replay=replay)
        return scoring.routed_scores(
            MODEL, params, rows.tokens_BT, adjust=ADJUST, chosen_BTLX=rows.chosen_BTLX
        )

    return tiny.jit(learn)


def _gap(rollouts, logps_BT):
    T = rollouts.tokens_BT.shape[1]
    mask_BT = masked.completion_mask(rollouts.prompt_length_B, rollouts.length_B, T)
    return float(np.max(np.where(mask_BT, np.abs(logps_BT - rollouts.logps_BT), 0.0)))


def test_rollouts_carry_the_choices_of_every_token_read(rollouts):
    _, _, routed = _learner(False)(tiny.params(MODEL), rollouts)
    chosen_BTLX = np.asarray(routed.chosen_BTX).transpose(1, 2, 0, 3)
    assert rollouts.chosen_BTLX.shape == chosen_BTLX.shape == (P * G, CAPACITY + RESPONSE, 2, 3)
    T = rollouts.tokens_BT.shape[1]
    is_real_BT = np.arange(T) < (rollouts.prompt_length_B + rollouts.length_B)[:, None]
    assert len(set(rollouts.length_B.tolist())) > 1
    np.testing.assert_array_equal(rollouts.chosen_BTLX[is_real_BT], chosen_BTLX[is_real_BT])


def test_replayed_choices_close_the_gap_that_a_router_s_mismatch_opens(rollouts):
    """A learner whose choices differ (here by its bias, in life by ties and rounding)."""
    params = jax.tree.map(lambda x: x, tiny.params(MODEL))
    noise = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
    params["layers"]["block"]["experts"]["router"]["bias"] = noise
    gaps = {}
    for replay in (False, True):
        gaps[replay] = _gap(rollouts, np.asarray(_learner(replay)(params, rollouts)[0]))
    assert gaps[False] > 0.1
    assert gaps[True] < 1e-4


def test_ties_are_replayed_too(rollouts):
    """With all scores equal any choice is as good: another order of the sums, another expert."""
    level = jax.tree.map(lambda x: x, tiny.params(MODEL))
    level["layers"]["block"]["experts"]["router"] = jax.tree.map(
        np.zeros_like, level["layers"]["block"]["experts"]["router"]
    )
    other = jax.tree.map(lambda x: x, level)
    other["layers"]["block"]["experts"]["router"]["bias"] = np.full((2, 8), 0.0, np.float32)
    other["layers"]["block"]["experts"]["router"]["bias"][:, 5] = 1e-7
    first, second = (np.asarray(_learner(True)(p, rollouts)[0]) for p in (level, other))
    np.testing.assert_array_equal(first, second)
    first, second = (np.asarray(_learner(False)(p, rollouts)[0]) for p in (level, other))
    assert np.abs(first - second).max() > 0.01


def test_the_policy_s_loss_replays_and_says_how_even_the_load_is(rollouts):
    config = switches.GRPOConfig(
        num_steps=16, prompts_per_rollout=P, group_size=G, num_minibatches=1, kl_coef=0.0
    )
    loss = losses.make_policy(MODEL, config, adjust=ADJUST, max_length=RESPONSE)
    batch = types.PolicyBatch(
        rollouts.tokens_BT,
        rollouts.prompt_length_B,
        rollouts.length_B,
        rollouts.logps_BT,
        None,
        None,
        np.ones(P * G, np.float32),
        np.ones(P * G, bool),
        rollouts.chosen_BTLX,
    )
    params = jax.tree.map(lambda x: x, tiny.params(MODEL))
    params["layers"]["block"]["experts"]["router"]["bias"] = np.random.default_rng(1).normal(
        size=(2, 8)
    )
    found = tiny.jit(loss)(params, batch)
    assert found.maxima["gap"] < 1e-4
    load = found.means[router.LOAD]
    num_real = (rollouts.prompt_length_B + rollouts.length_B).sum()
    assert load.weight == num_real
    counted = np.zeros((2, 8))
    for b in range(P * G):
        for t in range(rollouts.prompt_length_B[b] + rollouts.length_B[b]):
            for layer in range(2):
                counted[layer, rollouts.chosen_BTLX[b, t, layer]] += 1
    np.testing.assert_allclose(load.total, counted * 8 / 3, rtol=1e-5)


def test_what_keeps_nothing_is_an_error():
    with pytest.raises(ValueError, match="the model has no experts"):
        sampling_generate.make_generate(
            tiny.MODEL,
            sampling_logits.SamplingConfig(),
            group_size=1,
            max_response=1,
            stop_ids=(),
            pad_id=0,
            keep_routing=True,
        )


def test_load_and_balance_by_hand():
    routed = experts.Routed(
        jnp.zeros((1, 1, 4, 2), jnp.int32), jnp.array([[4.0, 4.0, 0.0, 0.0]]), jnp.array([[3.0]])
    )
    model = dataclasses.replace(
        MODEL.experts, num_routed=4, num_chosen=2, num_groups=1, groups_kept=1
    )
    share = router.load(model, routed, jnp.float32(4.0))
    np.testing.assert_allclose(share.total / share.weight, [[2.0, 2.0, 0.0, 0.0]])
    balance = router.balance(routed, jnp.array([2.0]))
    assert (balance.total, balance.weight) == (6.0, 2.0)
