"""Scores per token: the plain log-softmax in value and gradient, and never [B, T, V] at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import prefix, scoring, transformer
from r1_jax.sharding import mesh as meshes
from tests.golden import decoder_numpy as golden
from tests.models import tiny

MODEL = tiny.MODEL
V, D = MODEL.vocab_size, MODEL.embed_dim
B, T = 5, 12


def warm(logits):
    return logits / 0.7


def _tokens(rows=B, length=T, seed=0):
    return np.random.default_rng(seed).integers(0, V, (rows, length), np.int32)


@functools.cache
def scorer(chunk):
    def score(params, tokens_BT, position_BT, segment_BT):
        return scoring.token_scores(
            MODEL,
            params,
            tokens_BT,
            adjust=warm,
            position_BT=position_BT,
            segment_BT=segment_BT,
            chunk=chunk,
        )

    return tiny.jit(score)


def plain(params, tokens_BT):
    """The same with [B, T, V] logits all at once, and its positions spelt out."""
    position_BT = np.tile(np.arange(T), (B, 1))
    hidden_BTD, _ = transformer.forward(MODEL, params, tokens_BT, position_BT)
    logps_BTV = jax.nn.log_softmax(warm(hidden_BTD @ params["head"]), axis=-1)
    logps_BT = jnp.take_along_axis(logps_BTV[:, :-1], tokens_BT[:, 1:, None], axis=-1)[:, :, 0]
    entropy_BT = -jnp.sum(jnp.exp(logps_BTV) * logps_BTV, axis=-1)[:, :-1]
    return tuple(jnp.pad(x, ((0, 0), (1, 0))) for x in (logps_BT, entropy_BT))


def chunked(params, tokens_BT):
    return scoring.token_scores(MODEL, params, tokens_BT, adjust=warm, chunk=4)


def _loss(function, params, tokens_BT):
    """(any function of both results in which every token counts differently, the results)."""
    logps_BT, entropy_BT = function(params, tokens_BT)
    weight_BT = np.random.default_rng(2).normal(size=(2, B, T)).astype(np.float32)
    loss = jnp.sum(weight_BT[0] * logps_BT) + jnp.sum(weight_BT[1] * entropy_BT)
    return loss, (logps_BT, entropy_BT)


def test_value_and_gradient_are_those_of_the_plain_form(monkeypatch):
    """Of the scores; what comes before is a stand-in that mixes each token with the one before."""

    def forward(config, params, tokens_BT, position_BT=None, segment_BT=None):
        x_BTD = params["embedding"][tokens_BT]
        x_BTD = x_BTD + jnp.pad(x_BTD[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return jnp.tanh(x_BTD * params["final_norm"]["scale"][None, None, :]) * 3, None

    def routed_forward(config, params, tokens_BT, position_BT, segment_BT, mask_BT, chosen_LBTX):
        return *forward(config, params, tokens_BT), None

    monkeypatch.setattr(transformer, "forward", forward)
    monkeypatch.setattr(transformer, "routed_forward", routed_forward)
    tokens_BT = _tokens()
    found, expected = (
        tiny.jit(jax.value_and_grad(functools.partial(_loss, f), has_aux=True))(
            {name: tiny.params()[name] for name in ("embedding", "head", "final_norm")}, tokens_BT
        )
        for f in (chunked, plain)
    )
    assert len(jax.tree.leaves(found)) == 6  # loss, two results, three gradients
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = np.abs(b).max()
        assert scale > 0
        np.testing.assert_allclose(a / scale, b / scale, atol=2e-5)


def test_log_probabilities_against_numpy():
    tokens_BT = _tokens()
    position_BT, segment_BT = np.tile(np.arange(T), (B, 1)), np.zeros((B, T), np.int32)
    logps_BT, entropy_BT = scorer(4)(tiny.params(), tokens_BT, position_BT, segment_BT)
    assert logps_BT.dtype == entropy_BT.dtype == jnp.float32
    hidden_TD = golden.hidden(
        tiny.params(),
        tokens_BT[0],
        position_BT[0],
        segment_BT[0],
        rope_theta=MODEL.rope_theta,
        norm_epsilon=MODEL.norm_epsilon,
    )
    logps_TV = golden.logps(tiny.params(), hidden_TD / 0.7)
    expected = [0.0] + [logps_TV[t - 1, tokens_BT[0, t]] for t in range(1, T)]
    np.testing.assert_allclose(logps_BT[0], expected, rtol=1e-4, atol=1e-4)
    expected = np.append(0.0, -(np.exp(logps_TV) * logps_TV).sum(-1)[:-1])
    np.testing.assert_allclose(entropy_BT[0], expected, rtol=1e-3, atol=1e-4)
    # nothing predicts the first token
    assert not logps_BT[:, 0].any() and not entropy_BT[:, 0].any()


@pytest.mark.parametrize("chunk", [11, 32])
def test_the_size_of_a_chunk_does_not_matter(chunk):
    inputs = _tokens(), np.tile(np.arange(T), (B, 1)), np.zeros((B, T), np.int32)
    expected = scorer(4)(tiny.params(), *inputs)
    found = scorer(chunk)(tiny.params(), *inputs)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_chunk_is_some_positions_on_a_cpu_and_so_many_tokens_elsewhere(monkeypatch):
    assert scoring.chunk_of(1) == scoring.chunk_of(64) == 32
    monkeypatch.setattr(meshes, "is_of_cpus", lambda: False)
    assert (scoring.chunk_of(1), scoring.chunk_of(8), scoring.chunk_of(4096)) == (512, 64, 32)
    monkeypatch.setattr(meshes, "is_of_gpus", lambda: True)
    assert (scoring.chunk_of(1), scoring.chunk_of(2), scoring.chunk_of(4096)) == (2048, 1024, 32)


def test_chunks_are_of_even_length_so_that_little_is_padding(monkeypatch):
    monkeypatch.setattr(scoring, "chunk_of", lambda num_rows: 40)
    lengths = []

    def score(piece_BC):
        lengths.append(piece_BC.shape[1])
        return (piece_BC.astype(jnp.float32),)

    (found_BT,) = scoring._by_chunk(score, (jnp.ones((2, 90), jnp.int32),), None)
    assert set(lengths) == {30}  # three of 40 would be a third more than there is to do
    np.testing.assert_array_equal(found_BT, np.pad(np.ones((2, 90)), ((0, 0), (1, 0))))


def test_a_document_scores_the_same_in_a_packed_row_and_alone():
    lengths = (5, 4, 3)
    documents = [_tokens(1, n, seed=n)[0] for n in lengths]
    packed_BT, alone_BT = _tokens(seed=3), _tokens(seed=4)
    position_BT, segment_BT = np.tile(np.arange(T), (B, 1)), np.zeros((B, T), np.int32)
    for b, document in enumerate(documents):
        alone_BT[b, : len(document)] = document
    alone = scorer(4)(tiny.params(), alone_BT, position_BT, segment_BT)
    packed_BT[2] = np.concatenate(documents)
    position_BT[2] = np.concatenate([np.arange(n) for n in lengths])
    segment_BT[2] = np.repeat([1, 2, 3], lengths)
    packed = scorer(4)(tiny.params(), packed_BT, position_BT, segment_BT)
    start = 0
    for b, n in enumerate(lengths):
        for a, p in zip(alone, packed, strict=True):
            # a document's first token is predicted by nothing: its score is the packing's weight 0
            np.testing.assert_allclose(p[2, start + 1 : start + n], a[b, 1:n], atol=1e-5)
        start += n


def test_padding_after_a_completion_does_not_matter():
    tokens_BT, other_BT = _tokens(), _tokens()
    other_BT[:, 8:] = 0
    inputs = np.tile(np.arange(T), (B, 1)), np.zeros((B, T), np.int32)
    a, b = (scorer(4)(tiny.params(), x, *inputs) for x in (tokens_BT, other_BT))
    np.testing.assert_array_equal(a[0][:, :8], b[0][:, :8])
    np.testing.assert_array_equal(a[1][:, :8], b[1][:, :8])


def _with_vocabulary(function, *inputs):
    """(most elements of an array with a vocabulary axis, those of the same over all positions)."""
    found = [s for s in tiny.shapes(jax.make_jaxpr(function)(*inputs)) if V in s and D not in s]
    return max(np.prod(shape) for shape in found)


@pytest.mark.parametrize("gradient", [False, True])
def test_logits_of_all_positions_never_exist(gradient):
    def program(function):
        loss = functools.partial(_loss, function)
        return jax.grad(loss, has_aux=True) if gradient else loss

    inputs = tiny.params(), _tokens()
    assert _with_vocabulary(program(plain), *inputs) >= B * (T - 1) * V
    assert _with_vocabulary(program(chunked), *inputs) == B * 4 * V


@pytest.mark.parametrize("length", [1, 2])
def test_rows_of_one_or_two_tokens(length):
    tokens_BT = _tokens(length=length)
    logps_BT, entropy_BT = jax.eval_shape(chunked, tiny.params(), tokens_BT)
    assert logps_BT.shape == entropy_BT.shape == (B, length)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_divergences_are_those_of_whole_distributions_and_the_teacher_gets_no_gradient(temperature):
    tokens_BT = _tokens()
    student, teacher = tiny.params(MODEL), jax.tree.map(lambda x: 1.3 * x, tiny.params(MODEL))

    def found(student, teacher):
        return scoring.divergences(
            MODEL, student, MODEL, teacher, tokens_BT, temperature=temperature, chunk=4
        )

    logps_BT, entropy_BT, divergence_BT = tiny.jit(found)(student, teacher)
    same = scoring.token_scores(MODEL, student, tokens_BT, adjust=lambda logits: logits)
    np.testing.assert_allclose(logps_BT, same[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(entropy_BT, same[1], rtol=1e-4, atol=1e-5)
    p_BTV, q_BTV = (
        jax.nn.log_softmax(
            transformer.forward(MODEL, params, tokens_BT)[0] @ params["head"] / temperature
        )
        for params in (teacher, student)
    )
    expected_BT = np.sum(np.exp(p_BTV) * (p_BTV - q_BTV), axis=-1)[:, :-1]
    np.testing.assert_allclose(divergence_BT[:, 1:], expected_BT, rtol=1e-3, atol=1e-5)
    assert np.all(divergence_BT[:, 0] == 0) and divergence_BT[:, 1:].min() > 1e-5
    np.testing.assert_allclose(tiny.jit(found)(student, student)[2], 0.0, atol=1e-5)

    def total(student, teacher):
        return jnp.sum(found(student, teacher)[2])

    ours, theirs = tiny.jit(jax.grad(total, argnums=(0, 1)))(student, teacher)
    assert any(np.abs(x).max() > 1e-3 for x in jax.tree.leaves(ours))
    assert all(not np.any(x) for x in jax.tree.leaves(theirs))


DENSE_LATENT = dataclasses.replace(tiny.DEEPSEEK, experts=None, num_layers=2)


@pytest.mark.parametrize("model", [tiny.MODEL, DENSE_LATENT], ids=["grouped", "latent"])
def test_rows_that_begin_alike_score_as_they_do_alone(model):
    """Values and gradients; three rows a prompt, of which 4 tokens are shared and 5 are alike."""
    params = tiny.params(model)
    tokens_BT = _tokens(rows=6)
    tokens_BT[:, :5] = np.repeat(tokens_BT[::3, :5], 3, axis=0)
    weight_BT = np.random.default_rng(3).normal(size=(2, 6, T)).astype(np.float32)
    weight_BT[:, :, :5] = 0  # no completion's

    def loss(params, shared):
        logps_BT, entropy_BT, _ = scoring.routed_scores(
            model, params, tokens_BT, adjust=warm, chunk=4, shared=shared
        )
        return jnp.sum(weight_BT[0] * logps_BT + weight_BT[1] * entropy_BT), logps_BT

    value_and_gradient = tiny.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, alone_BT), expected = value_and_gradient(params, None)
    (_, found_BT), found = value_and_gradient(params, prefix.Shared(rows=3, length=4))
    np.testing.assert_allclose(found_BT[:, 5:], alone_BT[:, 5:], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found_BT[:, :5], 0)
    tiny.assert_same_gradients(found, expected)
