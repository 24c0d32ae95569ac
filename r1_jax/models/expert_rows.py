"""Many tokens' experts, a block of one expert's rows at a time: memory for a block, time for rows.

Every choice of a token is a row. A device that is given the tokens of many may find none of their
choices with its own experts, or all: arrays for all would be eight times its tokens and more, most
of it empty. Here rows are sorted by their experts, and for one expert after the other a loop goes
over its rows in blocks, as far as there are any; what a block lacks of rows weighs nothing. The
backward pass goes over them again and sums an expert's gradient in float32. All products are plain
ones: libtpu 0.0.42 makes of the gradient of a ragged one a dense product of all rows for every
expert.
"""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

ROWS = (
    512  # a block's: enough that on a v5p its products outlast the reading of its expert's weights
)


def _order(chosen_NX, first: int | jax.Array, num_experts: int):
    """(row numbers [M + ROWS], sorted by expert; where each expert's begin, and end)."""
    expert_M = chosen_NX.reshape(-1) - first
    expert_M = jnp.where((expert_M >= 0) & (expert_M < num_experts), expert_M, num_experts)
    order_M = jnp.argsort(expert_M)
    here_ME = expert_M[:, None] == jnp.arange(num_experts)[None, :]
    size_E = jnp.sum(here_ME, axis=0, dtype=jnp.int32)
    end_E = jnp.cumsum(size_E)
    return jnp.pad(order_M, (0, ROWS)), end_E - size_E, end_E


def _hidden(x_RD, gate_DF, up_DF):
    return nn.silu(x_RD @ gate_DF) * (x_RD @ up_DF)


def _each(order_M, num_chosen: int, begin, end, body, carry):
    """carry after body(carry, rows_R, token_R) for every block of the rows begin .. end - 1.

    token_R: whose choices the rows are; an expert's rows are of different tokens. What a block
    lacks of rows is numbered beyond all rows and tokens, each number once.
    """
    num_rows = order_M.shape[0] - ROWS

    def turn(i, carry):
        start = begin + i * ROWS
        rows_R = jax.lax.dynamic_slice(order_M, (start,), (ROWS,))
        beyond_R = num_rows + num_chosen * jnp.arange(ROWS)
        rows_R = jnp.where(start + jnp.arange(ROWS) < end, rows_R, beyond_R)
        return body(carry, rows_R, rows_R // num_chosen)

    return jax.lax.fori_loop(0, -(-(end - begin) // ROWS), turn, carry)


def _take(x, index_R):
    """The rows of `x` that there are, zeros for others."""
    return x.at[index_R].get(mode="fill", fill_value=0)


def _add(x, index_R, new):
    """`x` with `new` added to the rows that there are, no row twice."""
    return x.at[index_R].add(new, mode="drop", unique_indices=True)


def mix(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first) -> jax.Array:
    """[N, D] in x's type: weighted outputs of experts first .. first + E - 1, summed in float32;
    zeros of the others.

    Over a mesh all but `first` must vary over the same axes (jax.lax.pcast).
    """
    inputs = x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first
    return cast(jax.Array, _mixed(*inputs))


@jax.custom_vjp
def _mixed(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first):
    return _forward(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first)[0]


def _forward(x_ND, chosen_NX, weight_NX, gate_EDF, up_EDF, down_EFD, first):
    order_M, begin_E, end_E = _order(chosen_NX, first, gate_EDF.shape[0])
    X, weight_M = chosen_NX.shape[1], weight_NX.reshape(-1)

    def expert(out_ND, of_expert):
        gate_DF, up_DF, down_FD, begin, end = of_expert

        def block(out_ND, rows_R, token_R):
            hidden_RF = _hidden(_take(x_ND, token_R), gate_DF, up_DF)
            y_RD = jnp.dot(hidden_RF, down_FD, preferred_element_type=jnp.float32)
            return _add(out_ND, token_R, y_RD * _take(weight_M, rows_R)[:, None])

        return _each(order_M, X, begin, end, block, out_ND), None

    kernels = gate_EDF, up_EDF, down_EFD
    nothing_ND = jnp.zeros_like(x_ND, jnp.float32)
    out_ND, _ = jax.lax.scan(expert, nothing_ND, (*kernels, begin_E, end_E))
    return out_ND.astype(x_ND.dtype), (x_ND, weight_NX, *kernels, order_M, begin_E, end_E)


def _backward(kept, gradient_ND):
    x_ND, weight_NX, gate_EDF, up_EDF, down_EFD, order_M, begin_E, end_E = kept
    X, weight_M = weight_NX.shape[1], weight_NX.reshape(-1)

    def expert(carry, of_expert):
        gate_DF, up_DF, down_FD, begin, end = of_expert

        def block(carry, rows_R, token_R):
            of_x_ND, of_weight_M, *of_kernels = carry
            inputs = _take(x_ND, token_R), gate_DF, up_DF
            hidden_RF, transpose = jax.vjp(_hidden, *inputs)
            weight_R1 = _take(weight_M, rows_R)[:, None]
            of_y_RD = _take(gradient_ND, token_R).astype(jnp.float32)
            unweighted_RF = jnp.einsum(
                "RD,FD->RF",
                of_y_RD.astype(x_ND.dtype),
                down_FD,
                preferred_element_type=jnp.float32,
            )
            of_weight_R = jnp.sum(unweighted_RF * hidden_RF.astype(jnp.float32), axis=1)
            of_down_FD = hidden_RF.T @ (of_y_RD * weight_R1).astype(x_ND.dtype)
            of_x_RD, *widening = transpose((unweighted_RF * weight_R1).astype(x_ND.dtype))
            found = *widening, of_down_FD
            return (
                _add(of_x_ND, token_R, of_x_RD.astype(jnp.float32)),
                _add(of_weight_M, rows_R, of_weight_R),
                *(
                    old + new.astype(jnp.float32)
                    for old, new in zip(of_kernels, found, strict=True)
                ),
            )

        kernels = gate_DF, up_DF, down_FD
        nothing = (jnp.zeros_like(x, jnp.float32) for x in kernels)
        *of_rows, of_gate_DF, of_up_DF, of_down_FD = _each(
            order_M, X, begin, end, block, (*carry, *nothing)
        )
        found = of_gate_DF, of_up_DF, of_down_FD
        return tuple(of_rows), tuple(x.astype(gate_DF.dtype) for x in found)

    nothing = tuple(jnp.zeros_like(x, jnp.float32) for x in (x_ND, weight_M))
    of_experts = gate_EDF, up_EDF, down_EFD, begin_E, end_E
    (of_x_ND, of_weight_M), of_kernels = jax.lax.scan(expert, nothing, of_experts)
    of_weight_NX = of_weight_M.reshape(weight_NX.shape)
    return of_x_ND.astype(x_ND.dtype), None, of_weight_NX, *of_kernels, None


_mixed.defvjp(_forward, _backward)
