"""Hugging Face weights <-> our parameters, a tensor at a time: names, layouts, fp8 blocks.

Theirs are one matrix a layer, [out, in]; ours are stacked over layers (and experts), [in, out],
with heads as an axis of their own. A Place says where one of their tensors lies in ours.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.checkpoints import folder
from r1_jax.core import trees
from r1_jax.interop import hf_files
from r1_jax.models import config as model_config
from r1_jax.models import transformer

_PIECE = 1 << 26  # bytes turned at a time

_OUTSIDE = {  # our path -> their name, dimensions that a product sums over (0: no matrix)
    "embedding": ("model.embed_tokens.weight", 0),
    "head": ("lm_head.weight", 1),
    "final_norm/scale": ("model.norm.weight", 0),
}
_INSIDE = {  # the same within a layer; {e} is the expert
    "attention_norm/scale": ("input_layernorm.weight", 0),
    "mlp_norm/scale": ("post_attention_layernorm.weight", 0),
    "attention/query/kernel": ("self_attn.q_proj.weight", 1),
    "attention/query/bias": ("self_attn.q_proj.bias", 0),
    "attention/query_norm/scale": ("self_attn.q_norm.weight", 0),
    "attention/key/kernel": ("self_attn.k_proj.weight", 1),
    "attention/key/bias": ("self_attn.k_proj.bias", 0),
    "attention/key_norm/scale": ("self_attn.k_norm.weight", 0),
    "attention/value/kernel": ("self_attn.v_proj.weight", 1),
    "attention/value/bias": ("self_attn.v_proj.bias", 0),
    "attention/out/kernel": ("self_attn.o_proj.weight", 2),
    "mlp/gate/kernel": ("mlp.gate_proj.weight", 1),
    "mlp/up/kernel": ("mlp.up_proj.weight", 1),
    "mlp/down/kernel": ("mlp.down_proj.weight", 1),
    "experts/router/kernel": ("mlp.gate.weight", 1),
    "experts/router/bias": ("mlp.gate.e_score_correction_bias", 0),
    "experts/gate": ("mlp.experts.{e}.gate_proj.weight", 1),
    "experts/up": ("mlp.experts.{e}.up_proj.weight", 1),
    "experts/down": ("mlp.experts.{e}.down_proj.weight", 1),
    "experts/shared/gate/kernel": ("mlp.shared_experts.gate_proj.weight", 1),
    "experts/shared/up/kernel": ("mlp.shared_experts.up_proj.weight", 1),
    "experts/shared/down/kernel": ("mlp.shared_experts.down_proj.weight", 1),
}
_LATENT = {  # what is named otherwise with latent attention
    "attention/query_down/kernel": ("self_attn.q_a_proj.weight", 1),
    "attention/query_norm/scale": ("self_attn.q_a_layernorm.weight", 0),
    "attention/query_up/kernel": ("self_attn.q_b_proj.weight", 1),
    "attention/latent_down/kernel": ("self_attn.kv_a_proj_with_mqa.weight", 1),
    "attention/latent_norm/scale": ("self_attn.kv_a_layernorm.weight", 0),
    "attention/latent_up/kernel": ("self_attn.kv_b_proj.weight", 1),
}


_AHEAD = {  # of multi-token prediction, stored as one layer more; its block is named as others
    "embedding_norm/scale": ("enorm.weight", 0),
    "hidden_norm/scale": ("hnorm.weight", 0),
    "join/kernel": ("eh_proj.weight", 1),  # the embedding's half first, as here
    "final_norm/scale": ("shared_head.norm.weight", 0),
}
_COPIED = {  # what that layer shares with the decoder, and stores once more
    "embed_tokens.weight": "embedding",
    "shared_head.head.weight": "head",
}


class Place(NamedTuple):
    """Where a tensor of theirs lies: parameter `leaf` at index `at`, of `shape`.

    num_in: of how many leading dimensions of `shape` a product sums; 0 where they store it as is.
    """

    leaf: str
    at: tuple[int, ...]
    shape: tuple[int, ...]
    num_in: int

    @property
    def matrix(self) -> tuple[int, int]:
        """Our (in, out)."""
        return math.prod(self.shape[: self.num_in]), math.prod(self.shape[self.num_in :])

    @property
    def hf_shape(self) -> tuple[int, ...]:
        if self.num_in:
            return self.matrix[::-1]
        return (math.prod(self.shape),) if self.leaf.endswith("bias") else self.shape


class Source(Protocol):
    """Parameters of ours that can be read in parts."""

    def leaves(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]: ...
    def read(self, name: str, index: Sequence[int] = ()) -> np.ndarray: ...


class InMemory:
    """A Source of nested dicts of arrays."""

    def __init__(self, params: Any):
        self._arrays = trees.paths(params)

    def leaves(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        return {name: (np.dtype(x.dtype), tuple(x.shape)) for name, x in self._arrays.items()}

    def read(self, name: str, index: Sequence[int] = ()) -> np.ndarray:
        return np.asarray(self._arrays[name][tuple(index)])


def shapes(config: model_config.ModelConfig) -> dict[str, tuple[int, ...]]:
    """{"a/b/c": shape} of the parameters of a model; nothing is allocated."""
    init = partial(transformer.init, config)
    return {k: x.shape for k, x in trees.paths(jax.eval_shape(init, jax.random.key(0))).items()}


def places(config: model_config.ModelConfig) -> dict[str, Place]:
    """{their name: Place} of all tensors of a model, outside first, then layer by layer."""
    inside = _INSIDE | (_LATENT if config.latent else {})
    of_layer: dict[int, dict[str, Place]] = {i: {} for i in range(config.num_layers)}
    outside = {}
    for leaf, shape in shapes(config).items():
        if leaf in _OUTSIDE:
            name, num_in = _OUTSIDE[leaf]
            outside[name] = Place(leaf, (), shape, num_in)
            continue
        stack, block, path = leaf.split("/", 2)
        if stack == "mtp":
            of_layer.setdefault(config.num_layers, {}).update(
                _ahead(config, inside, leaf.removeprefix("mtp/"), shape)
            )
            continue
        assert block == "block" and stack in ("layers", "dense_layers"), leaf
        first = config.num_layers - shape[0] if stack == "layers" else 0
        name, num_in = inside[path]
        for i in range(shape[0]):
            prefix = f"model.layers.{first + i}."
            if "{e}" not in name:
                of_layer[first + i][prefix + name] = Place(leaf, (i,), shape[1:], num_in)
                continue
            for e in range(shape[1]):
                whole = prefix + name.format(e=e)
                of_layer[first + i][whole] = Place(leaf, (i, e), shape[2:], num_in)
    for found in of_layer.values():
        outside |= found
    return outside


def _ahead(
    config: model_config.ModelConfig,
    inside: Mapping[str, tuple[str, int]],
    path: str,
    shape: tuple[int, ...],
) -> dict[str, Place]:
    """Their names of a parameter of multi-token prediction."""
    prefix, leaf = f"model.layers.{config.num_layers}.", f"mtp/{path}"
    name, num_in = _AHEAD.get(path) or inside[path.removeprefix("layer/")]
    if "{e}" not in name:
        return {prefix + name: Place(leaf, (), shape, num_in)}
    return {
        prefix + name.format(e=e): Place(leaf, (e,), shape[1:], num_in) for e in range(shape[0])
    }


def copies(config: model_config.ModelConfig) -> dict[str, Place]:
    """{their name: Place} of tensors that repeat others: what multi-token prediction shares."""
    if not config.mtp_layers:
        return {}
    known = {place.leaf: place for place in places(config).values() if not place.at}
    prefix = f"model.layers.{config.num_layers}."
    found = {}
    for name, leaf in _COPIED.items():
        if leaf == "head" and config.tied_embeddings:
            leaf = "embedding"
        found[prefix + name] = known[leaf]
    return found


def _turned(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """The transposed matrix in pieces of rows: a second copy of all of it never exists."""
    rows = max(1, _PIECE // max(1, matrix.shape[0] * matrix.itemsize))
    for first in range(0, matrix.shape[1], rows):
        yield np.ascontiguousarray(matrix[:, first : first + rows].T)


def _to_ours(place: Place, theirs: np.ndarray) -> Iterator[np.ndarray]:
    """Our part of a parameter, in pieces in C order."""
    return _turned(theirs) if place.num_in else iter([theirs])


def _to_theirs(place: Place, ours: np.ndarray) -> Iterator[np.ndarray]:
    return _turned(ours.reshape(place.matrix)) if place.num_in else iter([ours])


# --- theirs to ours -----------------------------------------------------------------------------


def plan(
    config: model_config.ModelConfig, checkpoint: hf_files.Checkpoint, *, drop_mtp: bool = False
) -> dict[str, Place]:
    """`places(config)`, once every tensor of the checkpoint is known to have one, and one only.

    drop_mtp: leaves out the layers of multi-token prediction, which follow the model's own. Raises
    ValueError naming tensors that are missing, that nothing reads, or of another shape.
    """
    wanted = places(config)
    found = dict(checkpoint.shapes())
    if config.tied_embeddings and "lm_head.weight" in found:
        if not checkpoint.equal("lm_head.weight", "model.embed_tokens.weight"):
            raise ValueError(
                "config.json says tie_word_embeddings, but lm_head.weight is not "
                "model.embed_tokens.weight; set tie_word_embeddings to false"
            )
        del found["lm_head.weight"]
    named = {place.leaf: name for name, place in wanted.items()}
    for name, place in copies(config).items():
        if name in found and not checkpoint.equal(name, named[place.leaf]):
            raise ValueError(
                f"{checkpoint.path}: {name} is not {named[place.leaf]}; multi-token "
                "prediction with an embedding or a head of its own has no place here; --drop_mtp "
                "leaves it out"
            )
        found.pop(name, None)
    extra = [name for name in found if name not in wanted]
    beyond = tuple(f"model.layers.{config.num_layers + i}." for i in range(checkpoint.num_mtp))
    mtp = [name for name in extra if beyond and name.startswith(beyond)]
    if drop_mtp:
        extra = [name for name in extra if name not in set(mtp)]
    elif mtp:
        raise ValueError(
            f"{len(mtp)} tensors are of multi-token prediction ({mtp[0]}, ...) that has no place "
            "here, which is for one layer after the model's own; --drop_mtp leaves them out"
        )
    for names, what in (
        ([name for name in wanted if name not in found], "lacks"),
        (extra, "has, and nothing reads,"),
    ):
        if names:
            raise ValueError(f"{checkpoint.path} {what} {_some(names)}")
    for name, place in wanted.items():
        if found[name] != place.hf_shape:
            raise ValueError(
                f"{checkpoint.path}: {name} has shape {list(found[name])}, config.json asks for "
                f"{list(place.hf_shape)}"
            )
    return wanted


def num_mtp_layers(
    config: model_config.ModelConfig, checkpoint: hf_files.Checkpoint, *, drop_mtp: bool = False
) -> int:
    """1 where a layer of multi-token prediction is stored (config.json alone may just say so)."""
    prefix = f"model.layers.{config.num_layers}."
    is_stored = any(name.startswith(prefix) for name in checkpoint.shapes())
    return int(checkpoint.num_mtp == 1 and is_stored and not drop_mtp)


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + rest


def leaves(
    wanted: Mapping[str, Place], checkpoint: hf_files.Checkpoint, config: model_config.ModelConfig
) -> Iterator[folder.Leaf]:
    """Our parameters, made of theirs one tensor at a time; `wanted` is of `plan`.

    A parameter keeps the element type of its tensors, float32 where they differ; fp8 blocks become
    bfloat16, as DeepSeek's own conversion does.
    """
    named: dict[str, dict[tuple[int, ...], tuple[str, Place]]] = {}
    for name, place in wanted.items():
        named.setdefault(place.leaf, {})[place.at] = (name, place)
    for leaf, shape in shapes(config).items():
        parts = [named[leaf][index] for index in sorted(named[leaf])]
        kinds = {checkpoint.dtype(name) for name, _ in parts}
        dtype = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)

        def pieces(parts=parts, dtype=dtype):
            for name, place in parts:
                for piece in _to_ours(place, checkpoint.read(name)):
                    yield piece.astype(dtype, copy=False)

        yield folder.Leaf(leaf, dtype, shape, pieces())


# --- ours to theirs -----------------------------------------------------------------------------


def tensors(
    source: Source, config: model_config.ModelConfig, dtype: str | None = None
) -> list[hf_files.Tensor]:
    """Their tensors, each made of ours when its pieces are asked for.

    dtype: "float32" or "bfloat16" to round to; None keeps what is stored. The router's bias, which
    is added to scores that differ little, is never rounded. Raises ValueError when the parameters
    are not those of `config`.
    """
    stored = source.leaves()
    wanted = shapes(config)
    if {name: shape for name, (_, shape) in stored.items()} != wanted:
        differ = [k for k in wanted.keys() | stored if stored.get(k, (0, 0))[1] != wanted.get(k)]
        raise ValueError(
            f"the weights are not those of the model's config: {_some(sorted(differ))}"
        )

    def one(name: str, place: Place) -> hf_files.Tensor:
        kind = stored[place.leaf][0]
        if dtype is not None and not place.leaf.endswith("router/bias"):
            kind = jnp.dtype(dtype)

        def pieces():
            for piece in _to_theirs(place, source.read(place.leaf, place.at)):
                yield piece.astype(kind, copy=False)

        return hf_files.Tensor(name, kind, place.hf_shape, pieces)

    every = places(config) | copies(config)
    return [one(name, place) for name, place in every.items()]
