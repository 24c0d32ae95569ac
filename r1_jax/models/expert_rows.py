"""Many tokens' experts, a block of rows at a time: memory for the block, time for what there is.

Every choice of a token is a row. A device that is given the tokens of many may find none of their
choices with its own experts, or all: arrays for all would be eight times its tokens and more, most
of it empty. Here rows that ask for this device's experts come first, in order of their experts, and
a loop goes over them in blocks, only as far as there are any. The backward pass goes over them
again and sums the weights' gradients in float32.
"""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

ROWS = 32_768  # a block's: for DeepSeek-V3 0.5 GiB of inputs, and of weights read once in 17 TFLOP


def _order(chosen_NX, first: int | jax.Array, num_experts: int):
    """(row numbers [M + ROWS], those of experts here first and sorted by them, rows an expert)."""
    expert_M = chosen_NX.reshape(-1) - first
    expert_M = jnp.where((expert_M >= 0) & (expert_M < num_experts), expert_M, num_experts)
    order_M = jnp.argsort(expert_M)
    here_ME = expert_M[:, None] == jnp.arange(num_experts)[None, :]
    return jnp.pad(order_M, (0, ROWS)), jnp.sum(here_ME, axis=0, dtype=jnp.int32)


def _block(x_RD, weight_R, gate_EDF, up_EDF, down_EFD, size_E):
    """float32 [R, D]: weighted outputs of the first sum(size_E) rows, zeros after them."""
    gated_RF = nn.silu(jax.lax.ragged_dot(x_RD, gate_EDF, size_E))
    hidden_RF = gated_RF * jax.lax.ragged_dot(x_RD, up_EDF, size_E)
    y_RD = jax.lax.ragged_dot(hidden_RF, down_EFD, size_E, preferred_element_type=jnp.float32)
    is_row_R1 = (jnp.arange(ROWS) < jnp.sum(size_E))[:, None]
    return jnp.where(is_row_R1, y_RD * weight_R[:, None], 0.0)


def _each(order_M, size_E, body, carry):
    """carry after body(carry, rows_R, is_row_R, size of its experts) for every block of rows."""
    end_E = jnp.cumsum(size_E)

    def turn(i, carry):
        rows_R = jax.lax.dynamic_slice(order_M, (i * ROWS,), (ROWS,))
        within_E = jnp.clip(end_E - i * ROWS, 0, ROWS)
        in_block_E = within_E - jnp.clip(end_E - size_E - i * ROWS, 0, ROWS)
        return body(carry, rows_R, jnp.arange(ROWS) < within_E[-1], in_block_E)

    return jax.lax.fori_loop(0, -(-end_E[-1] // ROWS), turn, carry)


def mix(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first) -> jax.Array:
    """float32 [N, D]: weighted outputs of experts first .. first + E - 1, zeros of the others.

    Over a mesh all but `first` must vary over the same axes (jax.lax.pcast).
    """
    inputs = x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first
    return cast(jax.Array, _mixed(*inputs))


@jax.custom_vjp
def _mixed(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first):
    return _forward(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first)[0]


def _forward(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first):
    X = chosen_NX.shape[1]
    order_M, size_E = _order(chosen_NX, first, gate_EDF.shape[0])
    weight_M = weight_NX.reshape(-1)

    def body(out_ND, rows_R, is_row_R, size_E):
        token_R = rows_R // X
        weights = weight_M[rows_R], gate_EDF, up_EDF, down_EFD
        return out_ND.at[token_R].add(_block(x_ND[token_R], *weights, size_E))

    out_ND = _each(order_M, size_E, body, jnp.zeros_like(x_ND, jnp.float32))
    return out_ND, (x_ND, weight_NX, gate_EDF, up_EDF, down_EFD, order_M, size_E)


def _backward(kept, gradient_ND):
    x_ND, weight_NX, gate_EDF, up_EDF, down_EFD, order_M, size_E = kept
    X = weight_NX.shape[1]
    weight_M = weight_NX.reshape(-1)

    def body(carry, rows_R, is_row_R, size_E):
        of_x_ND, of_weight_M, *of_kernels = carry
        token_R = rows_R // X
        inputs = x_ND[token_R], weight_M[rows_R], gate_EDF, up_EDF, down_EFD
        _, transpose = jax.vjp(lambda *given: _block(*given, size_E=size_E), *inputs)
        of_x_RD, of_weight_R, *found = transpose(gradient_ND[token_R])
        of_x_RD = jnp.where(is_row_R[:, None], of_x_RD.astype(jnp.float32), 0.0)
        of_weight_R = jnp.where(is_row_R, of_weight_R, 0.0)
        kernels = [
            old + new.astype(jnp.float32) for old, new in zip(of_kernels, found, strict=True)
        ]
        return (
            of_x_ND.at[token_R].add(of_x_RD),
            of_weight_M.at[rows_R].add(of_weight_R),
            *kernels,
        )

    kernels = gate_EDF, up_EDF, down_EFD
    start = [jnp.zeros_like(x, jnp.float32) for x in (x_ND, weight_M, *kernels)]
    of_x_ND, of_weight_M, *found = _each(order_M, size_E, body, tuple(start))
    found = [new.astype(old.dtype) for new, old in zip(found, kernels, strict=True)]
    of_weight_NX = of_weight_M.reshape(weight_NX.shape)
    return of_x_ND.astype(x_ND.dtype), None, of_weight_NX, *found, None


_mixed.defvjp(_forward, _backward)
