"""Prefill and decoding as one traced function: prompts in, Rollouts out.

A prompt is prefilled once, whatever the number of its completions. Decoding is a `while_loop` over
`num_slots` rows. When there are more completions than slots, finished rows are handed to the next
waiting completions: an outer loop refills, an inner loop decodes until enough rows stand idle, so
no branch and no copy of the cache is paid per token. Token t of a completion is drawn with noise
that is a function of (key, prompt uid, sample index, t) alone: not of its slot, the batch or the
number of devices.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from r1_jax.core import types
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config
from r1_jax.models import heads, transformer
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import place

IDLE = -1  # a slot's request when it works on none; a row's stop when no stop token was drawn


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Slots:
    """What the decode loop carries: one entry a slot, plus scalars."""

    cache: kv_cache.KVCache
    hidden_BD: jax.Array  # what the next token is drawn from
    request_B: jax.Array  # int32: the completion a slot works on, or IDLE
    active_B: jax.Array  # bool
    start_B: jax.Array  # int32: ring slot of the completion's first token
    length_B: jax.Array  # int32: tokens drawn so far
    stop_B: jax.Array  # int32: stop token drawn, or IDLE
    tokens_BS: jax.Array  # int32, by ring slot
    logps_BS: jax.Array  # float32, by ring slot
    slot: jax.Array  # int32 scalar: steps so far; modulo the ring's size, the slot written next
    next_request: jax.Array  # int32 scalar: the first completion not yet handed to a slot


def make_generate(
    model: model_config.ModelConfig,
    sampling: sampling_logits.SamplingConfig,
    *,
    group_size: int,
    max_response: int,
    stop_ids: tuple[int, ...],
    pad_id: int,
) -> Callable[..., types.Rollouts]:
    """generate(params, batch, key, policy_step, limit) -> Rollouts of P * group_size completions.

    max_response: tokens a completion may take, its capacity in the cache; limit: int32 scalar, at
    most max_response, may change without a new compilation. batch: PromptBatch. key: typed, the
    step's own. Rows come back with T = prompt capacity + max_response.
    """

    def generate(params, batch: types.PromptBatch, key, policy_step, limit) -> types.Rollouts:
        num_prompts, prompt_capacity = batch.tokens_PT.shape
        num_requests = num_prompts * group_size
        num_slots = min(sampling.num_slots or num_requests, num_requests)
        enough_idle = max(1, int(num_slots * sampling.refill_share))
        prompt_of_request = jnp.arange(num_requests) // group_size
        uid_of_request = batch.uid_P[prompt_of_request]
        sample_of_request = jnp.arange(num_requests) % group_size

        hidden_PTD, kv = transformer.forward(model, params, batch.tokens_PT, collect=True)
        prompt_k, prompt_v = kv_cache.from_prefill(kv)
        last_P = batch.length_P - 1
        first_hidden_PD = jnp.take_along_axis(hidden_PTD, last_P[:, None, None], axis=1)[:, 0]
        kernel_DV = heads.kernel(model, params)
        blocks = transformer.unstack(model, params)

        fold_in = jax.vmap(jax.random.fold_in)
        of_prompt = jax.vmap(partial(jax.random.fold_in, key))(uid_of_request)
        key_of_request = fold_in(of_prompt, sample_of_request)

        def fill(slots: _Slots) -> _Slots:
            """Hands waiting completions to idle slots, in order."""
            idle_B = ~slots.active_B
            candidate_B = slots.next_request + jnp.cumsum(idle_B) - 1
            fresh_B = idle_B & (candidate_B < num_requests)
            request_B = jnp.where(fresh_B, candidate_B, IDLE)
            source_B = prompt_of_request[jnp.maximum(request_B, 0)]
            cache = kv_cache.fill(
                slots.cache, fresh_B, source_B, prompt_k, prompt_v, batch.length_P
            )
            return dataclasses.replace(
                slots,
                cache=cache,
                hidden_BD=jnp.where(fresh_B[:, None], first_hidden_PD[source_B], slots.hidden_BD),
                request_B=jnp.where(fresh_B, request_B, slots.request_B),
                active_B=slots.active_B | fresh_B,
                start_B=jnp.where(fresh_B, slots.slot % max_response, slots.start_B),
                length_B=jnp.where(fresh_B, 0, slots.length_B),
                stop_B=jnp.where(fresh_B, IDLE, slots.stop_B),
                next_request=slots.next_request + jnp.sum(fresh_B),
            )

        def decode(slots: _Slots) -> _Slots:
            """Draws a token in every active slot and reads it in."""
            logits_BV = heads.logits(slots.hidden_BD, kernel_DV)
            logits_BV = place.constrain(logits_BV, "batch", "act_vocab")
            logits_BV = sampling_logits.adjust(sampling, logits_BV)
            key_B = key_of_request[jnp.maximum(slots.request_B, 0)]
            draw_uniform = jax.vmap(partial(jax.random.uniform, dtype=jnp.float32))
            uniform_B = draw_uniform(fold_in(key_B, slots.length_B))
            token_B, logp_B = sampling_logits.draw(logits_BV, uniform_B)

            column = slots.slot % max_response

            def write(buffer_BS, value_B):
                # A finished row keeps its tokens until they are collected.
                old_B1 = jax.lax.dynamic_slice_in_dim(buffer_BS, column, 1, axis=1)
                new_B1 = jnp.where(slots.active_B[:, None], value_B[:, None], old_B1)
                return jax.lax.dynamic_update_slice_in_dim(buffer_BS, new_B1, column, axis=1)

            is_stop_B = jnp.isin(token_B, jnp.array(stop_ids)) & slots.active_B
            length_B = slots.length_B + slots.active_B
            active_B = slots.active_B & ~is_stop_B & (length_B < limit)
            hidden_BD, cache = transformer.step(model, params, blocks, token_B, slots.cache, column)
            return dataclasses.replace(
                slots,
                cache=cache,
                hidden_BD=hidden_BD,
                active_B=active_B,
                length_B=length_B,
                stop_B=jnp.where(is_stop_B, token_B, slots.stop_B),
                tokens_BS=write(slots.tokens_BS, token_B),
                logps_BS=write(slots.logps_BS, logp_B),
                slot=slots.slot + 1,
            )

        def keep_decoding(slots: _Slots) -> jax.Array:
            waiting = slots.next_request < num_requests
            enough = jnp.sum(~slots.active_B) >= enough_idle
            return jnp.any(slots.active_B) & ~(waiting & enough)

        def collect(slots: _Slots, done):
            """Moves finished completions from ring order to their own rows; frees the slots."""
            finished_B = (slots.request_B != IDLE) & ~slots.active_B
            row_B = jnp.where(finished_B, slots.request_B, num_requests)  # out of range: dropped
            order_BS = (slots.start_B[:, None] + jnp.arange(max_response)[None, :]) % max_response
            found = (
                jnp.take_along_axis(slots.tokens_BS, order_BS, axis=1),
                jnp.take_along_axis(slots.logps_BS, order_BS, axis=1),
                slots.length_B,
                slots.stop_B,
            )
            done = jax.tree.map(lambda to, x: to.at[row_B].set(x, mode="drop"), done, found)
            request_B = jnp.where(finished_B, IDLE, slots.request_B)
            return dataclasses.replace(slots, request_B=request_B), done

        def serve(carry):
            slots, done = carry
            return collect(jax.lax.while_loop(keep_decoding, decode, fill(slots)), done)

        def unserved(carry):
            slots, _ = carry
            return (slots.next_request < num_requests) | jnp.any(slots.active_B)

        none_B = jnp.full(num_slots, IDLE, jnp.int32)
        slots = _Slots(
            cache=kv_cache.allocate(model, num_slots, prompt_capacity, max_response),
            hidden_BD=jnp.zeros((num_slots, model.embed_dim), first_hidden_PD.dtype),
            request_B=none_B,
            active_B=jnp.zeros(num_slots, bool),
            start_B=jnp.zeros(num_slots, jnp.int32),
            length_B=jnp.zeros(num_slots, jnp.int32),
            stop_B=none_B,
            tokens_BS=jnp.full((num_slots, max_response), pad_id, jnp.int32),
            logps_BS=jnp.zeros((num_slots, max_response), jnp.float32),
            slot=jnp.int32(0),
            next_request=jnp.int32(0),
        )
        done = (
            jnp.full((num_requests, max_response), pad_id, jnp.int32),
            jnp.zeros((num_requests, max_response), jnp.float32),
            jnp.zeros(num_requests, jnp.int32),
            jnp.full(num_requests, IDLE, jnp.int32),
        )
        slots, done = jax.lax.while_loop(unserved, serve, (slots, done))
        response_BR, response_logps_BR, length_B, stop_B = done

        # Prompt, response, padding: one contiguous row each.
        prompt_length_B = batch.length_P[prompt_of_request]
        position_T = jnp.arange(prompt_capacity + max_response)
        offset_BT = position_T[None, :] - prompt_length_B[:, None]
        index_BT = jnp.clip(offset_BT, 0, max_response - 1)
        is_response_BT = (offset_BT >= 0) & (offset_BT < length_B[:, None])
        prompt_BT = jnp.pad(
            batch.tokens_PT[prompt_of_request], ((0, 0), (0, max_response)), constant_values=pad_id
        )
        outside_BT = jnp.where(offset_BT < 0, prompt_BT, pad_id)
        tokens_BT = jnp.take_along_axis(response_BR, index_BT, axis=1)
        logps_BT = jnp.take_along_axis(response_logps_BR, index_BT, axis=1)
        return types.Rollouts(
            tokens_BT=jnp.where(is_response_BT, tokens_BT, outside_BT),
            prompt_length_B=prompt_length_B,
            length_B=length_B,
            logps_BT=jnp.where(is_response_BT, logps_BT, 0.0),
            stop_B=stop_B,
            uid_B=uid_of_request,
            sample_B=sample_of_request,
            policy_step=jnp.asarray(policy_step, jnp.int32),
            slot_steps=slots.slot * num_slots,
        )

    return generate
