"""Multi-token prediction: against NumPy, on packed rows; as a loss; where its parameters are."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import trees
from r1_jax.data import packing
from r1_jax.models import config as model_config
from r1_jax.models import critic, lora, mtp, reward, scoring, transformer
from r1_jax.training import losses, router
from tests.golden import decoder_numpy as golden
from tests.models import tiny

MODEL = dataclasses.replace(tiny.MODEL, mtp_layers=1)
DEEPSEEK = dataclasses.replace(tiny.DEEPSEEK, mtp_layers=1)
LENGTH = 12


def _rows(seed=0):
    """Two rows: documents of 7 and 5 tokens, and of 9 and padding."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(1, MODEL.vocab_size, n).tolist() for n in (7, 5, 9)]
    weights = [rng.random(len(d)).round(2).tolist() for d in documents]
    return packing.pack(documents, row_length=LENGTH, pad_id=0, weights=weights)


def _scores(model, params, rows, **others):
    return scoring.twofold_scores(
        model,
        params,
        rows.tokens_BT,
        position_BT=rows.position_BT,
        segment_BT=rows.segment_BT,
        mask_BT=rows.segment_BT > 0,
        **others,
    )


def _golden(params, rows, b):
    """log p [T, V] of the token two on, from the decoder's equations and V3's, section 2.2."""
    numbers = {"rope_theta": MODEL.rope_theta, "norm_epsilon": MODEL.norm_epsilon}
    tokens_T, place_T, segment_T = rows.tokens_BT[b], rows.position_BT[b], rows.segment_BT[b]
    hidden_TD = golden.hidden(params, tokens_T, place_T, segment_T, **numbers)[:-1]
    p = jax.tree.map(lambda x: np.asarray(x, float), params["mtp"])
    embedded_TD = np.asarray(params["embedding"], float)[tokens_T[1:]]
    both_TD = np.concatenate(
        [
            golden.rms_norm(embedded_TD, p["embedding_norm"]["scale"], MODEL.norm_epsilon),
            golden.rms_norm(hidden_TD, p["hidden_norm"]["scale"], MODEL.norm_epsilon),
        ],
        axis=-1,
    )
    one_layer = {  # whose "embedding" is what enters it
        "embedding": both_TD @ p["join"]["kernel"],
        "layers": {"block": jax.tree.map(lambda x: x[None], p["layer"])},
        "final_norm": p["final_norm"],
    }
    ahead_TD = golden.hidden(
        one_layer, np.arange(len(both_TD)), place_T[:-1], segment_T[:-1], **numbers
    )
    return golden.logps(params, ahead_TD)


def test_log_probs_two_tokens_on_against_numpy():
    rows, params = _rows(), tiny.params(MODEL)
    found = tiny.jit(partial(_scores, MODEL, chunk=4))(params, rows)
    plain = tiny.jit(
        lambda p: scoring.token_scores(
            MODEL,
            p,
            rows.tokens_BT,
            adjust=lambda logits: logits,
            position_BT=rows.position_BT,
            segment_BT=rows.segment_BT,
        )
    )(params)
    np.testing.assert_allclose(found.logps_BT, plain[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.entropy_BT, plain[1], rtol=1e-5, atol=1e-5)
    assert not found.early_logps_BT[:, :2].any()
    compared = 0
    for b in range(len(rows.tokens_BT)):
        expected_TV = _golden(params, rows, b)
        for t in range(2, LENGTH):
            if rows.segment_BT[b, t] and rows.segment_BT[b, t] == rows.segment_BT[b, t - 2]:
                expected = expected_TV[t - 2, rows.tokens_BT[b, t]]
                np.testing.assert_allclose(found.early_logps_BT[b, t], expected, rtol=1e-4)
                compared += 1
    assert compared == (7 - 2) + (5 - 2) + (9 - 2)


def test_the_loss_is_the_weighted_sum_and_leaves_borders_out():
    rows, params = _rows(), tiny.params(MODEL)
    batch = jax.tree.map(jnp.asarray, rows)
    found = tiny.jit(losses.make_next_token(MODEL, mtp_weight=0.3))(params, batch)
    plain = tiny.jit(losses.make_next_token(MODEL))(params, batch)
    total = weight = 0.0
    for b in range(len(rows.tokens_BT)):
        expected_TV = _golden(params, rows, b)
        for t in range(2, LENGTH):
            if rows.segment_BT[b, t] == rows.segment_BT[b, t - 2]:
                total -= rows.weight_BT[b, t] * expected_TV[t - 2, rows.tokens_BT[b, t]]
                weight += rows.weight_BT[b, t]
    np.testing.assert_allclose(found.means["mtp/loss"].total, total, rtol=1e-4)
    np.testing.assert_allclose(found.means["mtp/loss"].weight, weight, rtol=1e-6)
    np.testing.assert_allclose(found.loss.total, plain.loss.total + 0.3 * total, rtol=1e-4)
    assert found.loss.weight == plain.loss.weight


def test_experts_of_the_layer_of_prediction_are_counted_and_moved():
    rows, params = jax.tree.map(jnp.asarray, _rows()), tiny.params(DEEPSEEK)
    E = DEEPSEEK.experts.num_routed

    def whole(params):
        out = losses.make_next_token(DEEPSEEK, mtp_weight=0.3)(params, rows)
        return out.loss.total, out

    (_, out), gradient = tiny.jit(jax.value_and_grad(whole, has_aux=True))(params)
    load = out.means[router.LOAD]
    assert load.total.shape == (3, E)  # two layers with experts, and that of prediction
    # it reads a token less of every document
    counted = np.asarray(load.total[-1] / (E / DEEPSEEK.experts.num_chosen)).sum()
    assert counted == DEEPSEEK.experts.num_chosen * ((7 - 1) + (5 - 1) + (9 - 1))
    for path, leaf in trees.paths(gradient).items():
        assert (np.abs(leaf).max() > 0) == (not path.endswith("router/bias")), path


def test_parameters_where_it_is_asked_for_and_nowhere_else():
    key = jax.random.key(0)
    plain = jax.eval_shape(partial(transformer.init, tiny.DEEPSEEK), key)
    more = jax.eval_shape(partial(transformer.init, DEEPSEEK), key)
    assert more.keys() - plain.keys() == {"mtp"}
    D = DEEPSEEK.embed_dim
    assert more["mtp"]["join"]["kernel"].shape == (2 * D, D)
    of_layer = jax.tree.map(lambda x: x.shape[1:], plain["layers"]["block"])
    assert jax.tree.map(lambda x: x.shape, more["mtp"]["layer"]) == of_layer
    # critic, reward model and adapters have no use for it
    params = tiny.params(DEEPSEEK)
    assert "mtp" not in critic.from_policy(DEEPSEEK, params)["transformer"]
    judged = jax.eval_shape(partial(reward.init_boxed, DEEPSEEK), key)
    assert "mtp" not in judged["transformer"]
    adapters = jax.eval_shape(lambda: lora.init_boxed(DEEPSEEK, lora.LoraConfig(), key))
    assert "mtp" not in adapters
    with pytest.raises(ValueError, match="mtp_layers=2 must be 0 or 1"):
        model_config.ModelConfig(mtp_layers=2)
    fresh = mtp.init_boxed(MODEL, key)
    assert fresh["join"]["kernel"].names == ("embed", "latent")
