"""The embedding of whole sequences, with every device at its own part of the table.

A table is split by its width ("embed") and its height ("vocab"). To gather it, as a layer's weights
are gathered, would put the vocabulary on every device for the sake of the few rows that its tokens
name, and its gradient again. So tokens travel and not the table: a device looks up the tokens of
all that share its part of the height, and rows are exchanged for the other parts of its own tokens'
width. The gradient goes the same way back and is summed where the table lies.
"""

import math

import jax
import jax.numpy as jnp

from r1_jax.models import layers
from r1_jax.sharding import axes, place
from r1_jax.sharding import mesh as meshes


def rows(table_VD: jax.Array, tokens_BT: jax.Array, dtype) -> jax.Array:
    """Rows of the table [B, T, D] in `dtype` for int32 tokens, laid out as ("batch", "length").

    The same numbers as `layers.embed`, which is for a step's few tokens, for a table that lies in
    one place, and for a dummy batch of one row.
    """
    names = ("batch", "length", "act_embed")
    active = meshes.current()
    if active is None or tokens_BT.shape[0] == 1:
        return layers.embed(table_VD, tokens_BT, names, dtype)
    present = active.mesh.axis_names
    of_rows, of_length, width, height = (
        axes.mesh_axes(name, active.rules, present)
        for name in ("batch", "length", "embed", "vocab")
    )
    is_split = math.prod(active.mesh.shape[axis] for axis in width + height) > 1
    if not is_split or not set(width) <= set(of_rows + of_length):
        return layers.embed(table_VD, tokens_BT, names, dtype)

    def of_this_device(table_VD, tokens_BT):
        # Said here: the gradient of a gather whose indices alone differ between devices is not
        # summed over them (jax 0.10.2).
        others = tuple(axis for axis in of_rows + of_length if axis not in width)
        table_VD = jax.lax.pcast(table_VD, others, to="varying")
        split_by = {axis: int(axis in of_length) for axis in width}  # dimension of tokens_BT
        for axis, dimension in split_by.items():
            tokens_BT = jax.lax.all_gather(tokens_BT, axis, axis=dimension, tiled=True)
        place_BT = tokens_BT
        if height:
            place_BT = tokens_BT - jax.lax.axis_index(height) * table_VD.shape[0]
        is_here_BT1 = ((place_BT >= 0) & (place_BT < table_VD.shape[0]))[..., None]
        x_BTD = jnp.take(table_VD, place_BT, axis=0, mode="clip").astype(dtype)
        x_BTD = jnp.where(is_here_BT1, x_BTD, jnp.zeros((), dtype))
        for axis, dimension in reversed(split_by.items()):
            x_BTD = jax.lax.all_to_all(x_BTD, axis, dimension, 2, tiled=True)
        return jax.lax.psum(x_BTD, height)  # of one row and zeros: exact

    inputs = table_VD, tokens_BT
    named = ("vocab", "embed"), ("batch", "length")
    specs = [place.activation_spec(x, n) for x, n in zip(inputs, named, strict=True)]
    out = jax.P(*specs[1], None)
    island = jax.shard_map(of_this_device, mesh=active.mesh, in_specs=tuple(specs), out_specs=out)
    return island(*inputs)
