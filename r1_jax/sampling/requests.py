"""The completions of a batch: whose they are, with which noise; and how they become Rollouts."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from r1_jax.core import types
from r1_jax.sharding import place

NONE = -1  # a slot's request when it works on none; a row's stop when no stop token was drawn


@dataclasses.dataclass(frozen=True)
class Requests:
    """P * group_size completions, prompt by prompt."""

    batch: types.PromptBatch
    group_size: int
    key: jax.Array  # typed, the step's own

    @property
    def num(self) -> int:
        return self.batch.tokens_PT.shape[0] * self.group_size

    @property
    def prompt_of_request(self) -> jax.Array:
        return jnp.arange(self.num) // self.group_size

    @property
    def sample_of_request(self) -> jax.Array:
        return jnp.arange(self.num) % self.group_size

    @property
    def uid_of_request(self) -> jax.Array:
        return self.batch.uid_P[self.prompt_of_request]

    def limit(self, limit: jax.Array, request_B: jax.Array) -> jax.Array:
        """The tokens that the completions a slot each works on may take: one limit for all, or
        `limit` [num] has one for each completion."""
        return limit[jnp.maximum(request_B, 0)] if jnp.ndim(limit) else limit

    def keys(self) -> jax.Array:
        """A key a request: a function of (key, prompt uid, sample index) alone."""
        of_prompt = jax.vmap(partial(jax.random.fold_in, self.key))(self.uid_of_request)
        return jax.vmap(jax.random.fold_in)(of_prompt, self.sample_of_request)


def uniform(key_B: jax.Array, index_B: jax.Array) -> jax.Array:
    """float32 [B] in [0, 1): the noise of token index_B of each request."""
    draw = jax.vmap(partial(jax.random.uniform, dtype=jnp.float32))
    return draw(jax.vmap(jax.random.fold_in)(key_B, index_B))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Done:
    """The finished completions, a row a request."""

    tokens_BR: jax.Array  # int32
    logps_BR: jax.Array  # float32
    length_B: jax.Array  # int32
    stop_B: jax.Array  # int32
    chosen_BRLX: jax.Array | None  # int16, where routing is kept


def none_done(num: int, max_response: int, pad_id: int, chosen_PTLX: jax.Array | None) -> Done:
    """Rows in which nothing is written yet. chosen_PTLX: of the prompts, where routing is kept."""
    return Done(
        jnp.full((num, max_response), pad_id, jnp.int32),
        jnp.zeros((num, max_response), jnp.float32),
        jnp.zeros(num, jnp.int32),
        jnp.full(num, NONE, jnp.int32),
        None
        if chosen_PTLX is None
        else jnp.zeros((num, max_response, *chosen_PTLX.shape[2:]), jnp.int16),
    )


def collected(done: Done, row_B: jax.Array, found: Done) -> Done:
    """`done` with rows row_B those of `found`; a row out of range is dropped.

    Its rows are split over the batch's axes: whole, on every device, they would be half a gigabyte
    of 8,192 completions of as many tokens, and 58 of the experts that 1,024 of DeepSeek-V3's chose.
    """
    return split(jax.tree.map(lambda to, x: _collected(to, row_B, x), done, found))


EXCHANGED = 2**28  # bytes of all slots that are on every device at one time


def _collected(to: jax.Array, row_B: jax.Array, x: jax.Array) -> jax.Array:
    """to.at[row_B].set(x), some positions of the second axis after the other."""
    if x.nbytes <= EXCHANGED:
        return to.at[row_B].set(x, mode="drop")
    num_positions = x.shape[1]
    size = max(1, num_positions * EXCHANGED // x.nbytes)

    def set_piece(i, to):
        start = jnp.minimum(i * size, num_positions - size)  # the last may do some a second time
        held, new = (jax.lax.dynamic_slice_in_dim(a, start, size, 1) for a in (to, x))
        held = held.at[row_B].set(new, mode="drop")
        return jax.lax.dynamic_update_slice_in_dim(to, held, start, 1)

    return jax.lax.fori_loop(0, -(-num_positions // size), set_piece, to)


def split(done: Done) -> Done:
    """`done` laid out with its rows over the batch's axes."""
    return jax.tree.map(lambda x: place.constrain(x, "batch", *(None,) * (x.ndim - 1)), done)


def rollouts(
    requests: Requests,
    done: Done,
    chosen_PTLX: jax.Array | None,
    *,
    pad_id: int,
    policy_step: jax.Array,
    slot_steps: jax.Array,
) -> types.Rollouts:
    """Prompt, response, padding: one contiguous row each, T = prompt capacity + max_response."""
    batch, prompt_of_request = requests.batch, requests.prompt_of_request
    max_response = done.tokens_BR.shape[1]
    prompt_length_B = batch.length_P[prompt_of_request]
    position_T = jnp.arange(batch.tokens_PT.shape[1] + max_response)
    offset_BT = position_T[None, :] - prompt_length_B[:, None]
    index_BT = jnp.clip(offset_BT, 0, max_response - 1)
    is_response_BT = (offset_BT >= 0) & (offset_BT < done.length_B[:, None])
    prompt_BT = jnp.pad(
        batch.tokens_PT[prompt_of_request], ((0, 0), (0, max_response)), constant_values=pad_id
    )
    outside_BT = jnp.where(offset_BT < 0, prompt_BT, pad_id)
    tokens_BT = jnp.take_along_axis(done.tokens_BR, index_BT, axis=1)
    logps_BT = jnp.take_along_axis(done.logps_BR, index_BT, axis=1)
    chosen_BTLX = None
    if chosen_PTLX is not None:
        assert done.chosen_BRLX is not None
        # Prompt positions of the prefill, the other ones of decoding, or anything on padding.
        of_prompt_BTLX = jnp.pad(
            chosen_PTLX[prompt_of_request], ((0, 0), (0, max_response), (0, 0), (0, 0))
        )
        of_response_BTLX = jnp.take_along_axis(done.chosen_BRLX, index_BT[:, :, None, None], axis=1)
        chosen_BTLX = jnp.where(is_response_BT[:, :, None, None], of_response_BTLX, of_prompt_BTLX)
    return types.Rollouts(
        tokens_BT=jnp.where(is_response_BT, tokens_BT, outside_BT),
        prompt_length_B=prompt_length_B,
        length_B=done.length_B,
        logps_BT=jnp.where(is_response_BT, logps_BT, 0.0),
        stop_B=done.stop_B,
        uid_B=requests.uid_of_request,
        sample_B=requests.sample_of_request,
        policy_step=jnp.asarray(policy_step, jnp.int32),
        slot_steps=slot_steps,
        chosen_BTLX=chosen_BTLX,
    )
