"""Names of mesh axes and of logical axes, and the one table that maps the second to the first."""

from collections.abc import Collection, Mapping

MESH_AXES = ("data", "fsdp", "tensor", "expert", "context")
"""data: replicas of the weights (may cross slices); fsdp: weights split by width and gathered
when used; tensor: heads and hidden units split, activations exchanged within every layer; expert:
routed experts split and everything else replicated, tokens gathered by layers with experts;
context: positions of long sequences split, keys and values gathered by every layer, weights as
along fsdp. A mesh may lack the last two: what the rules split over them then stays whole."""

MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str, MeshAxes]

RULES: Rules = {
    # weights
    "vocab": "tensor",
    "embed": ("fsdp", "context"),
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "latent": None,
    "from_latent": (
        "fsdp",
        "context",
    ),  # of a matrix that widens a latent, which has no "embed" to be split by
    "rank": None,
    "experts": "expert",
    "layers": None,
    # activations
    "batch": ("data", "fsdp", "expert"),
    "act_experts": None,
    "length": "context",
    "cache_length": None,
    "act_embed": None,
    "act_heads": "tensor",
    "act_kv_heads": "tensor",
    "act_mlp": "tensor",
    "act_vocab": "tensor",
}
"""Logical axis -> mesh axis, mesh axes (major first), or None for a dimension that stays whole."""

SAMPLER_RULES: Rules = {
    **RULES,
    "batch": ("data", "fsdp", "expert", "context"),
    "length": None,
}
"""RULES where completions are sampled: a step has one position a row, so context splits rows."""

OPTIONAL = ("expert", "context")


def mesh_axes(name: str, rules: Rules, present: Collection[str] = MESH_AXES) -> tuple[str, ...]:
    """The mesh axes that split the logical axis `name`; () where it stays whole.

    present: the mesh's own axes; an optional axis that is not among them splits nothing.
    Raises ValueError for a name that is not in `rules`: linen would replicate it silently.
    """
    if name not in rules:
        raise ValueError(
            f"unknown logical axis {name!r}; the rules table knows {', '.join(sorted(rules))}"
        )
    axes = rules[name]
    if axes is None:
        return ()
    axes = (axes,) if isinstance(axes, str) else axes
    return tuple(axis for axis in axes if axis in present or axis not in OPTIONAL)
