"""Sizes, norms, casts, names and digests of pytrees of arrays."""

import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np


def num_params(tree):
    """Returns the number of array elements in `tree`, int. Leaves need only a shape."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def num_bytes(tree):
    """Returns the bytes of one copy of `tree`, int. Leaves need only shape and dtype."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def global_norm(tree):
    """Returns the Euclidean norm of all elements of `tree`, float32 scalar; 0 of an empty tree."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))


def cast(tree, dtype):
    """Returns `tree` with its floating-point leaves in `dtype`; other leaves stay as they are."""

    def cast_leaf(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast_leaf, tree)


def paths(tree):
    """Returns {"a/b/c": leaf} of `tree`, in the tree's order; a lone leaf has the name ""."""
    with_path, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in with_path}


def digest(tree):
    """Returns the SHA-256, hex, over names, shapes, dtypes and bytes of all leaves of `tree`.

    Leaves are arrays fully visible to this process; typed keys count by their key data. Independent
    of sharding and of the order of insertion into dicts.
    """
    sha = hashlib.sha256()
    for name, leaf in sorted(paths(tree).items()):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(jax.device_get(leaf))
        sha.update(f"{name}|{list(array.shape)}|{array.dtype.name}|".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
