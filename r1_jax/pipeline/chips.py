"""What a TPU chip can do, by generation, and the slices that `plan` describes without having one.

Sources: Google Cloud's pages cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e, tables "system
architecture", read 2026-11-26. There the interconnect is a chip's bandwidth in both directions
over all its ports; here it is that of one port in one direction. Of a chip's HBM (32, 16, 95 and 32
GB there) programs get what libtpu 0.0.42.1 names as available when it refuses one.
"""

import dataclasses
import os
import re
from importlib import util
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip's ceilings."""

    peak_flops: float  # a second, bfloat16
    hbm_bytes: float  # that programs may have
    hbm_bandwidth: float  # bytes a second
    link_bandwidth: float  # bytes a second, one port, one way
    dimensions: int  # of the torus; two ports each
    chips_per_host: int


CHIPS = {
    "v4": Chip(275e12, 30.75 * GIB, 1.2e12, 50e9, 3, 4),
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 50e9, 2, 4),
    "v5p": Chip(459e12, 95.74 * GIB, 2.765e12, 100e9, 3, 4),
    "v6e": Chip(918e12, 31.25 * GIB, 1.638e12, 100e9, 2, 4),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice by its name, such as v5p:4x4x4, and its chips as jax describes them."""

    name: str
    chip: Chip
    devices: list[Any]


def describe(name: str) -> Slice:
    """The slice `name`, GENERATION:AxB or GENERATION:AxBxC; no TPU is looked for.

    Raises ValueError for a slice that does not exist, and where libtpu is not installed.
    """
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
    if match is None or match[1] not in CHIPS:
        raise ValueError(
            f"topology={name!r} is not known; write GENERATION:SHAPE, the generation one of "
            f"{', '.join(CHIPS)}, such as v5e:8x8 or v5p:4x4x4"
        )
    chip = CHIPS[match[1]]
    shape = [int(size) for size in match[2].split("x")]
    if len(shape) != chip.dimensions or not all(shape):
        raise ValueError(
            f"topology={name!r}: {match[1]} is a torus of {chip.dimensions} dimensions; write "
            f"{match[1]}:{'x'.join(['8', '8', '8'][: chip.dimensions])}, for one"
        )
    if util.find_spec("libtpu") is None:
        raise ValueError(
            "plan compiles with the TPU's own compiler, the package libtpu, which is not installed "
            "here; `make plan-deps` installs the locked version, no TPU is needed"
        )
    # Another program of this machine may hold libtpu's lock; no device is touched here. Metadata
    # of a cloud machine would be asked for, and waited for, in vain.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    # The two cores of a v4 are one device, as jax has them on such a machine.
    chosen = {"chip_config_name": "megacore"} if match[1] == "v4" else {}
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **chosen).devices
    except Exception as error:  # what jax raises for a wrong shape differs between its versions
        raise ValueError(
            f"topology={name!r} does not exist for libtpu ({str(error).splitlines()[0]}); a slice "
            f"of {match[1]} has sides of 1, 2 or a multiple of 4"
        ) from error
    return Slice(name, chip, list(devices))
