"""Log-probability and entropy of given tokens, in chunks of positions: never [B, T, V] at once."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import experts, heads, mtp, prefix, transformer
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place

CHUNK = 32  # positions whose logits exist at one time; 16-64 read the same on a CPU, less is slower
# Likewise on a TPU: with fewer, reading the head's weights takes longer than products; and on a
# GPU, where each chunk's gradient of them is added in float32 to what is in memory.
TPU_TOKENS, GPU_TOKENS = 512, 2048


def chunk_of(num_rows: int) -> int:
    """Positions of `num_rows` rows whose logits exist at one time, for the mesh that is active."""
    if meshes.is_of_cpus():
        return CHUNK
    tokens = GPU_TOKENS if meshes.is_of_gpus() else TPU_TOKENS
    per_device = max(1, num_rows // place.ways("batch"))
    return max(1, tokens // per_device // CHUNK) * CHUNK


def token_scores(
    config: model_config.ModelConfig,
    params: transformer.Params,
    tokens_BT: jax.Array,
    *,
    adjust: Callable[[jax.Array], jax.Array],
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    chunk: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(logps_BT, entropy_BT) in float32 nats: of token t given the tokens before it.

    Column 0 is 0: nothing predicts the first token. `adjust` maps logits [..., V] to those of the
    distribution that is meant (temperature, top-k, ...), the same function the sampler used, so
    that learner and sampler speak of one distribution. The backward pass recomputes each chunk.
    """
    logps_BT, entropy_BT, _ = routed_scores(
        config,
        params,
        tokens_BT,
        adjust=adjust,
        position_BT=position_BT,
        segment_BT=segment_BT,
        chunk=chunk,
    )
    return logps_BT, entropy_BT


def routed_scores(
    config: model_config.ModelConfig,
    params: transformer.Params,
    tokens_BT: jax.Array,
    *,
    adjust: Callable[[jax.Array], jax.Array],
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    mask_BT: jax.Array | None = None,
    chosen_BTLX: jax.Array | None = None,
    chunk: int | None = None,
    shared: prefix.Shared | None = None,
) -> tuple[jax.Array, jax.Array, experts.Routed | None]:
    """(logps_BT, entropy_BT, what routers did): `token_scores` of a model that may have experts.

    mask_BT: as in `transformer.routed_forward`. chosen_BTLX: as in types.Rollouts, replayed in
    place of the routers' own choices. shared: the rows, of a model without experts, begin alike;
    columns up to shared.length, too, are then 0.
    """
    if shared is not None:
        return *_behind_prefix(config, params, tokens_BT, shared, adjust, chunk), None
    chosen_LBTX = None
    if chosen_BTLX is not None:
        chosen_LBTX = chosen_BTLX.astype(jnp.int32).transpose(2, 0, 1, 3)
    hidden_BTD, _, routed = transformer.routed_forward(
        config, params, tokens_BT, position_BT, segment_BT, mask_BT, chosen_LBTX
    )
    return *_of_hidden(config, params, hidden_BTD, tokens_BT, adjust, chunk), routed


def _of_hidden(config, params, hidden_BTD, tokens_BT, adjust, chunk) -> tuple[jax.Array, jax.Array]:
    """(logps_BT, entropy_BT) of tokens by the hidden states before them."""
    kernel = heads.kernel(config, params)

    def score(hidden_BCD, target_BC):
        logits_BCV = adjust(heads.logits(hidden_BCD, kernel))
        normalised_BCV = jax.nn.log_softmax(logits_BCV, axis=-1)
        logps_BC = jnp.take_along_axis(normalised_BCV, target_BC[:, :, None], axis=-1)[:, :, 0]
        return logps_BC, -jnp.sum(jnp.exp(normalised_BCV) * normalised_BCV, axis=-1)

    logps_BT, entropy_BT = _by_chunk(score, (hidden_BTD[:, :-1], tokens_BT[:, 1:]), chunk)
    return logps_BT, entropy_BT


def _behind_prefix(
    config, params, tokens_BT, shared: prefix.Shared, adjust, chunk
) -> tuple[jax.Array, jax.Array]:
    """(logps_BT, entropy_BT) with what rows share computed once; 0 up to column shared.length."""
    position_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    hidden_PUD, _, _ = transformer.routed_forward(
        config, params, shared.fold(tokens_BT), shared.fold(position_BT), shared=shared
    )
    own_BtD, tokens_Bt = shared.own(hidden_PUD), tokens_BT[:, shared.length :]
    logps_Bt, entropy_Bt = _of_hidden(config, params, own_BtD, tokens_Bt, adjust, chunk)
    pad = ((0, 0), (shared.length, 0))
    return jnp.pad(logps_Bt, pad), jnp.pad(entropy_Bt, pad)


class Twofold(NamedTuple):
    """What a model with multi-token prediction says of a sequence."""

    logps_BT: jax.Array  # as of `token_scores`
    entropy_BT: jax.Array
    early_logps_BT: jax.Array  # of token t given the tokens up to t - 2 and t - 1; columns 0, 1: 0
    routed: experts.Routed | None  # as of `routed_scores`
    early_routed: experts.Routed | None  # of the layer of prediction, without an axis L


def twofold_scores(
    config: model_config.ModelConfig,
    params: transformer.Params,
    tokens_BT: jax.Array,
    *,
    position_BT: jax.Array,
    segment_BT: jax.Array,
    mask_BT: jax.Array,
    chunk: int | None = None,
) -> Twofold:
    """Log-probs of every token by the decoder, and two tokens ahead by its layer of prediction.

    Arguments as of `routed_scores`. Across a document's border early_logps_BT mean nothing.
    """
    hidden_BTD, _, routed = transformer.routed_forward(
        config, params, tokens_BT, position_BT, segment_BT, mask_BT
    )
    same_BT = segment_BT[:, :-1] == segment_BT[:, 1:]
    ahead_BTD, _, early_routed = mtp.forward(
        config,
        params["mtp"],
        hidden_BTD[:, :-1],
        transformer.embed(config, params, tokens_BT[:, 1:]),
        position_BT[:, :-1],
        segment_BT[:, :-1],
        mask_BT[:, :-1] & same_BT,
    )
    kernel = heads.kernel(config, params)

    def score(hidden_BCD, target_BC):
        normalised_BCV = jax.nn.log_softmax(heads.logits(hidden_BCD, kernel), axis=-1)
        logps_BC = jnp.take_along_axis(normalised_BCV, target_BC[:, :, None], axis=-1)[:, :, 0]
        return logps_BC, -jnp.sum(jnp.exp(normalised_BCV) * normalised_BCV, axis=-1)

    logps_BT, entropy_BT = _by_chunk(score, (hidden_BTD[:, :-1], tokens_BT[:, 1:]), chunk)
    early_BT = _by_chunk(score, (ahead_BTD[:, :-1], tokens_BT[:, 2:]), chunk)[0]
    early_BT = jnp.pad(early_BT, ((0, 0), (1, 0)))
    return Twofold(logps_BT, entropy_BT, early_BT, routed, early_routed)


def divergences(
    config: model_config.ModelConfig,
    params: transformer.Params,
    teacher_config: model_config.ModelConfig,
    teacher_params: transformer.Params,
    tokens_BT: jax.Array,
    *,
    temperature: float,
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    chunk: int | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(logps_BT, entropy_BT, divergence_BT) in float32 nats, as `token_scores` without adjustment.

    divergence: KL(teacher || student) of the whole next-token distributions, both at `temperature`
    (Hinton et al., arXiv:1503.02531), what the teacher would have the student say at t. The teacher
    gets no gradient. Both have one vocabulary.
    """
    inputs = tokens_BT, position_BT, segment_BT
    hidden_BTD, _ = transformer.forward(config, params, *inputs)
    theirs_BTD, _ = transformer.forward(teacher_config, teacher_params, *inputs)
    kernel = heads.kernel(config, params)
    their_kernel = heads.kernel(teacher_config, teacher_params)

    def score(hidden_BCD, theirs_BCD, target_BC):
        logits_BCV = heads.logits(hidden_BCD, kernel)
        normalised_BCV = jax.nn.log_softmax(logits_BCV, axis=-1)
        logps_BC = jnp.take_along_axis(normalised_BCV, target_BC[:, :, None], axis=-1)[:, :, 0]
        entropy_BC = -jnp.sum(jnp.exp(normalised_BCV) * normalised_BCV, axis=-1)
        their_logits_BCV = heads.logits(theirs_BCD, their_kernel)
        theirs_BCV = jax.lax.stop_gradient(jax.nn.log_softmax(their_logits_BCV / temperature))
        ours_BCV = jax.nn.log_softmax(logits_BCV / temperature)
        divergence_BC = jnp.sum(jnp.exp(theirs_BCV) * (theirs_BCV - ours_BCV), axis=-1)
        return logps_BC, entropy_BC, divergence_BC

    stopped_BTD = jax.lax.stop_gradient(theirs_BTD)
    found = _by_chunk(score, (hidden_BTD[:, :-1], stopped_BTD[:, :-1], tokens_BT[:, 1:]), chunk)
    return found[0], found[1], found[2]


def _by_chunk(score, arrays, chunk: int | None):
    """score(*pieces of `chunk` positions) -> arrays [B, C], over all of them; column 0 is 0.

    chunk: even parts of at most `chunk_of` unless given. Where the mesh splits positions, a piece
    has `chunk` of every device's own.
    """
    B, num_positions = arrays[0].shape[:2]
    across = place.ways("length")
    num_chunks = max(1, -(-num_positions // (across * (chunk or chunk_of(B)))))
    chunk = chunk or -(-num_positions // (across * num_chunks))  # of even length, little is padding
    pad = across * num_chunks * chunk - num_positions

    def pieces(x):
        padded = jnp.pad(x, ((0, 0), (0, pad), *((0, 0),) * (x.ndim - 2)))
        cut = padded.reshape(B, across, num_chunks, chunk, *x.shape[2:])
        return jnp.moveaxis(cut, 2, 0).reshape(num_chunks, B, across * chunk, *x.shape[2:])

    found = jax.lax.map(jax.checkpoint(lambda piece: score(*piece)), tuple(map(pieces, arrays)))

    def whole(x):
        cut = jnp.moveaxis(x.reshape(num_chunks, B, across, chunk), 0, 2)
        return jnp.pad(cut.reshape(B, -1)[:, :num_positions], ((0, 0), (1, 0)))

    return tuple(map(whole, found))
