"""Guessing ahead changes how many steps are taken, and nothing that is sampled."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import masked, types
from r1_jax.models import heads, mtp, scoring, transformer
from r1_jax.sampling import generate as sampling_generate
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sampling import requests as of_requests
from tests.models import tiny

QWEN = dataclasses.replace(tiny.MODEL, mtp_layers=1)
DEEPSEEK = dataclasses.replace(tiny.DEEPSEEK, mtp_layers=1)
P, G, CAPACITY, RESPONSE = 3, 4, 5, 12
STOPS = (3, 5)


def _generate(model, *, group_size=G, response=RESPONSE, stops=STOPS, **sampling):
    keep = sampling.pop("keep_routing", False)
    return tiny.jit(
        sampling_generate.make_generate(
            model,
            sampling_logits.SamplingConfig(**sampling),
            group_size=group_size,
            max_response=response,
            stop_ids=stops,
            pad_id=0,
            keep_routing=keep,
        )
    )


def _batch(model, seed=0):
    tokens_PT = np.random.default_rng(seed).integers(0, model.vocab_size, (P, CAPACITY), np.int32)
    return types.PromptBatch(
        tokens_PT, np.array([5, 1, 3], np.int32), np.array([7, 8, 9], np.int32)
    )


def _sample(generate, model, seed, limit=RESPONSE):
    found = generate(
        tiny.params(model),
        _batch(model, seed),
        jax.random.key(seed),
        np.int32(0),
        np.asarray(limit, np.int32),
    )
    return jax.tree.map(np.asarray, found)


def _same(found, plain):
    for field in ("tokens_BT", "length_B", "stop_B", "prompt_length_B", "uid_B", "sample_B"):
        np.testing.assert_array_equal(getattr(found, field), getattr(plain, field), err_msg=field)
    np.testing.assert_allclose(found.logps_BT, plain.logps_BT, rtol=1e-4, atol=1e-4)


CASES = {
    "qwen": (QWEN, {}),
    "qwen, filtered, refilled": (
        QWEN,
        {"temperature": 0.6, "top_k": 6, "top_p": 0.9, "num_slots": 5},
    ),
    "deepseek, refilled": (DEEPSEEK, {"num_slots": 5, "temperature": 0.5}),
    "qwen, greedy": (QWEN, {"temperature": 0.0, "stops": ()}),
}


SLOW = ("deepseek, refilled",)  # to compile


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES]
)
def test_completions_are_those_of_plain_decoding_token_for_token(case):
    model, options = CASES[case]
    plain = _generate(model, **options)
    guessing = _generate(model, **options, speculative=True)
    for seed, limit in ((0, RESPONSE), (1, RESPONSE), (2, 7)):
        limit_B = np.full(P * G, limit)
        limit_B[::3] = np.arange(1, len(limit_B[::3]) + 1)  # a completion may have its own
        expected = _sample(plain, model, seed, limit_B)
        _same(_sample(guessing, model, seed, limit_B), expected)
        assert expected.length_B.max() == limit


def _guesses(model, rollouts, key, **sampling):
    """[B, T]: what the layer of prediction, on whole sequences, guesses for every token."""
    config = sampling_logits.SamplingConfig(**sampling)
    params = tiny.params(model)
    tokens_BT = rollouts.tokens_BT
    B, T = tokens_BT.shape
    requests = of_requests.Requests(
        dataclasses.replace(_batch(model, 0), uid_P=jnp.array([7, 8, 9])), G, key
    )

    @tiny.jit
    def run(params):
        hidden_BTD, _, _ = transformer.routed_forward(model, params, tokens_BT)
        position_BT = jnp.broadcast_to(jnp.arange(T)[None], (B, T))
        embedded_BTD = transformer.embed(model, params, jnp.roll(tokens_BT, -1, axis=1))
        ahead_BTD, _, _ = mtp.forward(
            model, params["mtp"], hidden_BTD, embedded_BTD, position_BT, None, position_BT >= 0
        )
        logits_BTV = heads.logits(ahead_BTD, heads.kernel(model, params))
        columns = []
        for t in range(2, T):
            uniform_B = of_requests.uniform(
                requests.keys(), jnp.maximum(t - rollouts.prompt_length_B, 0)
            )
            adjusted_BV = sampling_logits.adjust(config, logits_BTV[:, t - 2])
            columns.append(sampling_logits.draw(adjusted_BV, uniform_B)[0])
        return jnp.stack(columns, axis=1)

    return np.pad(np.asarray(run(params)), ((0, 0), (2, 0)), constant_values=-1)


@pytest.mark.parametrize(
    "model",
    [pytest.param(QWEN, id="qwen"), pytest.param(DEEPSEEK, id="deepseek", marks=pytest.mark.slow)],
)
def test_guesses_are_those_of_whole_sequences_and_save_the_steps_that_they_should(model):
    """The layer's cache, and what it catches up with, are right: else it would guess otherwise."""
    options = {"temperature": 0.5}
    # one slot: the completions' steps come one after the other
    found = _sample(_generate(model, **options, num_slots=1, speculative=True), model, 0)
    guess_BT = _guesses(model, found, jax.random.key(0), **options)
    steps, right = [], 0
    for b in range(P * G):
        start, length, taken, at = found.prompt_length_B[b], found.length_B[b], 0, 0
        while at < length:
            taken += 1
            second = at + 1
            is_right = second < length and (
                guess_BT[b, start + second] == found.tokens_BT[b, start + second]
            )
            right += is_right
            at += 1 + is_right
        steps.append(taken)
    assert found.slot_steps == 2 * sum(steps)
    assert right > 5 and sum(steps) == found.length_B.sum() - right


def test_frequencies_are_the_probabilities():
    """Every pair of tokens, counted, against the decoder's own log-probs: chi-square."""
    model = dataclasses.replace(QWEN, vocab_size=5)
    V, num = model.vocab_size, 4000
    generate = _generate(model, group_size=num, response=2, stops=(), speculative=True)
    prompt = types.PromptBatch(
        np.array([[1, 4]], np.int32), np.array([2], np.int32), np.array([3], np.int32)
    )
    params = tiny.params(model)
    found = generate(params, prompt, jax.random.key(5), np.int32(0), np.int32(2))
    pair_B = np.asarray(found.tokens_BT)[:, 2] * V + np.asarray(found.tokens_BT)[:, 3]
    pairs = np.array([[1, 4, a, b] for a in range(V) for b in range(V)], np.int32)
    logps, _ = tiny.jit(
        lambda p: scoring.token_scores(model, p, pairs, adjust=lambda logits: logits)
    )(params)
    expected = num * np.exp(np.asarray(logps)[:, 2:].sum(axis=1))
    np.testing.assert_allclose(expected.sum(), num, rtol=1e-4)
    counted = np.bincount(pair_B, minlength=V * V)
    likely = expected >= 5
    chi_square = np.sum((counted - expected)[likely] ** 2 / expected[likely])
    freedom = likely.sum() - 1
    assert freedom >= 5 and chi_square < freedom + 4 * np.sqrt(2 * freedom)
    # the log-probs recorded are those of what was drawn
    at = dict(enumerate(np.asarray(logps)[:, 2:]))
    np.testing.assert_allclose(
        np.asarray(found.logps_BT)[:, 2:], np.stack([at[pair] for pair in pair_B]), atol=1e-4
    )


def test_choices_of_experts_are_kept_and_the_learner_agrees():
    generate = _generate(DEEPSEEK, keep_routing=True, speculative=True, temperature=0.5)
    found = _sample(generate, DEEPSEEK, 0)
    adjust = functools.partial(
        sampling_logits.adjust, sampling_logits.SamplingConfig(temperature=0.5)
    )
    logps_BT, _, routed = tiny.jit(
        lambda p: scoring.routed_scores(DEEPSEEK, p, found.tokens_BT, adjust=adjust)
    )(tiny.params(DEEPSEEK))
    T = found.tokens_BT.shape[1]
    mask_BT = masked.completion_mask(found.prompt_length_B, found.length_B, T)
    gap_BT = np.where(mask_BT, logps_BT - found.logps_BT, 0.0)
    assert np.abs(gap_BT).max() < 1e-4
    is_real_BT = np.arange(T) < (found.prompt_length_B + found.length_B)[:, None]
    chosen_BTLX = np.asarray(routed.chosen_BTX).transpose(1, 2, 0, 3)
    np.testing.assert_array_equal(found.chosen_BTLX[is_real_BT], chosen_BTLX[is_real_BT])


def test_a_model_without_the_layer_is_refused():
    with pytest.raises(ValueError, match="needs the layer that guesses"):
        _generate(tiny.MODEL, speculative=True)
