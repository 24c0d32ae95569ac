"""Where cuDNN's attention is asked, and for what; its numbers are compared by bench.kernels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import attention, cudnn, prefix
from r1_jax.sharding import mesh as meshes

T, N, K, H = 20, 4, 2, 16


def _rows(num, *, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(num, T, heads, H) for heads in (N, K, K, N)]
    return [jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True)]


def _served(monkeypatch):
    """Has attention ask cuDNN's, which jax computes without it. Returns the calls."""
    calls = []
    plain = functools.partial(jax.nn.dot_product_attention, implementation="xla")

    def attend(*args, implementation, **settings):
        calls.append((implementation, settings))
        return plain(*args, **settings)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    monkeypatch.setattr(cudnn, "is_of_use", lambda *_: True)
    return calls


@pytest.mark.parametrize("is_on_mesh", [False, True])
def test_rows_without_documents_are_what_others_compute(is_on_mesh, monkeypatch):
    q, k, v, cotangent = _rows(2)
    causal = functools.partial(attention.causal, segment_BT=None, scale=0.3)
    want, want_back = jax.vjp(causal, q, k, v)
    calls = _served(monkeypatch)
    if is_on_mesh:
        with meshes.activate(meshes.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])):
            got, got_back = jax.vjp(jax.jit(causal), q, k, v)
    else:
        got, got_back = jax.vjp(causal, q, k, v)
    assert calls == [("cudnn", {"scale": 0.3, "is_causal": True})]
    np.testing.assert_allclose(got, want, atol=1e-5)
    for x, y in zip(got_back(cotangent), want_back(cotangent), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_rows_that_begin_alike_are_what_others_compute(monkeypatch):
    shared = prefix.Shared(2, 7)
    q, k, v, cotangent = map(shared.fold, _rows(4))
    behind = functools.partial(attention.behind_prefix, shared=shared)
    want, want_back = jax.vjp(behind, q, k, v)
    calls = _served(monkeypatch)
    got, got_back = jax.vjp(behind, q, k, v)
    assert len(calls) == 1
    np.testing.assert_allclose(got, want, atol=1e-5)
    for x, y in zip(got_back(cotangent), want_back(cotangent), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_documents_are_not_its_business(monkeypatch):
    q, k, v, _ = _rows(2)
    calls = _served(monkeypatch)
    attention.causal(q, k, v, jnp.zeros((2, T), jnp.int32))
    assert not calls


def test_it_is_for_gpus_16_bits_and_heads_of_some_sizes(monkeypatch):
    q, _, v, _ = _rows(1, dtype=jnp.bfloat16)
    assert not cudnn.is_of_use(q, v)
    monkeypatch.setattr(meshes, "is_of_gpus", lambda: True)
    assert cudnn.is_of_use(q, v)
    assert not cudnn.is_of_use(q.astype(jnp.float32), v)
    assert not cudnn.is_of_use(q[..., :12], v[..., :12])
    assert not cudnn.is_of_use(q, v[..., :8])
    wide = jnp.zeros((1, T, N, 192), jnp.bfloat16)
    assert not cudnn.is_of_use(wide, wide)
