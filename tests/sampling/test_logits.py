"""The distribution that is sampled, against NumPy; the draw inverts its cumulative sum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.sampling import logits as sampling_logits
from tests.models import tiny

V = 8
ONE_MINUS = np.nextafter(np.float32(1), np.float32(0))  # the largest uniform number there can be
CONFIGS = {
    "plain": {},
    "warm": {"temperature": 0.7},
    "greedy": {"temperature": 0.0},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.2},
    "all": {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.1},
}


def reference(logits_V, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """Probabilities of one row in float64, one filter after the other, from their definitions."""
    x = np.asarray(logits_V, float)
    if temperature == 0:
        return np.eye(len(x))[np.argmax(x)]
    p = np.exp(x / temperature - max(x / temperature))
    if 0 < top_k < len(x):
        p[p < sorted(p, reverse=True)[top_k - 1]] = 0.0
    p /= p.sum()
    if top_p < 1:
        order = sorted(range(len(x)), key=lambda v: -p[v])
        mass, kept = 0.0, []
        for v in order:  # the smallest set of most likely tokens whose mass reaches top_p
            if mass >= top_p:
                break
            mass += p[v]
            kept.append(v)
        p[p < p[kept[-1]]] = 0.0
        p /= p.sum()
    p[p < min_p * p.max()] = 0.0
    return p / p.sum()


@functools.cache
def _compiled(**options):
    config = sampling_logits.SamplingConfig(**options)
    return tiny.jit(lambda x: jax.nn.softmax(sampling_logits.adjust(config, x), axis=-1))


def _rows(num=300):
    """Logits with ties in every other row; none near a threshold by less than rounding."""
    rng = np.random.default_rng(0)
    rows = rng.normal(scale=2.0, size=(num, V))
    rows[::2] = np.round(rows[::2])
    return rows.astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_distribution_is_the_one_by_definition(name):
    rows = _rows()
    found = np.asarray(_compiled(**CONFIGS[name])(rows))
    expected = np.stack([reference(row, **CONFIGS[name]) for row in rows])
    np.testing.assert_array_equal(found > 0, expected > 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    if name != "plain":
        assert np.abs(found - _compiled()(rows)).max(axis=-1).min() > 0 or name in ("top_k", "all")


def test_a_filter_by_hand():
    # p = 1/2, 1/4, 1/8, 1/8
    logits = np.log(np.array([[4.0, 2.0, 1.0, 1.0]], np.float32))
    for options, kept in (
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [1, 1, 0, 0]),
        ({"top_k": 3}, [1, 1, 1, 1]),  # the third place is shared: both stay
        ({"top_k": 4}, [1, 1, 1, 1]),
        ({"top_k": 99}, [1, 1, 1, 1]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_p": 0.49}, [1, 0, 0, 0]),
        ({"top_p": 0.51}, [1, 1, 0, 0]),
        ({"top_p": 0.76}, [1, 1, 1, 1]),  # one of two equal tokens would do: both stay
        ({"min_p": 0.49}, [1, 1, 0, 0]),
        ({"min_p": 0.51}, [1, 0, 0, 0]),
        ({"min_p": 0.24}, [1, 1, 1, 1]),
        ({"temperature": 0.5, "min_p": 0.3}, [1, 0, 0, 0]),  # p = 16, 4, 1, 1 of 22
        ({"top_k": 2, "top_p": 0.6}, [1, 0, 0, 0]),  # of the two that are left: 2/3, 1/3
    ):
        config = sampling_logits.SamplingConfig(**options)
        adjusted = np.asarray(sampling_logits.adjust(config, logits))
        assert np.isfinite(adjusted).all()
        probability = np.exp(adjusted - adjusted.max())
        np.testing.assert_array_equal(probability > 0, np.array([kept], bool), err_msg=str(options))


def test_greedy_takes_the_first_of_equals():
    config = sampling_logits.SamplingConfig(temperature=0.0)
    adjusted = sampling_logits.adjust(config, jnp.array([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(jax.nn.softmax(adjusted), [[0, 1, 0], [1, 0, 0]])


def test_what_is_off_leaves_no_trace_in_the_program():
    config = sampling_logits.SamplingConfig(top_k=V)
    program = jax.make_jaxpr(lambda x: sampling_logits.adjust(config, x))(jnp.zeros((2, V)))
    assert {e.primitive.name for e in tiny.equations(program)} == {"div"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"temperature": -0.1}, "temperature=-0.1 must be 0"),
        ({"temperature": float("nan")}, "temperature=nan must be 0"),
        ({"top_p": 0.0}, r"top_p=0.0 must lie in \(0, 1\]"),
        ({"top_p": 1.1}, r"top_p=1.1 must lie in \(0, 1\]"),
        ({"min_p": 1.0}, r"min_p=1.0 must lie in \[0, 1\)"),
        ({"min_p": -0.1}, r"min_p=-0.1 must lie in \[0, 1\)"),
        ({"top_k": -1}, "top_k=-1 and num_slots=0 cannot be negative"),
        ({"num_slots": -2}, "top_k=0 and num_slots=-2 cannot be negative"),
        ({"refill_share": 0.0}, r"refill_share=0.0 must lie in \(0, 1\]"),
        ({"refill_share": 1.5}, r"refill_share=1.5 must lie in \(0, 1\]"),
    ],
)
def test_impossible_settings_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        sampling_logits.SamplingConfig(**bad)


draw = tiny.jit(sampling_logits.draw)


def test_draw_by_hand():
    # p = 1/2, 1/4, 1/8, 0, 1/8: the cumulative sum rises at 0.5, 0.75, 0.875, and to 1
    probability = np.array([0.5, 0.25, 0.125, 0.0, 0.125], np.float32)
    logits_V = np.where(probability > 0, np.log(np.maximum(probability, 1e-9)), -1e30)
    uniform_B = np.array([0, 0.49, 0.51, 0.74, 0.76, 0.87, 0.88, 0.99, ONE_MINUS], np.float32)
    token_B, logp_B = draw(np.tile(logits_V.astype(np.float32), (len(uniform_B), 1)), uniform_B)
    np.testing.assert_array_equal(token_B, [0, 0, 1, 1, 2, 2, 4, 4, 4])
    np.testing.assert_allclose(logp_B, np.log(probability[token_B]), rtol=1e-5)
    assert token_B.dtype == jnp.int32 and logp_B.dtype == jnp.float32


def test_a_token_without_probability_is_never_drawn():
    """At every place where rounding could let the cumulative sum rise or fall short."""
    config = sampling_logits.SamplingConfig(top_k=5)
    rows = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)
    adjusted = np.asarray(sampling_logits.adjust(config, rows))
    sums = np.asarray(jax.jit(lambda x: jnp.cumsum(jax.nn.softmax(x, axis=-1), axis=-1))(adjusted))
    assert max(len(np.unique(row)) for row in sums) > 6  # 5 tokens, 0, and rounding errors
    steps = sums / sums[:, -1:]
    compiled = jax.jit(sampling_logits.draw)
    for uniform_B in (np.zeros(256), np.full(256, ONE_MINUS), *steps[:, ::32].T):
        token_B, logp_B = compiled(adjusted, np.minimum(uniform_B, ONE_MINUS).astype(np.float32))
        chosen = np.take_along_axis(adjusted, np.asarray(token_B)[:, None], axis=1)
        assert (chosen > -1e20).all() and (logp_B > -20).all()


ROWS = st.lists(st.integers(-40, 40) | st.just(None), min_size=V, max_size=V)


@settings(max_examples=150, deadline=None)
@given(ROWS.filter(any), st.floats(0, float(ONE_MINUS), width=32) | st.just(float(ONE_MINUS)))
def test_draw_inverts_the_cumulative_sum(row, uniform):
    logits_V = np.array([-1e30 if x is None else x / 4 for x in row], np.float32)
    token, logp = (x[0] for x in draw(logits_V[None], np.array([uniform], np.float32)))
    p = reference(logits_V)
    assert p[token] > 0
    np.testing.assert_allclose(logp, np.log(p[token]), rtol=1e-4, atol=1e-5)
    assert p[:token].sum() - 1e-5 <= uniform <= p[: token + 1].sum() + 1e-5


def test_a_token_is_found_in_its_block_among_blocks_some_of_which_are_impossible():
    logits_V = np.random.default_rng(0).normal(size=192).astype(np.float32)  # 64 blocks of 3
    for first in (0, 30, 33, 150, 189):
        logits_V[first : first + 3] = -1e30
    p = reference(logits_V)
    uniform_B = np.append(np.linspace(0, ONE_MINUS, 999), ONE_MINUS).astype(np.float32)
    token_B, logp_B = draw(np.tile(logits_V, (len(uniform_B), 1)), uniform_B)
    upto = np.cumsum(p)
    assert (p[token_B] > 0).all() and len(np.unique(token_B)) > 120
    assert (upto[token_B] >= uniform_B - 1e-5).all()
    assert (upto[token_B] - p[token_B] <= uniform_B + 1e-5).all()
    np.testing.assert_allclose(logp_B, np.log(p[token_B]), rtol=1e-4)


def test_frequencies_are_the_probabilities():
    num, p = 20_000, reference([0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 1.5, 0.0])
    logits_BV = np.tile(np.log(p).astype(np.float32), (num, 1))
    uniform_B = jax.random.uniform(jax.random.key(0), (num,))
    share = np.bincount(draw(logits_BV, uniform_B)[0], minlength=V) / num
    np.testing.assert_allclose(share, p, atol=4 * np.sqrt(p.max() * (1 - p.max()) / num))
