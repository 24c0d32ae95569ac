"""Latent attention: absorbed = expanded, the paper's equations in NumPy, what is cached."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import attention, latent_attention, rotary
from r1_jax.models import cache as kv_cache
from tests.golden import decoder_numpy as golden
from tests.models import tiny

B, T = 2, 6
POSITION_BT = np.broadcast_to(np.arange(T), (B, T))


def _params(config, seed=0):
    x_BTD = jnp.zeros((1, 1, config.embed_dim))
    module = latent_attention.LatentAttention(config)
    mix = lambda q, k, v, scale: (v, None)  # noqa: E731
    turn = rotary.turn(config, x_BTD[..., 0])
    boxed = jax.eval_shape(lambda k: module.init(k, x_BTD, turn, mix), jax.random.key(0))
    rng = np.random.default_rng(seed)
    drawn = jax.tree.map(lambda x: 0.4 * rng.normal(size=x.shape).astype(np.float32), boxed)
    return nn.unbox(drawn)


def _expanded(q_BTNH, k_BTNH, v_BTNU, scale):
    assert v_BTNU.shape[-1] != q_BTNH.shape[-1]
    return attention.causal(q_BTNH, k_BTNH, v_BTNU, None, scale), None


def _absorbed(q_BTNC, latent_BT1C, none, scale):
    assert none is None
    return attention.causal(q_BTNC, latent_BT1C, latent_BT1C, None, scale), "its own"


@pytest.mark.parametrize("query_rank", [0, 18])
def test_absorbed_expanded_and_the_equations_agree(query_rank):
    latent = dataclasses.replace(tiny.DEEPSEEK.latent, query_rank=query_rank)
    c = dataclasses.replace(tiny.DEEPSEEK, latent=latent)
    params = _params(c)
    x_BTD = np.random.default_rng(1).normal(size=(B, T, c.embed_dim)).astype(np.float32)

    def run(absorbed, mix):
        module = latent_attention.LatentAttention(c, absorbed)
        return module.apply(params, x_BTD, rotary.turn(c, POSITION_BT), mix)

    expanded_BTD, (cached_BT1C, none) = run(False, _expanded)
    absorbed_BTD, carried = run(True, _absorbed)
    assert none is None and carried == "its own"
    assert cached_BT1C.shape == (B, T, 1, latent.rank + latent.rope_dim)
    np.testing.assert_allclose(absorbed_BTD, expanded_BTD, rtol=1e-4, atol=1e-4)

    p = jax.tree.map(lambda x: np.asarray(x, float), params["params"])
    kernel = {name: branch.get("kernel") for name, branch in p.items()}
    for b in range(B):
        x_TD = x_BTD[b].astype(float)
        if query_rank:
            scale = p["query_norm"]["scale"]
            q_TQ = golden.rms_norm(x_TD @ kernel["query_down"], scale, c.norm_epsilon)
            q_TNH = np.einsum("tq,qnh->tnh", q_TQ, kernel["query_up"])
        else:
            q_TNH = np.einsum("td,dnh->tnh", x_TD, kernel["query"])
        down_TC = x_TD @ kernel["latent_down"]
        latent_TR = golden.rms_norm(
            down_TC[:, : latent.rank], p["latent_norm"]["scale"], c.norm_epsilon
        )
        both_TNM = np.einsum("tr,rnm->tnm", latent_TR, kernel["latent_up"])
        frequency = np.asarray(rotary.frequencies(c, latent.rope_dim), float)

        def turn(x_TnH, frequency=frequency):  # neighbours as complex numbers
            z = x_TnH[..., 0::2] + 1j * x_TnH[..., 1::2]
            z = z * np.exp(1j * np.arange(T)[:, None, None] * frequency) * rotary.magnitude(c)
            return np.concatenate([z.real, z.imag], axis=-1)

        nope = latent.nope_dim
        k_rope_T1H = turn(down_TC[:, None, latent.rank :])
        keys = np.concatenate(
            [both_TNM[..., :nope], np.repeat(k_rope_T1H, c.num_heads, axis=1)], axis=-1
        )
        queries = np.concatenate([q_TNH[..., :nope], turn(q_TNH[..., nope:])], axis=-1)
        logits_NTS = np.einsum("tnh,snh->nts", queries, keys) * rotary.logit_scale(c)
        logits_NTS = np.where(np.tril(np.ones((T, T), bool))[None], logits_NTS, -np.inf)
        weights_NTS = np.exp(logits_NTS - logits_NTS.max(-1, keepdims=True))
        weights_NTS /= weights_NTS.sum(-1, keepdims=True)
        mixed_TNU = np.einsum("nts,snu->tnu", weights_NTS, both_TNM[..., nope:])
        expected_TD = np.einsum("tnu,nud->td", mixed_TNU, kernel["out"])
        np.testing.assert_allclose(expanded_BTD[b], expected_TD, rtol=1e-3, atol=1e-4)


def test_the_cache_holds_the_latents_and_nothing_else():
    c, latent = tiny.DEEPSEEK, tiny.DEEPSEEK.latent
    cache = jax.eval_shape(lambda: kv_cache.allocate(c, 3, 5, 7))
    C = latent.rank + latent.rope_dim
    assert {x.shape for x in cache.prefix_k} == {(3, 1, 5, C)}
    assert {x.shape for (x,) in cache.ring_k} == {(3, 1, 7, C)}
    assert cache.prefix_v == cache.ring_v == ()
    assert len(cache.ring_k) == c.num_layers
