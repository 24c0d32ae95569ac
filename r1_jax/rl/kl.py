"""Per-token estimators of KL(policy || reference) from tokens that the policy sampled.

With d = log policy(token) - log reference(token), in nats, any shape, float32:

       value             on-policy mean     gradient w.r.t.     on-policy mean of the gradient
                         of the value       log policy(token)
  k1   d                 the KL, unbiased   1                   0: it trains nothing in a loss
  k2   d^2 / 2           biased             d                   gradient of KL(policy || reference)
  k3   exp(-d) + d - 1   the KL, unbiased   1 - exp(-d)         gradient of KL(reference || policy)

So k1 belongs into the reward, not into the loss; k3 is the paper's choice (DeepSeek-R1,
arXiv:2501.12948v1, Eq. 2; DeepSeekMath Eq. 4), never negative, and in the loss it pulls towards
the reference by the forward KL; k2 in the loss is the gradient of the reverse KL that the
objective names. The names are of Schulman, "Approximating KL divergence". The reference is a
constant: no gradient flows into it.
"""

import jax
import jax.numpy as jnp

# exp is replaced by its tangent above this. exp(20) = 4.9e8 keeps sums and squared norms of
# gradients finite in float32, and the tangent keeps pulling in the right direction where a clamp
# would give gradient 0.
MAX_EXPONENT = 20.0


def k1(logps: jax.Array, reference_logps: jax.Array) -> jax.Array:
    """d, signed: the log-ratio itself."""
    return _log_ratio(logps, reference_logps)


def k2(logps: jax.Array, reference_logps: jax.Array) -> jax.Array:
    """d^2 / 2, never negative."""
    return jnp.square(_log_ratio(logps, reference_logps)) / 2


def k3(logps: jax.Array, reference_logps: jax.Array) -> jax.Array:
    """exp(-d) + d - 1, never negative; linear in d below d = -MAX_EXPONENT, so always finite."""
    log_ratio = _log_ratio(logps, reference_logps)
    exponent = jnp.minimum(-log_ratio, MAX_EXPONENT)
    beyond = jnp.maximum(-log_ratio - MAX_EXPONENT, 0.0)
    # expm1: for small d the result is d^2 / 2, which exp(-d) - 1 would lose in rounding
    return jnp.expm1(exponent) + jnp.exp(MAX_EXPONENT) * beyond + log_ratio


def _log_ratio(logps: jax.Array, reference_logps: jax.Array) -> jax.Array:
    reference_logps = jax.lax.stop_gradient(reference_logps)
    return logps.astype(jnp.float32) - reference_logps.astype(jnp.float32)
