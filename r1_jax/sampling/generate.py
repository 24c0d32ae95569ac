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

import jax
import jax.numpy as jnp

from r1_jax.core import types
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config
from r1_jax.models import heads, transformer
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sampling import requests as of_requests
from r1_jax.sampling import speculate
from r1_jax.sharding import place

IDLE = of_requests.NONE


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
    chosen_BSLX: jax.Array | None  # int16, by ring slot: the experts that read the token
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
    keep_routing: bool = False,
) -> Callable[..., types.Rollouts]:
    """generate(params, batch, key, policy_step, limit) -> Rollouts of P * group_size completions.

    max_response: tokens a completion may take, its capacity in the cache; limit: int32, at most
    max_response, may change without a new compilation; a scalar, or [P * group_size] with a limit
    for each completion. batch: PromptBatch. key: typed, the step's own. Rows come back with
    T = prompt capacity + max_response. keep_routing: with the experts that every token chose
    (Rollouts.chosen_BTLX), of a model that has some. With sampling.speculative it is `speculate`
    that decodes: the same completions, in fewer steps.
    """
    if keep_routing and model.experts is None:
        raise ValueError("keep_routing has nothing to keep: the model has no experts")
    if sampling.speculative:
        return speculate.make_generate(
            model,
            sampling,
            group_size=group_size,
            max_response=max_response,
            stop_ids=stop_ids,
            pad_id=pad_id,
            keep_routing=keep_routing,
        )

    def generate(params, batch: types.PromptBatch, key, policy_step, limit) -> types.Rollouts:
        prompt_capacity = batch.tokens_PT.shape[1]
        requests = of_requests.Requests(batch, group_size, key)
        num_requests = requests.num
        num_slots = min(sampling.num_slots or num_requests, num_requests)
        enough_idle = max(1, int(num_slots * sampling.refill_share))
        prompt_of_request = requests.prompt_of_request

        hidden_PTD, kv, routed = transformer.routed_forward(
            model, params, batch.tokens_PT, collect=True
        )
        chosen_PTLX = None
        if keep_routing:
            assert routed is not None
            chosen_PTLX = routed.chosen_BTX.transpose(1, 2, 0, 3).astype(jnp.int16)
        prompt_k, prompt_v = kv_cache.from_prefill(kv, kind=sampling.cache)
        last_P = batch.length_P - 1
        first_hidden_PD = jnp.take_along_axis(hidden_PTD, last_P[:, None, None], axis=1)[:, 0]
        kernel = heads.kernel(model, params)
        blocks = transformer.unstack(model, params)

        key_of_request = requests.keys()

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
            logits_BV = heads.logits(slots.hidden_BD, kernel)
            logits_BV = place.constrain(logits_BV, "batch", "act_vocab")
            logits_BV = sampling_logits.adjust(sampling, logits_BV)
            key_B = key_of_request[jnp.maximum(slots.request_B, 0)]
            uniform_B = of_requests.uniform(key_B, slots.length_B)
            token_B, logp_B = sampling_logits.draw(logits_BV, uniform_B)

            column = slots.slot % max_response

            def write(buffer_BS, value_B):
                # A finished row keeps its tokens until they are collected.
                old_B1 = jax.lax.dynamic_slice_in_dim(buffer_BS, column, 1, axis=1)
                active_B1 = slots.active_B.reshape(-1, *(1,) * (buffer_BS.ndim - 1))
                new_B1 = jnp.where(active_B1, value_B[:, None], old_B1)
                return jax.lax.dynamic_update_slice_in_dim(buffer_BS, new_B1, column, axis=1)

            is_stop_B = jnp.isin(token_B, jnp.array(stop_ids)) & slots.active_B
            length_B = slots.length_B + slots.active_B
            limit_B = requests.limit(limit, slots.request_B)
            active_B = slots.active_B & ~is_stop_B & (length_B < limit_B)
            hidden_BD, cache, chosen_LBX = transformer.routed_step(
                model, params, blocks, token_B, slots.cache, column
            )
            chosen_BSLX = slots.chosen_BSLX
            if chosen_BSLX is not None:
                assert chosen_LBX is not None
                chosen_BLX = chosen_LBX.swapaxes(0, 1).astype(jnp.int16)
                chosen_BSLX = write(chosen_BSLX, chosen_BLX)
            return dataclasses.replace(
                slots,
                cache=cache,
                hidden_BD=hidden_BD,
                active_B=active_B,
                length_B=length_B,
                stop_B=jnp.where(is_stop_B, token_B, slots.stop_B),
                tokens_BS=write(slots.tokens_BS, token_B),
                logps_BS=write(slots.logps_BS, logp_B),
                chosen_BSLX=chosen_BSLX,
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
            chosen_BRLX = slots.chosen_BSLX
            if chosen_BRLX is not None:
                chosen_BRLX = jnp.take_along_axis(chosen_BRLX, order_BS[:, :, None, None], axis=1)
            found = of_requests.Done(
                jnp.take_along_axis(slots.tokens_BS, order_BS, axis=1),
                jnp.take_along_axis(slots.logps_BS, order_BS, axis=1),
                slots.length_B,
                slots.stop_B,
                chosen_BRLX,
            )
            done = of_requests.collected(done, row_B, found)
            request_B = jnp.where(finished_B, IDLE, slots.request_B)
            return dataclasses.replace(slots, request_B=request_B), done

        def serve(carry):
            slots, done = carry
            return collect(jax.lax.while_loop(keep_decoding, decode, fill(slots)), done)

        def unserved(carry):
            slots, _ = carry
            return (slots.next_request < num_requests) | jnp.any(slots.active_B)

        none_B = jnp.full(num_slots, IDLE, jnp.int32)
        empty = of_requests.none_done(num_slots, max_response, pad_id, chosen_PTLX)
        is_once = num_slots == num_requests  # slot b works on completion b, groups side by side
        cache = kv_cache.allocate(
            model,
            num_slots,
            0 if is_once else prompt_capacity,
            max_response,
            kind=sampling.cache,
            in_pieces=is_once,
        )
        if is_once:
            cache = dataclasses.replace(cache, prefix_k=prompt_k, prefix_v=prompt_v)
        slots = _Slots(
            cache=cache,
            hidden_BD=jnp.zeros((num_slots, model.embed_dim), first_hidden_PD.dtype),
            request_B=none_B,
            active_B=jnp.zeros(num_slots, bool),
            start_B=jnp.zeros(num_slots, jnp.int32),
            length_B=jnp.zeros(num_slots, jnp.int32),
            stop_B=none_B,
            tokens_BS=empty.tokens_BR,
            logps_BS=empty.logps_BR,
            chosen_BSLX=empty.chosen_BRLX,
            slot=jnp.int32(0),
            next_request=jnp.int32(0),
        )
        done = of_requests.split(
            of_requests.none_done(num_requests, max_response, pad_id, chosen_PTLX)
        )
        slots, done = jax.lax.while_loop(unserved, serve, (slots, done))
        return of_requests.rollouts(
            requests,
            done,
            chosen_PTLX,
            pad_id=pad_id,
            policy_step=policy_step,
            slot_steps=slots.slot * num_slots,
        )

    return generate
