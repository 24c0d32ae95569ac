"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1; V3 Eq. 1-11).

Keys and values of all heads are read from one normed latent a token; a rotary key shared by all
heads stands beside it. Expanded, each head's keys and values are made from the latents: cheap where
many queries meet them. Absorbed, the query is carried into the latent space and the mixed latents
out of it, so that a decoding step touches the cached latents alone.
"""

import flax.linen as nn
import jax.numpy as jnp

from r1_jax.models import attention, layers, rotary
from r1_jax.models import config as model_config
from r1_jax.sharding import place


class _Kernel(nn.Module):
    """The kernel of a Linear by itself, for a caller that multiplies by its parts."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init_std: float

    @nn.compact
    def __call__(self):
        normal = nn.initializers.normal(self.init_std)
        return layers.parameter(self, "kernel", normal, self.shape, self.axes)


class LatentAttention(nn.Module):
    """Projections and rotary around `mix`; returns (output [B, T, D], carried).

    Expanded, `mix` gets heads' keys and values and carried is (latents [B, T, 1, rank + rope_dim],
    None), what a cache holds. With `absorbed`, `mix` gets those latents as the one key head, None
    as values, and carried is its own. Both compute the same function.
    """

    config: model_config.ModelConfig
    absorbed: bool = False

    @nn.compact
    def __call__(self, x_BTD, turn: rotary.Turn, mix: attention.Mix):
        c, m = self.config, self.config.latent
        assert m is not None

        def narrow(name, x, width):
            axes = ("embed", "latent")
            return layers.Linear((c.embed_dim,), (width,), axes, c.init_std, name=name)(x)

        def heads(name, x, axis):
            shape = (c.num_heads, c.head_dim)
            axes = (axis, "heads", "head_dim")
            return layers.Linear(x.shape[-1:], shape, axes, c.init_std, name=name)(x)

        def norm(name, x):
            return layers.RMSNorm(c.norm_epsilon, "latent", name=name)(x)

        if m.query_rank:
            query_BTQ = norm("query_norm", narrow("query_down", x_BTD, m.query_rank))
            q_BTNH = heads("query_up", query_BTQ, "from_latent")
        else:
            q_BTNH = heads("query", x_BTD, "embed")
        q_nope_BTNH, q_rope_BTNH = jnp.split(q_BTNH, [m.nope_dim], axis=-1)
        q_rope_BTNH = rotary.rotate(c, q_rope_BTNH, turn)
        down_BTC = narrow("latent_down", x_BTD, m.rank + m.rope_dim)
        latent_BTR = norm("latent_norm", down_BTC[:, :, : m.rank])
        k_rope_BT1H = rotary.rotate(c, down_BTC[:, :, None, m.rank :], turn)
        cached_BT1C = jnp.concatenate([latent_BTR[:, :, None], k_rope_BT1H], axis=-1)

        shape = (m.rank, c.num_heads, m.nope_dim + m.value_dim)
        names = "from_latent", "heads", "head_dim"
        up_RNM = _Kernel(shape, names, c.init_std, name="latent_up")()
        up_RNM = up_RNM.astype(x_BTD.dtype)
        scale, names = rotary.logit_scale(c), ("batch", "length", "act_heads", "head_dim")
        if self.absorbed:
            key_RNH, value_RNU = jnp.split(up_RNM, [m.nope_dim], axis=-1)
            q_latent_BTNR = jnp.einsum("BTNH,RNH->BTNR", q_nope_BTNH, key_RNH)
            q_BTNC = jnp.concatenate([q_latent_BTNR, q_rope_BTNH], axis=-1)
            q_BTNC = place.constrain(q_BTNC, *names)
            mixed_BTNC, carried = mix(q_BTNC, cached_BT1C, None, scale)
            out_BTNU = jnp.einsum("BTNR,RNU->BTNU", mixed_BTNC[..., : m.rank], value_RNU)
        else:
            expanded_BTNM = jnp.einsum("BTR,RNM->BTNM", latent_BTR, up_RNM)
            k_nope_BTNH, v_BTNU = jnp.split(expanded_BTNM, [m.nope_dim], axis=-1)
            k_rope_BTNH = jnp.broadcast_to(k_rope_BT1H, q_rope_BTNH.shape)
            k_BTNH = jnp.concatenate([k_nope_BTNH, k_rope_BTNH], axis=-1)
            q_BTNH = jnp.concatenate([q_nope_BTNH, q_rope_BTNH], axis=-1)
            q_BTNH, k_BTNH, v_BTNU = (place.constrain(x, *names) for x in (q_BTNH, k_BTNH, v_BTNU))
            out_BTNU, _ = mix(q_BTNH, k_BTNH, v_BTNU, scale)
            carried = cached_BT1C, None
        out_BTD = layers.Linear(
            (c.num_heads, m.value_dim),
            (c.embed_dim,),
            ("heads", "head_dim", "embed"),
            layers.residual_std(c),
            name="out",
        )(out_BTNU)
        return out_BTD, carried
