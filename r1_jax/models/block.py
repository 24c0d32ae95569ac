"""One layer of the decoder: attention and an MLP or experts, each beside the residual stream."""

from typing import Any

import flax.linen as nn

from r1_jax.models import attention, experts, latent_attention, layers, rotary
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
    def __call__(self, x_BTD, turn: rotary.Turn, mix: attention.Mix, mask_BT, chosen_BTX=None):
        """(x_BTD, what attention carried, experts.Routed or None); see MixtureOfExperts."""
        c = self.config
        normed_BTD = layers.RMSNorm(c.norm_epsilon, name="attention_norm")(x_BTD)
        if c.latent:
            attend = self._part(latent_attention.LatentAttention)(
                c, self.absorbed, name="attention"
            )
        else:
            attend = self._part(attention.Attention)(c, name="attention")
        attended_BTD, carried = attend(normed_BTD, turn, mix)
        x_BTD = place.constrain(x_BTD + attended_BTD, "batch", "length", "act_embed")
        normed_BTD = layers.RMSNorm(c.norm_epsilon, name="mlp_norm")(x_BTD)
        if self.dense:
            mlp = self._part(layers.SwiGLU)(c, c.mlp_dim, name="mlp")
            out_BTD, routed = mlp(normed_BTD), None
        else:
            mixture = self._part(experts.MixtureOfExperts)(c, name="experts")
            out_BTD, routed = mixture(normed_BTD, mask_BT, chosen_BTX)
        x_BTD = place.constrain(x_BTD + out_BTD, "batch", "length", "act_embed")
        return x_BTD, carried, routed

    def _part(self, module: type[nn.Module]) -> Any:
        """`module`, of which a backward pass keeps its input alone, if the layer is one of parts.

        A layer is computed again as a whole, its attention then once more: beside the gradients of
        one part there is nothing of the other.
        """
        if self.config.remat != "parts" or self.absorbed:
            return module
        is_attention = module in (attention.Attention, latent_attention.LatentAttention)
        return nn.remat(module, static_argnums=(3,) if is_attention else ())  # 3: the mix
