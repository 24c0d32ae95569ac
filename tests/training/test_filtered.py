"""Under top-p a policy can lose a token that was sampled: it leaves the loss and is counted."""

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.core import types
from r1_jax.models import config as model_config
from r1_jax.models import transformer
from r1_jax.sampling import logits
from r1_jax.training import losses

MODEL = model_config.ModelConfig(
    vocab_size=8, num_layers=1, embed_dim=8, num_heads=1, num_kv_heads=1, head_dim=8, mlp_dim=8
)


def test_tokens_beyond_the_filter_leave_a_finite_loss_and_are_counted():
    params = transformer.init(MODEL, jax.random.key(0))
    sampling = logits.SamplingConfig(top_k=2)
    tokens_BT = jnp.arange(16, dtype=jnp.int32).reshape(2, 8) % 8
    reference_BT = jnp.full((2, 8), -1.0).at[0, 5].set(-1e30)
    batch = types.PolicyBatch(
        tokens_BT=tokens_BT,
        prompt_length_B=jnp.array([2, 2]),
        length_B=jnp.array([6, 6]),
        behavior_logps_BT=jnp.full((2, 8), -0.7),
        old_logps_BT=None,
        reference_logps_BT=reference_BT,
        advantage_B=jnp.array([1.0, -1.0]),
        include_B=jnp.array([True, True]),
    )
    loss = losses.make_policy(
        MODEL,
        losses.PolicyLossConfig(kl_coef=0.1),
        adjust=lambda x: logits.adjust(sampling, x),
        max_length=6,
    )

    def total(params):
        out = loss(params, batch)
        return out.loss.total, out

    (value, out), grads = jax.value_and_grad(total, has_aux=True)(params)
    assert np.isfinite(value) and abs(float(value)) < 1e3
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    share = out.means["tokens/unreachable_share"]
    assert float(share.weight) == 12 and 1 <= float(share.total) <= 12
    kl = out.means["kl/reference"]
    assert float(kl.total) < 1e3
