"""Routed experts (DeepSeek-V3, arXiv:2412.19437, section 2.1.2): who is chosen, and what they do.

No token is dropped: tokens are sorted by their experts and multiplied group by group, or, where the
experts are few, every expert is run on every token and what nobody asked for weighs nothing. Over a
mesh the experts lie on the axis "expert"; every device of it sees the tokens of all, computes what
its own experts are asked for, and of the parts' sum gets its own tokens'.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import expert_rows, layers
from r1_jax.sharding import axes, place
from r1_jax.sharding import mesh as meshes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Routed:
    """What routers did. One layer's, or all with a leading axis L over the layers with experts."""

    chosen_BTX: jax.Array  # int32: each token's experts; given back, they are replayed
    load_E: jax.Array  # float32: tokens that chose an expert, those of the mask only
    balance_B: jax.Array  # float32: sequence balance loss before its coefficient


def choose(
    config: model_config.Experts, score_BTE: jax.Array, bias_E: jax.Array | None
) -> jax.Array:
    """int32 [B, T, X]: the experts of every token, by biased score, best first.

    Only the best groups_kept groups are looked at: ranked by their two best experts' sum where
    there is a bias (V3, "noaux_tc"), else by their best (V2, "group_limited_greedy").
    """
    biased_BTE = score_BTE if bias_E is None else score_BTE + bias_E[None, None, :]
    biased_BTE = jax.lax.stop_gradient(biased_BTE)
    if config.groups_kept < config.num_groups:
        B, T, E = biased_BTE.shape
        grouped_BTGE = biased_BTE.reshape(B, T, config.num_groups, -1)
        best = jax.lax.top_k(grouped_BTGE, 1 if bias_E is None else 2)[0]
        kept_BTg = jax.lax.top_k(jnp.sum(best, axis=-1), config.groups_kept)[1]
        kept_BTG = jnp.any(jax.nn.one_hot(kept_BTg, config.num_groups, dtype=bool), axis=2)
        biased_BTE = jnp.where(kept_BTG[..., None], grouped_BTGE, -jnp.inf).reshape(B, T, E)
    return jax.lax.top_k(biased_BTE, config.num_chosen)[1]


def weights(config: model_config.Experts, score_BTE: jax.Array, chosen_BTX: jax.Array) -> jax.Array:
    """float32 [B, T, X]: what the chosen experts' outputs are multiplied by; no bias in it."""
    weight_BTX = jnp.take_along_axis(score_BTE, chosen_BTX, axis=-1)
    if config.normalise:
        weight_BTX = weight_BTX / (jnp.sum(weight_BTX, axis=-1, keepdims=True) + 1e-20)
    return weight_BTX * config.scale


def load(chosen_BTX: jax.Array, num_routed: int, mask_BT: jax.Array) -> jax.Array:
    """float32 [B, E]: how many of a row's tokens, those under the mask, chose each expert."""
    is_chosen_BTXE = chosen_BTX[..., None] == jnp.arange(num_routed)[None, None, None, :]
    counted_BTXE = is_chosen_BTXE & mask_BT[:, :, None, None]
    return jnp.sum(counted_BTXE, axis=(1, 2), dtype=jnp.float32)


def balance_loss(score_BTE: jax.Array, chosen_BTX: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """float32 [B]: sequence balance loss, 1 for even use, without its coefficient (V3 Eq. 17-20).

    f counts who was chosen, bias and groups included. The gradient flows through the scores; a row
    without tokens under the mask has loss 0.
    """
    E, X = score_BTE.shape[-1], chosen_BTX.shape[-1]
    num_tokens_B1 = jnp.maximum(jnp.sum(mask_BT, axis=1, dtype=jnp.float32), 1.0)[:, None]
    frequency_BE = load(chosen_BTX, E, mask_BT) * E / (X * num_tokens_B1)
    share_BTE = score_BTE / jnp.sum(score_BTE, axis=-1, keepdims=True)
    mean_BE = jnp.sum(jnp.where(mask_BT[..., None], share_BTE, 0.0), axis=1) / num_tokens_B1
    return jnp.sum(frequency_BE * mean_BE, axis=-1)


def moved_bias(bias_LE: jax.Array, load_LE: jax.Array, rate: float) -> jax.Array:
    """The selection bias, `rate` lower for experts above their layer's mean load, higher below it.

    arXiv:2408.15664, Algorithm 1; V3 pre-trained with rate 0.001, then 0. load_LE: tokens by
    expert of a whole batch, summed over its microbatches and devices.
    """
    mean_L1 = jnp.mean(load_LE, axis=-1, keepdims=True)
    return bias_LE + rate * jnp.sign(mean_L1 - load_LE)


FEW = 8  # experts, in all, up to which all are run: on a CPU core 8% faster an update than sorting


def _mix_of_few(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD, first):
    """As `_mix`, by running experts first .. first + E - 1 on every token."""
    here_E = jnp.arange(gate_EDF.shape[0])
    is_chosen_BTXE = chosen_BTX[..., None] - first == here_E[None, None, None, :]
    weight_BTE = jnp.sum(jnp.where(is_chosen_BTXE, weight_BTX[..., None], 0.0), axis=2)
    gated_BTEF = nn.silu(jnp.einsum("BTD,EDF->BTEF", x_BTD, gate_EDF))
    hidden_BTEF = gated_BTEF * jnp.einsum("BTD,EDF->BTEF", x_BTD, up_EDF)
    hidden_BTEF = hidden_BTEF * weight_BTE[..., None].astype(x_BTD.dtype)
    return jnp.einsum("BTEF,EFD->BTD", hidden_BTEF, down_EFD, preferred_element_type=jnp.float32)


def _mix(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD, first):
    """float32 [B, T, D]: weighted outputs of experts first .. first + E - 1, zeros of the others.

    Every choice of a token is a row; rows are sorted by expert, those of other experts last.
    """
    (B, T, D), X, E = x_BTD.shape, chosen_BTX.shape[-1], gate_EDF.shape[0]
    expert_M = chosen_BTX.reshape(-1) - first
    is_here_M = (expert_M >= 0) & (expert_M < E)
    expert_M = jnp.where(is_here_M, expert_M, E)
    order_M = jnp.argsort(expert_M)
    size_E = jnp.sum(expert_M[:, None] == jnp.arange(E)[None, :], axis=0, dtype=jnp.int32)
    x_MD = x_BTD.reshape(-1, D)[order_M // X]
    gated_MF = nn.silu(jax.lax.ragged_dot(x_MD, gate_EDF, size_E))
    hidden_MF = gated_MF * jax.lax.ragged_dot(x_MD, up_EDF, size_E)
    y_MD = jax.lax.ragged_dot(hidden_MF, down_EFD, size_E, preferred_element_type=jnp.float32)
    weighted_MD = y_MD * weight_BTX.reshape(-1)[order_M][:, None]
    weighted_MD = jnp.where(is_here_M[order_M][:, None], weighted_MD, 0.0)
    return jnp.sum(weighted_MD[jnp.argsort(order_M)].reshape(B, T, X, D), axis=2)


def _mix_of_many(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD, first):
    """As `_mix`, but rows that would fill a block of every expert are not held all at once, and
    their outputs come in x's type."""
    (B, T, D), X = x_BTD.shape, chosen_BTX.shape[-1]
    if B * T * X <= expert_rows.ROWS * gate_EDF.shape[0]:
        return _mix(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD, first)
    tokens = x_BTD.reshape(-1, D), chosen_BTX.reshape(-1, X), weight_BTX.reshape(-1, X)
    return expert_rows.mix(*tokens, gate_EDF, up_EDF, down_EFD, first).reshape(B, T, D)


def mix(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD) -> jax.Array:
    """[B, T, D]: each token's chosen experts' outputs, weighted and summed.

    float32, or x's type. Over a mesh the parts of its devices are summed in x's type: half of what
    float32 would send, for one rounding of every part more (none, where x is float32).
    """
    inputs = x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD
    part = _mix_of_few if gate_EDF.shape[0] <= FEW else _mix_of_many
    active = meshes.current()
    if active is None:
        return part(*inputs, first=0)
    expert_axes, mlp_axes = (
        axes.mesh_axes(name, active.rules, active.mesh.axis_names) for name in ("experts", "mlp")
    )
    names = [("batch", "length", None)] * 3 + [("experts", None, "mlp")] * 2
    names.append(("experts", "mlp", None))
    specs = [place.activation_spec(x, n) for x, n in zip(inputs, names, strict=True)]
    # Those that do split the tokens: a single row or position, as of init's dummy, stays whole.
    row_axes, *_ = split = [_tuple(part) for part in specs[0]]
    token_axes, kernel_axes = sum(split, ()), expert_axes + mlp_axes
    gathered_axes = tuple(axis for axis in row_axes if axis in expert_axes)

    def of_this_device(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD):
        first = jax.lax.axis_index(expert_axes) * gate_EDF.shape[0] if expert_axes else 0
        tokens = x_BTD, chosen_BTX, weight_BTX
        if gathered_axes:
            tokens = jax.lax.all_gather(tokens, gathered_axes, tiled=True)
        x_BTD, chosen_BTX, weight_BTX = tokens
        # Said here and not left to the gathers below: the gradient of a gather whose indices alone
        # differ between devices is not summed over them (jax 0.10.2).
        x_BTD, weight_BTX = _varying((x_BTD, weight_BTX), kernel_axes, token_axes)
        kernels = gate_EDF, up_EDF, down_EFD
        gate_EDF, up_EDF, down_EFD = _varying(kernels, token_axes, kernel_axes)
        part_BTD = part(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD, first)
        part_BTD = part_BTD.astype(x_BTD.dtype)
        if gathered_axes:
            part_BTD = jax.lax.psum_scatter(part_BTD, gathered_axes, tiled=True)
        rest = tuple(axis for axis in kernel_axes if axis not in gathered_axes)
        return jax.lax.psum(part_BTD, rest) if rest else part_BTD

    island = jax.shard_map(
        of_this_device, mesh=active.mesh, in_specs=tuple(specs), out_specs=specs[0]
    )
    return island(*inputs)


def _tuple(part) -> tuple[str, ...]:
    """The mesh axes of one entry of a PartitionSpec."""
    return () if part is None else (part,) if isinstance(part, str) else tuple(part)


def _varying(arrays, wanted: tuple[str, ...], given: tuple[str, ...]):
    """`arrays`, which vary over the axes `given`, as such that vary over `wanted` too."""
    return jax.lax.pcast(arrays, tuple(a for a in wanted if a not in given), to="varying")


class Router(nn.Module):
    """(scores [B, T, E] in float32, selection bias [E] or None)."""

    config: model_config.ModelConfig

    @nn.compact
    def __call__(self, x_BTD):
        c, e = self.config, self.config.experts
        assert e is not None
        shape, names = (c.embed_dim, e.num_routed), ("embed", "act_experts")
        kernel_DE = layers.parameter(
            self, "kernel", nn.initializers.normal(c.init_std), shape, names
        )
        logits_BTE = jnp.einsum("BTD,DE->BTE", x_BTD.astype(jnp.float32), kernel_DE)
        if e.scoring == "softmax":
            return jax.nn.softmax(logits_BTE, axis=-1), None
        zeros = nn.initializers.zeros
        bias_E = layers.parameter(self, "bias", zeros, (e.num_routed,), ("act_experts",))
        return jax.nn.sigmoid(logits_BTE), bias_E


class MixtureOfExperts(nn.Module):
    """(output [B, T, D], Routed): shared experts on every token, routed ones on those that chose.

    chosen_BTX: int32, choices to replay in place of the router's own; their weights stay the
    router's. mask_BT: bool, the tokens that Routed's load and balance loss count.
    """

    config: model_config.ModelConfig

    @nn.compact
    def __call__(self, x_BTD, mask_BT, chosen_BTX=None):
        c, e = self.config, self.config.experts
        assert e is not None
        # Said here: the routed experts see more rows, and the products of the others would too.
        x_BTD = place.constrain(x_BTD, "batch", "length", "act_embed")
        score_BTE, bias_E = Router(c, name="router")(x_BTD)
        if chosen_BTX is None:
            chosen_BTX = choose(e, score_BTE, bias_E)

        def stacked(name, shape, names, std):
            normal = nn.initializers.normal(std)
            kernel = layers.parameter(self, name, normal, (e.num_routed, *shape), names)
            return kernel.astype(x_BTD.dtype)

        widen, widened = (c.embed_dim, e.dim), ("experts", "embed", "mlp")
        gate_EDF = stacked("gate", widen, widened, c.init_std)
        up_EDF = stacked("up", widen, widened, c.init_std)
        down_EFD = stacked("down", widen[::-1], ("experts", "mlp", "embed"), layers.residual_std(c))
        weight_BTX = weights(e, score_BTE, chosen_BTX)
        out_BTD = mix(x_BTD, chosen_BTX, weight_BTX, gate_EDF, up_EDF, down_EFD)
        out_BTD = place.constrain(out_BTD.astype(x_BTD.dtype), "batch", "length", "act_embed")
        if e.num_shared:
            out_BTD += layers.SwiGLU(c, e.num_shared * e.dim, name="shared")(x_BTD)
        routed = Routed(
            chosen_BTX,
            jnp.sum(load(chosen_BTX, e.num_routed, mask_BT), axis=0),
            balance_loss(score_BTE, chosen_BTX, mask_BT),
        )
        return out_BTD, routed
