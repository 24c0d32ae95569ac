"""Names of mesh axes and of logical axes, and the one table that maps the second to the first."""

from collections.abc import Mapping

MESH_AXES = ("data", "fsdp", "tensor")
"""data: replicas of the weights (may cross slices); fsdp: weights split by width and gathered
when used; tensor: heads and hidden units split, activations exchanged within every layer."""

MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str, MeshAxes]

RULES: Rules = {
    # weights
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "layers": None,
    # activations
    "batch": ("data", "fsdp"),
    "length": None,
    "cache_length": None,
    "act_embed": None,
    "act_heads": "tensor",
    "act_kv_heads": "tensor",
    "act_mlp": "tensor",
    "act_vocab": "tensor",
}
"""Logical axis -> mesh axis, mesh axes (major first), or None for a dimension that stays whole."""


def mesh_axes(name: str, rules: Rules) -> tuple[str, ...]:
    """The mesh axes that split the logical axis `name`; () where it stays whole.

    Raises ValueError for a name that is not in `rules`: linen would replicate it silently.
    """
    if name not in rules:
        raise ValueError(
            f"unknown logical axis {name!r}; the rules table knows {', '.join(sorted(rules))}"
        )
    axes = rules[name]
    if axes is None:
        return ()
    return (axes,) if isinstance(axes, str) else tuple(axes)
