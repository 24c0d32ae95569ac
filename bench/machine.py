"""What this machine can do, as a line of JSON: python -m bench.machine

matmul_gflops: the best of ten products of 2048 x 2048 float32 matrices, on all cores, by XLA.
copy_gb_s: bytes read and written by the best of ten copies of 512 MiB.
"""

import json
import os
import sys
import time

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


if __name__ == "__main__":
    sys.stdout.write(json.dumps(read()) + "\n")
