"""One layer of the decoder: attention and an MLP or experts, each beside the residual stream."""

import flax.linen as nn

from r1_jax.models import attention, experts, latent_attention, layers
from r1_jax.models import config as model_config
from r1_jax.sharding import place


class Block(nn.Module):
    """One pre-norm layer: x + attention(norm(x)), then x + mlp(norm(x)).

    The mlp is a SwiGLU if `dense`, else experts. `absorbed` is how latent attention is computed.
    """

    config: model_config.ModelConfig
    dense: bool = True
    absorbed: bool = False

    @nn.compact
    def __call__(self, x_BTD, position_BT, mix: attention.Mix, mask_BT, chosen_BTX=None):
        """(x_BTD, what attention carried, experts.Routed or None); see MixtureOfExperts."""
        c = self.config
        normed_BTD = layers.RMSNorm(c.norm_epsilon, name="attention_norm")(x_BTD)
        if c.latent:
            attend = latent_attention.LatentAttention(c, self.absorbed, name="attention")
        else:
            attend = attention.Attention(c, name="attention")
        attended_BTD, carried = attend(normed_BTD, position_BT, mix)
        x_BTD = place.constrain(x_BTD + attended_BTD, "batch", "length", "act_embed")
        normed_BTD = layers.RMSNorm(c.norm_epsilon, name="mlp_norm")(x_BTD)
        if self.dense:
            out_BTD, routed = layers.SwiGLU(c, c.mlp_dim, name="mlp")(normed_BTD), None
        else:
            mixture = experts.MixtureOfExperts(c, name="experts")
            out_BTD, routed = mixture(normed_BTD, mask_BT, chosen_BTX)
        x_BTD = place.constrain(x_BTD + out_BTD, "batch", "length", "act_embed")
        return x_BTD, carried, routed
