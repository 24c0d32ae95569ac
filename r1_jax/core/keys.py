"""Named random streams: every draw is a function of a root key, a name and integers."""

import zlib

import jax


def root(seed):
    """Returns the typed key (scalar) that all randomness of a run comes from. seed: int >= 0."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed} is out of range; use 0 <= seed < 2**32")
    return jax.random.key(seed)


def at(key, name, *ints):
    """Returns the typed key (scalar) of stream `name` at position `ints`, without consuming `key`.

    Folds in a stable hash of the name (CRC-32 of its UTF-8 bytes), then each of `ints` in order, so
    that a resumed run needs no stored key and a row's noise does not depend on its neighbours.
    key: typed key, scalar. ints: Python ints in [0, 2**32) or scalar integer arrays, traced or not.
    Raises ValueError for an int outside that range.
    """
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    for value in ints:
        if isinstance(value, int) and not 0 <= value < 2**32:
            raise ValueError(f"keys.at(key, {name!r}, {value}): ints must lie in [0, 2**32)")
        key = jax.random.fold_in(key, value)
    return key
