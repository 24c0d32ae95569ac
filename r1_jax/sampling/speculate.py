"""Self-speculative decoding: the layer of multi-token prediction guesses, the decoder decides.

A step draws token m from the decoder's distribution, as always; lets the layer of prediction guess
token m + 1, and reads both in at once. Then token m + 1 is drawn from the decoder's distribution,
too, with the noise that is token m + 1's own. Where that is the guess, what was read in is right,
and the step has yielded two tokens; where not, the guess is forgotten and the next step draws the
same token m + 1 again. So every token is drawn from the same distribution with the same noise as
without guessing: the completions are the same, token for token, and so are their log-probs, up to
rounding. A guess is drawn with its token's noise, which makes it right more often than noise of its
own would. Rejection sampling (arXiv:2211.17192) accepts a little more often still, but what it
draws depends on the guesser as well.

Rows grow by one token or two, so a ring slot is not a position here: every step writes two slots in
all rows, and each row remembers which of its slots hold tokens.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from r1_jax.core import types
from r1_jax.models import cache as kv_cache
from r1_jax.models import config as model_config
from r1_jax.models import heads, mtp, transformer
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sampling import requests as of_requests
from r1_jax.sharding import place

IDLE = of_requests.NONE


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Slots:
    """What the decode loop carries: one entry a slot, plus scalars. S = 2 max_response."""

    cache: kv_cache.KVCache
    valid_BS: jax.Array  # bool: ring slots that hold a token of the row
    ahead: kv_cache.KVCache  # the layer of prediction's, one layer
    ahead_valid_BS: jax.Array
    hidden_BD: jax.Array  # what the next token is drawn from
    behind_BD: jax.Array  # the hidden state before it, which `ahead` has not read where `is_behind`
    behind_token_B: jax.Array  # int32: the token that goes with it
    is_behind_B: jax.Array  # bool
    request_B: jax.Array  # int32: the completion a slot works on, or IDLE
    active_B: jax.Array  # bool
    done: of_requests.Done  # of the completion a slot works on
    steps: jax.Array  # int32 scalar
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
    """generate of generate.make_generate, for a model with mtp_layers=1; slot_steps counts two
    tokens a step."""
    if not model.mtp_layers:
        raise ValueError(
            "sampling.speculative needs the layer that guesses: a model with mtp_layers=1"
        )
    num_ring = 2 * max_response

    def generate(params, batch: types.PromptBatch, key, policy_step, limit) -> types.Rollouts:
        prompt_capacity = batch.tokens_PT.shape[1]
        requests = of_requests.Requests(batch, group_size, key)
        num_slots = min(sampling.num_slots or requests.num, requests.num)
        enough_idle = max(1, int(num_slots * sampling.refill_share))
        key_of_request = requests.keys()
        kernel = heads.kernel(model, params)
        blocks = transformer.unstack(model, params)

        hidden_PTD, kv, routed = transformer.routed_forward(
            model, params, batch.tokens_PT, collect=True
        )
        position_PT = jnp.broadcast_to(jnp.arange(prompt_capacity)[None], batch.tokens_PT.shape)
        following_PT = jnp.roll(batch.tokens_PT, -1, axis=1)  # a prompt's last has none yet
        _, ahead_kv, _ = mtp.forward(
            model,
            params["mtp"],
            hidden_PTD,
            transformer.embed(model, params, following_PT),
            position_PT,
            None,
            position_PT >= 0,
        )
        ahead_kv = jax.tree.map(lambda x: x[None], ahead_kv)
        prompt, ahead_prompt = (
            kv_cache.from_prefill(one, kind=sampling.cache) for one in (kv, ahead_kv)
        )
        last_P11 = (batch.length_P - 1)[:, None, None]
        first_hidden_PD = jnp.take_along_axis(hidden_PTD, last_P11, axis=1)[:, 0]
        chosen_PTLX = None
        if keep_routing:
            assert routed is not None
            chosen_PTLX = routed.chosen_BTX.transpose(1, 2, 0, 3).astype(jnp.int16)

        def fill(slots: _Slots) -> _Slots:
            """Hands waiting completions to idle slots, in order."""
            idle_B = ~slots.active_B
            candidate_B = slots.next_request + jnp.cumsum(idle_B) - 1
            fresh_B = idle_B & (candidate_B < requests.num)
            request_B = jnp.where(fresh_B, candidate_B, IDLE)
            source_B = requests.prompt_of_request[jnp.maximum(request_B, 0)]
            lengths = batch.length_P, batch.length_P - 1
            cache, ahead = (
                kv_cache.fill(old, fresh_B, source_B, prompt_k, prompt_v, length_P)
                for old, (prompt_k, prompt_v), length_P in zip(
                    (slots.cache, slots.ahead), (prompt, ahead_prompt), lengths, strict=True
                )
            )
            return dataclasses.replace(
                slots,
                cache=cache,
                ahead=ahead,
                valid_BS=slots.valid_BS & ~fresh_B[:, None],
                ahead_valid_BS=slots.ahead_valid_BS & ~fresh_B[:, None],
                hidden_BD=jnp.where(fresh_B[:, None], first_hidden_PD[source_B], slots.hidden_BD),
                is_behind_B=slots.is_behind_B & ~fresh_B,
                request_B=jnp.where(fresh_B, request_B, slots.request_B),
                active_B=slots.active_B | fresh_B,
                done=dataclasses.replace(
                    slots.done,
                    length_B=jnp.where(fresh_B, 0, slots.done.length_B),
                    stop_B=jnp.where(fresh_B, IDLE, slots.done.stop_B),
                ),
                next_request=slots.next_request + jnp.sum(fresh_B),
            )

        def draw(hidden_BD, key_B, index_B):
            logits_BV = heads.logits(hidden_BD, kernel)
            logits_BV = place.constrain(logits_BV, "batch", "act_vocab")
            logits_BV = sampling_logits.adjust(sampling, logits_BV)
            return sampling_logits.draw(logits_BV, of_requests.uniform(key_B, index_B))

        def is_stop(token_B):
            return jnp.isin(token_B, jnp.array(stop_ids))

        def write(done: of_requests.Done, where_B, token_B, logp_B, chosen_BLX) -> of_requests.Done:
            """Appends a token to the rows of where_B."""
            row_B = jnp.arange(num_slots)
            index_B = jnp.where(where_B, done.length_B, max_response)  # out of range: dropped

            def put(to_BR, x_B):
                return to_BR.at[row_B, index_B].set(x_B, mode="drop")

            chosen_BRLX = done.chosen_BRLX
            return of_requests.Done(
                put(done.tokens_BR, token_B),
                put(done.logps_BR, logp_B),
                done.length_B + where_B,
                jnp.where(where_B & is_stop(token_B), token_B, done.stop_B),
                None if chosen_BRLX is None else put(chosen_BRLX, chosen_BLX),
            )

        def decode(slots: _Slots) -> _Slots:
            """Draws a token in every active slot, and a second one where it was guessed."""
            done, active_B = slots.done, slots.active_B
            key_B = key_of_request[jnp.maximum(slots.request_B, 0)]
            column = 2 * slots.steps % num_ring
            slot_S = jnp.arange(num_ring)
            first_1S, second_1S = slot_S[None] == column, slot_S[None] == column + 1
            token_B, logp_B = draw(slots.hidden_BD, key_B, done.length_B)

            # The guess; the layer that guesses first catches up.
            base_B = slots.cache.prefix_length_B + slots.cache.age_B
            read_B2 = jnp.stack([slots.behind_token_B, token_B], axis=1)
            is_behind_B1 = slots.is_behind_B[:, None]
            old_BS = slots.ahead_valid_BS & ~first_1S & ~second_1S
            seen_B2S = jnp.stack(
                [old_BS | first_1S, old_BS | (first_1S & is_behind_B1) | second_1S], axis=1
            )
            ahead_B2D, ahead = mtp.steps(
                model,
                params["mtp"],
                jnp.stack([slots.behind_BD, slots.hidden_BD], axis=1),
                transformer.embed(model, params, read_B2),
                base_B[:, None] + jnp.arange(-2, 0)[None],
                slots.ahead,
                column,
                seen_B2S,
            )
            guess_B, _ = draw(ahead_B2D[:, 1], key_B, done.length_B + 1)

            # Both are read in; the second is right where it would have been drawn.
            is_real_BS = slots.valid_BS & ~first_1S & ~second_1S
            both_B2S = jnp.stack([is_real_BS | first_1S, is_real_BS | first_1S | second_1S], axis=1)
            pair_B2 = jnp.stack([token_B, guess_B], axis=1)
            hidden_B2D, cache, chosen_LB2X = transformer.routed_steps(
                model, params, blocks, pair_B2, slots.cache, column, both_B2S
            )
            second_B, second_logp_B = draw(hidden_B2D[:, 0], key_B, done.length_B + 1)
            chosen = None, None
            if done.chosen_BRLX is not None:
                assert chosen_LB2X is not None
                chosen_2BLX = chosen_LB2X.transpose(2, 1, 0, 3).astype(jnp.int16)
                chosen = chosen_2BLX[0], chosen_2BLX[1]
            done = write(done, active_B, token_B, logp_B, chosen[0])
            limit_B = requests.limit(limit, slots.request_B)
            goes_on_B = active_B & ~is_stop(token_B) & (done.length_B < limit_B)
            is_right_B = goes_on_B & (second_B == guess_B)
            done = write(done, is_right_B, second_B, second_logp_B, chosen[1])
            ends_B = is_right_B & (is_stop(second_B) | (done.length_B >= limit_B))
            is_right_B1 = is_right_B[:, None]
            return dataclasses.replace(
                slots,
                cache=dataclasses.replace(cache, age_B=cache.age_B + active_B + is_right_B),
                valid_BS=is_real_BS | first_1S | (second_1S & is_right_B1),
                ahead=ahead,
                ahead_valid_BS=old_BS | (first_1S & is_behind_B1) | second_1S,
                hidden_BD=jnp.where(is_right_B1, hidden_B2D[:, 1], hidden_B2D[:, 0]),
                behind_BD=hidden_B2D[:, 0],
                behind_token_B=second_B,
                is_behind_B=is_right_B,
                active_B=goes_on_B & ~ends_B,
                done=done,
                steps=slots.steps + 1,
            )

        def keep_decoding(slots: _Slots) -> jax.Array:
            waiting = slots.next_request < requests.num
            enough = jnp.sum(~slots.active_B) >= enough_idle
            return jnp.any(slots.active_B) & ~(waiting & enough)

        def serve(carry):
            slots, done = carry
            slots = jax.lax.while_loop(keep_decoding, decode, fill(slots))
            finished_B = (slots.request_B != IDLE) & ~slots.active_B
            row_B = jnp.where(finished_B, slots.request_B, requests.num)  # out of range: dropped
            done = of_requests.collected(done, row_B, slots.done)
            request_B = jnp.where(finished_B, IDLE, slots.request_B)
            return dataclasses.replace(slots, request_B=request_B), done

        def unserved(carry):
            slots, _ = carry
            return (slots.next_request < requests.num) | jnp.any(slots.active_B)

        none_BD = jnp.zeros((num_slots, model.embed_dim), first_hidden_PD.dtype)
        none_BS = jnp.zeros((num_slots, num_ring), bool)
        none_B = jnp.zeros(num_slots, bool)
        slots = _Slots(
            cache=kv_cache.allocate(
                model, num_slots, prompt_capacity, num_ring, kind=sampling.cache
            ),
            valid_BS=none_BS,
            ahead=kv_cache.allocate(
                model, num_slots, prompt_capacity, num_ring, 1, kind=sampling.cache
            ),
            ahead_valid_BS=none_BS,
            hidden_BD=none_BD,
            behind_BD=none_BD,
            behind_token_B=jnp.zeros(num_slots, jnp.int32),
            is_behind_B=none_B,
            request_B=jnp.full(num_slots, IDLE, jnp.int32),
            active_B=none_B,
            done=of_requests.none_done(num_slots, max_response, pad_id, chosen_PTLX),
            steps=jnp.int32(0),
            next_request=jnp.int32(0),
        )
        done = of_requests.split(
            of_requests.none_done(requests.num, max_response, pad_id, chosen_PTLX)
        )
        slots, done = jax.lax.while_loop(unserved, serve, (slots, done))
        return of_requests.rollouts(
            requests,
            done,
            chosen_PTLX,
            pad_id=pad_id,
            policy_step=policy_step,
            slot_steps=2 * slots.steps * num_slots,
        )

    return generate
