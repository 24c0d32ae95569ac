"""What this machine can do, as a line of JSON: python -m bench.machine [--device]

matmul_gflops: the best of ten products of 2048 x 2048 float32 matrices, on all cores, by XLA.
copy_gb_s: bytes read and written by the best of ten copies of 512 MiB.
With --device they are those of the first device that jax has: bfloat16 matrices, 16384 x 16384
unless it is a CPU, and a copy of 4 GiB, of a CPU 1, in its own memory.
"""

import json
import os
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.metrics import ceiling


def best_seconds(function, rounds: int = 10) -> float:
    """The shortest of `rounds` calls, after one that is not counted."""
    function()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def read(size: int = 2048, num_bytes: int = 2**29) -> dict[str, float]:
    """The figures. size: of the matrices; num_bytes: of the copy."""
    product = ceiling.measured("float32", size, rounds=10)
    source, target = np.ones(num_bytes // 8), np.empty(num_bytes // 8)
    copy = best_seconds(lambda: np.copyto(target, source))
    return {
        "cores": len(os.sched_getaffinity(0)),
        "matmul_gflops": round(product / 1e9, 1),
        "copy_gb_s": round(2 * num_bytes / copy / 1e9, 1),
        "load": os.getloadavg()[0],
    }


def read_device(size: int | None = None, num_bytes: int | None = None) -> dict[str, Any]:
    """The figures of the first device. size: of the matrices; num_bytes: of the copy."""
    device = jax.local_devices()[0]
    size = size or (2048 if device.platform == "cpu" else 16_384)
    num_bytes = num_bytes or 2 ** (30 if device.platform == "cpu" else 32)
    product = ceiling.measured("bfloat16", size, rounds=10)
    source, copy = jax.device_put(jnp.ones(num_bytes // 4), device), jax.jit(jnp.copy)
    seconds = best_seconds(lambda: copy(source).block_until_ready())
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "matmul_gflops": round(product / 1e9, 1),
        "copy_gb_s": round(2 * num_bytes / seconds / 1e9, 1),
        "load": os.getloadavg()[0],
    }


def device_peak_bytes() -> int | None:
    """The most memory that the first device has had in use; None where it does not say."""
    stats = jax.local_devices()[0].memory_stats()
    return None if stats is None else stats.get("peak_bytes_in_use")


if __name__ == "__main__":
    found = read_device() if "--device" in sys.argv[1:] else read()
    sys.stdout.write(json.dumps(found) + "\n")
