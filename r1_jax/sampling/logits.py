"""From logits to the distribution that is sampled, and from one uniform number to a token."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

MASKED = -1e30  # finite: its probability is exactly 0 and nothing becomes NaN
_NUM_BITS = 30  # of a float32 in [0, 1]


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn. Off: top_k=0, top_p=1, min_p=0. temperature=0 is greedy.

    `num_slots` rows decode at one time, 0 for all at once; fewer than there are completions means
    that a finished row is refilled from the queue inside the loop. `refill_share` of the slots
    must stand idle before a refill. `speculative`: the model's layer of multi-token prediction
    guesses a token ahead, and a step that finds the guess right yields two (sampling/speculate.py).

    These change results beyond float tolerance, in evaluations too, and need grpo.importance_cap:
    `weights`: linear layers in 8 bits (models/quantised); `cache`: keys and values in 8 bits. They
    are for accelerators, whose decoding is bound by reading both; on a CPU it is slower. Log-probs
    are those of what sampled, as ever.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    num_slots: int = 0
    refill_share: float = 0.0625
    speculative: bool = False
    weights: Literal["float", "int8", "fp8"] = "float"
    cache: Literal["float", "int8"] = "float"

    def __post_init__(self):
        if not self.temperature >= 0:
            raise ValueError(f"temperature={self.temperature} must be 0 (greedy) or above")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must lie in (0, 1]; 1 switches it off")
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p={self.min_p} must lie in [0, 1); 0 switches it off")
        if self.top_k < 0 or self.num_slots < 0:
            raise ValueError(
                f"top_k={self.top_k} and num_slots={self.num_slots} cannot be negative"
            )
        if not 0 < self.refill_share <= 1:
            raise ValueError(f"refill_share={self.refill_share} must lie in (0, 1]")


def adjust(config: SamplingConfig, logits: jax.Array) -> jax.Array:
    """Logits [..., V] of the distribution sampled: temperature, top-k, top-p, min-p, in turn.

    Excluded tokens get a finite, hugely negative logit. top-p keeps the smallest set of most likely
    tokens whose mass reaches top_p; ties at a threshold are kept. The vocabulary is sorted only
    where top-k asks for it. Sampler and learner share this function.
    """
    if config.temperature == 0:
        best = jnp.argmax(logits, axis=-1, keepdims=True)
        index = jax.lax.broadcasted_iota(best.dtype, logits.shape, logits.ndim - 1)
        return jnp.where(index == best, 0.0, MASKED)
    logits = logits / config.temperature
    if 0 < config.top_k < logits.shape[-1]:
        kth = jax.lax.top_k(logits, config.top_k)[0][..., -1:]
        logits = jnp.where(logits >= kth, logits, MASKED)
    if config.top_p < 1:
        logits = jnp.where(_nucleus(logits, config.top_p), logits, MASKED)
    if config.min_p > 0:
        threshold = jnp.max(logits, axis=-1, keepdims=True) + jnp.log(config.min_p)
        logits = jnp.where(logits >= threshold, logits, MASKED)
    return logits


def _nucleus(logits: jax.Array, top_p: float) -> jax.Array:
    """bool [..., V]: the most likely tokens whose mass reaches top_p (arXiv:1904.09751).

    The least probability kept is found by halving, over the bits of a float32, which are in the
    order of what they stand for: the same tokens as by sorting, in a tenth of the time on a CPU,
    and of a vocabulary split over devices only sums travel.
    """
    still = jax.lax.stop_gradient(logits).astype(jnp.float32)  # what is kept has no derivative
    probability = jax.nn.softmax(still, axis=-1)
    bits = jax.lax.bitcast_convert_type(probability, jnp.int32)

    def halve(_, bounds):
        reaches, falls_short = bounds
        middle = (reaches + falls_short) // 2
        kept = jnp.where(bits >= middle, probability, 0.0)
        enough = jnp.sum(kept, axis=-1, keepdims=True) >= top_p
        return jnp.where(enough, middle, reaches), jnp.where(enough, falls_short, middle)

    one = jnp.ones_like(bits[..., :1])
    above_1 = jax.lax.bitcast_convert_type(jnp.float32(1.0), jnp.int32) + 1
    least, _ = jax.lax.fori_loop(0, _NUM_BITS, halve, (0 * one, above_1 * one))
    return bits >= least


def draw(logits_BV: jax.Array, uniform_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(token_B int32, logp_B float32): the inverse of the cumulative distribution at uniform_B.

    One uniform number in [0, 1) a row instead of one Gumbel a vocabulary entry. First a block of
    the vocabulary is found by the blocks' sums, then the token within (an odd V is one block):
    of a vocabulary split over devices only sums and one block travel. A token of probability 0 is
    never drawn, not even where rounding lets the sum rise across it.
    """
    B, V = logits_BV.shape
    num_blocks = min(V & -V, 64)  # a power of two that divides V: what a vocabulary is split by
    top_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
    blocks_BCW = jnp.exp(logits_BV - top_B1).reshape(B, num_blocks, -1)
    sum_BC = jnp.sum(blocks_BCW, axis=-1)
    upto_BC = jnp.cumsum(sum_BC, axis=-1)
    point_B = uniform_B * upto_BC[:, -1]
    block_B = _first_beyond(sum_BC > 0, upto_BC, point_B)
    is_block_BC = jnp.arange(num_blocks)[None, :] == block_B[:, None]
    # A sum with zeros is exact, and of a split vocabulary one block travels.
    block_BW = jnp.sum(jnp.where(is_block_BC[:, :, None], blocks_BCW, 0), axis=1)
    before_B = jnp.sum(jnp.where(is_block_BC, upto_BC - sum_BC, 0), axis=1)
    cumulative_BW = before_B[:, None] + jnp.cumsum(block_BW, axis=-1)
    token_B = block_B * block_BW.shape[1] + _first_beyond(block_BW > 0, cumulative_BW, point_B)
    logit_B1 = jnp.take_along_axis(logits_BV, token_B[:, None], axis=-1)
    return token_B, (logit_B1 - top_B1)[:, 0] - jnp.log(upto_BC[:, -1])


def _first_beyond(possible_BW, cumulative_BW, point_B) -> jax.Array:
    """int32 [B]: the first possible place whose sum is beyond the point; where rounding lets none
    be, the last that is possible."""
    index_1W = jnp.arange(possible_BW.shape[1], dtype=jnp.int32)[None, :]
    last_B = jnp.max(jnp.where(possible_BW, index_1W, 0), axis=-1)
    beyond_BW = possible_BW & (cumulative_BW > point_B[:, None])
    return jnp.min(jnp.where(beyond_BW, index_1W, last_B[:, None]), axis=-1)
