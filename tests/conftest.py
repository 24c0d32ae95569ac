"""What every test runs under: eight CPU devices, and jax's strict flags."""

import os
import pathlib

# As the command line does it, and for the commands that tests start; beside pytest's own cache.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jit")
)
# torch's threads wait for each other by turning; two workers' on two cores, five times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax

from r1_jax.sharding import mesh

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
mesh.enough_threads()
jax.devices()  # makes the threads
os.environ.pop("PJRT_NPROC", None)  # they are not for the commands that tests start
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_collection_modifyitems(items):
    """Files that kill and restart whole runs come first, then the last folders.

    Those compile for long; begun last, one worker would wait for the other.
    """
    killing = {item.path for item in items if item.get_closest_marker("kill")}
    place = {path: i for i, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (item.path not in killing, -place[item.path]))
