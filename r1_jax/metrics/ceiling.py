"""What a device can do at most, measured: what a step's FLOP/s are a share of."""

import functools
import time

import jax
import jax.numpy as jnp


@functools.cache
def matmul_flops(dtype: str) -> float:
    """What `measured` says, measured once in a process."""
    return measured(dtype)


def measured(dtype: str, size: int | None = None, rounds: int = 3) -> float:
    """FLOP/s of the fastest of `rounds` products of two [size, size] matrices on one device.

    On a CPU the device is all cores. size: 2048 there unless given, and 8192 elsewhere: what an
    accelerator does with 2048 takes less time than to ask for it.
    """
    device = jax.local_devices()[0]
    size = size or (2048 if device.platform == "cpu" else 8192)
    x = jax.device_put(jax.random.normal(jax.random.key(0), (size, size)).astype(dtype), device)
    multiply = jax.jit(jnp.matmul)
    multiply(x, x).block_until_ready()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        multiply(x, x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)
