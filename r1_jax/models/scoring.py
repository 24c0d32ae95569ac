"""Log-probability and entropy of given tokens, in chunks of positions: never [B, T, V] at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from r1_jax.models import config as model_config
from r1_jax.models import heads, transformer

CHUNK = 32  # positions whose logits exist at one time; 16-64 read the same on a CPU, less is slower


def token_scores(
    config: model_config.ModelConfig,
    params: transformer.Params,
    tokens_BT: jax.Array,
    *,
    adjust: Callable[[jax.Array], jax.Array],
    position_BT: jax.Array | None = None,
    segment_BT: jax.Array | None = None,
    chunk: int = CHUNK,
) -> tuple[jax.Array, jax.Array]:
    """(logps_BT, entropy_BT) in float32 nats: of token t given the tokens before it.

    Column 0 is 0: nothing predicts the first token. `adjust` maps logits [..., V] to those of the
    distribution that is meant (temperature, top-k, ...), the same function the sampler used, so
    that learner and sampler speak of one distribution. The backward pass recomputes each chunk.
    """
    hidden_BTD, _ = transformer.forward(config, params, tokens_BT, position_BT, segment_BT)
    kernel_DV = heads.kernel(config, params)
    B, T, D = hidden_BTD.shape
    num_chunks = -(-(T - 1) // chunk)
    pad = num_chunks * chunk - (T - 1)
    hidden_BTD = jnp.pad(hidden_BTD[:, :-1], ((0, 0), (0, pad), (0, 0)))
    target_BT = jnp.pad(tokens_BT[:, 1:], ((0, 0), (0, pad)))

    @jax.checkpoint
    def score(piece):
        hidden_BCD, target_BC = piece
        logits_BCV = adjust(heads.logits(hidden_BCD, kernel_DV))
        normalised_BCV = jax.nn.log_softmax(logits_BCV, axis=-1)
        logps_BC = jnp.take_along_axis(normalised_BCV, target_BC[:, :, None], axis=-1)[:, :, 0]
        return logps_BC, -jnp.sum(jnp.exp(normalised_BCV) * normalised_BCV, axis=-1)

    pieces = (
        hidden_BTD.reshape(B, num_chunks, chunk, D).swapaxes(0, 1),
        target_BT.reshape(B, num_chunks, chunk).swapaxes(0, 1),
    )
    logps, entropy = jax.lax.map(score, pieces)

    def whole(x):
        return jnp.pad(x.swapaxes(0, 1).reshape(B, -1)[:, : T - 1], ((0, 0), (1, 0)))

    return whole(logps), whole(entropy)
