"""The TPU's kernel, interpreted, against the attention of the other devices: values, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.models import attention, flash
from r1_jax.sharding import mesh as meshes


def _inputs(B, T, N, K, H, U):
    shapes = [(B, T, N, H), (B, T, K, H), (B, T, K, U), (B, T, N, U)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize(
    ("T", "N", "K", "H", "U"),
    [(150, 4, 2, 32, 32), (200, 2, 2, 48, 32)],
    ids=["grouped, padded to a block", "values narrower than keys"],
)
def test_it_is_the_attention_of_the_other_devices(T, N, K, H, U):
    q, k, v, cotangent = _inputs(1, T, N, K, H, U)
    segment_BT = jnp.asarray((np.arange(T) >= T - 70)[None], jnp.int32)
    ours, ours_back = jax.vjp(lambda *a: attention.causal(*a, segment_BT, 0.2), q, k, v)
    kernels, kernels_back = jax.vjp(
        lambda *a: flash.causal(*a, segment_BT, 0.2, interpret=True), q, k, v
    )
    np.testing.assert_allclose(kernels, ours, atol=1e-5)
    for got, want in zip(kernels_back(cotangent), ours_back(cotangent), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_over_a_mesh_every_device_has_its_own_rows_and_heads():
    q, k, v, _ = _inputs(2, 130, 4, 2, 32, 32)
    segment_BT = jnp.zeros((2, 130), jnp.int32)
    alone = attention.causal(q, k, v, segment_BT, 0.2)
    with meshes.activate(meshes.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])):
        over = jax.jit(lambda *a: flash.causal(*a, segment_BT, 0.2, interpret=True))(q, k, v)
    np.testing.assert_allclose(over, alone, atol=1e-5)


def test_it_is_for_tpus_alone():
    assert not flash.is_of_use(4096)
    with meshes.activate(meshes.make_mesh(data=jax.device_count())):
        assert not flash.is_of_use(4096)
