"""Norm, linear, SwiGLU and embedding: the parts a block is made of."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from r1_jax.models import bits
from r1_jax.models import config as model_config
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place


def parameter(
    module: nn.Module,
    name: str,
    initializer: nn.initializers.Initializer,
    shape: Sequence[int],
    axes: Sequence[str],
) -> jax.Array:
    """The float32 parameter `name` of a module: shape, logical axes and initialiser, said once."""
    boxed = module.param(name, nn.with_logical_partitioning(initializer, tuple(axes)), shape)
    return cast(jax.Array, boxed)  # linen unboxes; its annotation does not say so


def _matrix(x: jax.Array) -> jax.Array:
    """[1, T, D] as [T, D], anything else as it is.

    The gradient of a norm of the former takes XLA's CPU eight times as long; between two products
    it goes over the hidden units once more.
    """
    return x[0] if x.ndim == 3 and len(x) == 1 else x


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis, in float32 (arXiv:1910.07467).

    axis: the logical name of that axis; a norm per head has "head_dim".
    """

    epsilon: float
    axis: str = "embed"

    @nn.compact
    def __call__(self, x):
        scale = parameter(self, "scale", nn.initializers.ones, x.shape[-1:], (self.axis,))
        x32 = _matrix(x).astype(jnp.float32)
        rms = jnp.sqrt(jnp.mean(x32**2, axis=-1, keepdims=True) + self.epsilon)
        normed = x32 / rms * scale.reshape((1,) * (x32.ndim - 1) + (-1,))
        return normed.astype(x.dtype).reshape(x.shape)


class Linear(nn.Module):
    """x contracted with a kernel over `in_shape`; the kernel's logical axes are `axes`.

    `in_shape` are the trailing dimensions of x that are summed over, `out_shape` what replaces
    them. Weights are float32, the product runs in x's dtype. A kernel in 8 bits has its `scale`
    beside it (models/quantised). Where an adapter (models/lora) stands beside the kernel, its
    product is added. product: of x and the kernel, where the caller has it (`products`).
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    axes: tuple[str, ...]
    init_std: float
    bias: bool = False

    @nn.compact
    def __call__(self, x, product=None):
        y, num_in = self._times_kernel(x) if product is None else product, len(self.in_shape)
        if self.bias:
            bias = parameter(
                self, "bias", nn.initializers.zeros, self.out_shape, self.axes[num_in:]
            )
            lead = (1,) * (y.ndim - len(self.out_shape))
            y = y + bias.astype(x.dtype).reshape(lead + tuple(self.out_shape))
        if self.has_variable("params", "lora_in"):
            a = self.get_variable("params", "lora_in").astype(x.dtype)
            b = self.get_variable("params", "lora_out").astype(x.dtype)
            y = y + _product(_product(x, a, num_in), b, 1)
        return y

    @nn.nowrap
    def _times_kernel(self, x):
        shape, normal = (*self.in_shape, *self.out_shape), nn.initializers.normal(self.init_std)
        kernel = parameter(self, "kernel", normal, shape, self.axes)
        num_in = len(self.in_shape)
        if not self.has_variable("params", "scale"):
            return _product(x, kernel.astype(x.dtype), num_in)
        kernel, x = bits.beside(kernel, x)
        y, scale = _product(x, kernel, num_in), self.get_variable("params", "scale")
        return (y * scale.reshape((1,) * (y.ndim - scale.ndim) + scale.shape)).astype(x.dtype)


def _product(x: jax.Array, kernel: jax.Array, num_in: int) -> jax.Array:
    """x contracted with the kernel over x's last num_in dimensions, as one product of matrices.

    What the product itself does not care for, its gradient does: contracting two dimensions of x
    with two of the output's gradient, XLA's CPU first writes the gradient anew, transposed, and
    then takes twice the time of the forward product. Where the mesh splits positions they stay a
    dimension of their own: rows and positions, both split, do not join into one that is.
    """
    if place.ways("length") > 1:
        summed = tuple(range(x.ndim - num_in, x.ndim)), tuple(range(num_in))
        return jax.lax.dot_general(x, kernel, (summed, ((), ())))
    lead, out_shape = x.shape[: x.ndim - num_in], kernel.shape[num_in:]
    num_summed = math.prod(kernel.shape[:num_in])
    x_TI, kernel_IO = x.reshape(-1, num_summed), kernel.reshape(num_summed, -1)
    y_TO = _dot(x_TI, kernel_IO) if meshes.is_of_cpus() else jnp.dot(x_TI, kernel_IO)
    return y_TO.reshape(*lead, *out_shape)


@jax.custom_vjp
def _dot(x_TI: jax.Array, kernel_IO: jax.Array) -> jax.Array:
    """jnp.dot with the kernel's gradient as a product of x, or of y's gradient, turned by hand.

    XLA's CPU takes products that sum over both factors' first dimension by a slower way: of 1,607
    by 1,024 and 256 features 6.6 ms, where turning x first and its product are 4.7.
    """
    return jnp.dot(x_TI, kernel_IO)


def _dot_forward(x_TI, kernel_IO):
    x, kernel = x_TI.value, kernel_IO.value
    # Of a kernel that is frozen x is not kept.
    saved = x if kernel_IO.perturbed else None, kernel if x_TI.perturbed else None
    return jnp.dot(x, kernel), saved


def _dot_backward(saved, g_TO):
    x_TI, kernel_IO = saved
    of_x = None if kernel_IO is None else jnp.dot(g_TO, kernel_IO.T)
    if x_TI is None:
        return of_x, None
    keep = jax.lax.optimization_barrier  # or the compiler undoes it
    if x_TI.shape[1] <= g_TO.shape[1]:  # the narrower is turned
        return of_x, jnp.dot(keep(x_TI.T), g_TO)
    return of_x, keep(jnp.dot(keep(g_TO.T), x_TI)).T


_dot.defvjp(_dot_forward, _dot_backward, symbolic_zeros=True)


def residual_std(config: model_config.ModelConfig) -> float:
    """The initial spread of kernels that end in the residual stream, two to a layer."""
    return config.init_std / (2 * config.num_layers) ** 0.5


_SIDE_BY_SIDE = {"attention": ("query", "key", "value"), "mlp": ("gate", "up")}
_JOINED = "joined"


def join(block: Any) -> Any:
    """A block's parameters with kernels that multiply the same thing side by side in one array.

    For decoding on a CPU, where a product of a few rows takes as long to begin as to do. What a
    mesh splits stays apart, and 8 bits; a GPU's compiler does it itself.
    """
    if not meshes.is_of_cpus() or place.ways("heads") * place.ways("mlp") > 1:
        return block
    for name, names in _SIDE_BY_SIDE.items():
        part = block.get(name, {})
        kernels = [part.get(linear, {}).get("kernel") for linear in names]
        if any(kernel is None or kernel.dtype.itemsize == 1 for kernel in kernels):
            continue
        rest = {n: {k: x for k, x in part[n].items() if k != "kernel"} for n in names}
        block = {**block, name: {**part, **rest, _JOINED: jnp.concatenate(kernels, axis=1)}}
    return block


def products(module: nn.Module, x: jax.Array, widths: Sequence[int]) -> Sequence[jax.Array | None]:
    """x times each kernel that `join` put side by side, `widths` of their first output dimension;
    None for each, where it did not."""
    if not module.has_variable("params", _JOINED):
        return [None] * len(widths)
    kernel = module.get_variable("params", _JOINED)
    y = _product(x, kernel.astype(x.dtype), 1)
    return jnp.split(y, list(itertools.accumulate(widths))[:-1], axis=x.ndim - 1)


# A device's tokens for which a GPU's compiler must not make one product of gate and up, as it does
# with small ones: of 1.5B on an H100 two take longer for 64, but a third less than 49 us for 256.
APART = range(129, 2049)


def _gated(gate, up):
    return nn.silu(gate) * up  # its gradient takes the sigmoid anew: writing it costs as much


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) of `width` hidden units (arXiv:2002.05202)."""

    config: model_config.ModelConfig
    width: int

    @nn.compact
    def __call__(self, x_BTD):
        c = self.config
        widen = {"in_shape": (c.embed_dim,), "out_shape": (self.width,), "axes": ("embed", "mlp")}
        of_gate, of_up = products(self, x_BTD, (self.width, self.width))
        gate_BTF = Linear(**widen, init_std=c.init_std, name="gate")(x_BTD, of_gate)
        devices = place.ways("batch") * place.ways("length")
        if meshes.is_of_gpus() and math.prod(x_BTD.shape[:-1]) // devices in APART:
            x_BTD = jax.lax.optimization_barrier(x_BTD)
        up_BTF = Linear(**widen, init_std=c.init_std, name="up")(x_BTD, of_up)
        gated = _gated if c.remat != "none" else jax.checkpoint(_gated)
        hidden = gated(_matrix(gate_BTF), _matrix(up_BTF))
        hidden_BTF = place.constrain(hidden.reshape(gate_BTF.shape), "batch", "length", "act_mlp")
        return Linear(
            (self.width,), (c.embed_dim,), ("mlp", "embed"), residual_std(c), name="down"
        )(hidden_BTF)


def embed(table_VD: jax.Array, tokens: jax.Array, names: Sequence[str], dtype) -> jax.Array:
    """Rows of the embedding table for int32 tokens of any shape, laid out as `names`.

    The table is made whole in its width and stays split in its height: left to itself, XLA gathers
    the vocabulary on every device, and then the rows.
    """
    table_VD = place.constrain(table_VD, "vocab", "act_embed")
    return place.constrain(jnp.take(table_VD, tokens, axis=0).astype(dtype), *names)
