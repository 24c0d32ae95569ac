"""ModelConfig: the shape of a decoder of the Qwen2.5, Qwen3, Llama 3 or DeepSeek kind."""

import dataclasses
import difflib
from typing import Literal


def _at_least(minimum: int, config, *names: str) -> None:
    for name in names:
        if getattr(config, name) < minimum:
            raise ValueError(f"{name}={getattr(config, name)} must be at least {minimum}")


def _positive(config, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}={getattr(config, name)} must be above 0")


@dataclasses.dataclass(frozen=True)
class Llama3Rope:
    """Llama 3.1's rotary scaling ("llama3"): slow frequencies are divided by `factor`.

    Slow turns less than `low_freq_factor` times within `original_length` tokens, fast more than
    `high_freq_factor` times; between them the frequency is interpolated.
    """

    factor: float = 8.0
    original_length: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self):
        _at_least(1, self, "original_length", "factor")
        _positive(self, "low_freq_factor")
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor={self.high_freq_factor} must be above low_freq_factor="
                f"{self.low_freq_factor}"
            )


@dataclasses.dataclass(frozen=True)
class Yarn:
    """YaRN's rotary scaling (arXiv:2309.00071), with DeepSeek's two magnitudes.

    Frequencies that turn more than `beta_fast` times within `original_length` stay, those below
    `beta_slow` are divided by `factor`. With m(x) = 0.1 x ln(factor) + 1, cos and sin are
    multiplied by m(mscale) / m(mscale_all_dim), attention logits by m(mscale_all_dim)^2.
    Plain YaRN is mscale=1, mscale_all_dim=0.
    """

    factor: float = 40.0
    original_length: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0

    def __post_init__(self):
        _at_least(1, self, "original_length", "factor")
        _at_least(0, self, "mscale", "mscale_all_dim")
        _positive(self, "beta_slow")
        if self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast={self.beta_fast} must be above beta_slow={self.beta_slow}")


@dataclasses.dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    `rank` (kv_lora_rank) latent values and one rotary key of `rope_dim`, shared by all heads, are
    all that is cached. `query_rank` (q_lora_rank) is 0 where queries are projected directly.
    Rotary pairs are neighbours (x[2i], x[2i + 1]), on the rotary features only.
    """

    rank: int = 512
    query_rank: int = 1536
    nope_dim: int = 128
    rope_dim: int = 64
    value_dim: int = 128

    def __post_init__(self):
        _at_least(1, self, "rank", "nope_dim", "rope_dim", "value_dim")
        _at_least(0, self, "query_rank")
        if self.rope_dim % 2:
            raise ValueError(f"rope_dim={self.rope_dim} must be even: rotary turns pairs")


@dataclasses.dataclass(frozen=True)
class Experts:
    """Routed SwiGLU experts (DeepSeek-V3, arXiv:2412.19437, section 2.1.2) in place of the MLP.

    The first `first_dense` layers keep a dense MLP. A token takes `num_chosen` of `num_routed`
    experts of width `dim`, within its best `groups_kept` of `num_groups` groups, and `num_shared`
    more that are one SwiGLU of num_shared * dim. `scoring` is V3's "sigmoid", with a bias for
    selection only and groups ranked by the sum of their best two, or V2's "softmax", without a
    bias and groups ranked by their best. `normalise`: the chosen weights sum to 1; they are then
    multiplied by `scale` (routed_scaling_factor).
    """

    num_routed: int = 256
    num_chosen: int = 8
    dim: int = 2048
    num_shared: int = 1
    first_dense: int = 3
    num_groups: int = 8
    groups_kept: int = 4
    scoring: Literal["sigmoid", "softmax"] = "sigmoid"
    normalise: bool = True
    scale: float = 2.5

    def __post_init__(self):
        _at_least(1, self, "num_routed", "num_chosen", "dim", "num_groups", "groups_kept")
        _at_least(0, self, "num_shared", "first_dense")
        _positive(self, "scale")
        if self.num_routed % self.num_groups:
            raise ValueError(
                f"num_routed={self.num_routed} does not split into num_groups={self.num_groups}"
            )
        if self.groups_kept > self.num_groups:
            raise ValueError(
                f"groups_kept={self.groups_kept} is more than num_groups={self.num_groups}"
            )
        per_group = self.num_routed // self.num_groups
        if self.num_chosen > self.groups_kept * per_group:
            raise ValueError(
                f"num_chosen={self.num_chosen} experts do not fit into groups_kept="
                f"{self.groups_kept} groups of {per_group}"
            )
        if self.scoring == "sigmoid" and self.num_groups > 1 and per_group < 2:
            raise ValueError(
                f"groups of {per_group} expert cannot be ranked by their best two; use fewer "
                f"than num_groups={self.num_groups}"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A pre-norm decoder: RMSNorm, rotary, grouped-query or latent attention, SwiGLU or experts.

    Widths are counts of features; `head_dim` is free of embed_dim / num_heads. `qk_norm`: an
    RMSNorm per head on queries and keys, before rotary (Qwen3). At most one of `llama3_rope` and
    `yarn` scales rotary frequencies. `compute_dtype` is what matrix products run in; parameters
    are always float32 masters and logits always float32. `remat` says what a backward pass keeps
    of a layer: everything ("none"), its matrix products ("dots") or only its input ("full"), and,
    with "parts", while it is differentiated, of attention and MLP only theirs.

    With `latent`, which fixes them, num_kv_heads is num_heads, head_dim is nope_dim + rope_dim,
    and there is neither a bias nor qk_norm; anything else is an error.

    mtp_layers: 1 adds a layer of multi-token prediction (models/mtp.py), 0 none.

    The parameter tree's paths, [L, ...] stacked over the layers of `layers`, which are those with
    experts where there are any; the dense ones before them are then in `dense_layers`:
        embedding [V, D]; head [D, V] unless tied; final_norm/scale [D]
        layers/block/attention_norm/scale, layers/block/mlp_norm/scale [D]
    layers/block/attention/, grouped-query (bias with qkv_bias, norms with qk_norm):
        query/kernel [D, N, H] query/bias [N, H] key, value/kernel [D, K, H] key, value/bias [K, H]
        query_norm/scale, key_norm/scale [H]; out/kernel [N, H, D]
    layers/block/attention/, latent (R = rank, C = R + rope_dim; nope before rope or value):
        query/kernel [D, N, H], or query_down/kernel [D, query_rank], query_norm/scale [query_rank],
        query_up/kernel [query_rank, N, H]; latent_down/kernel [D, C]; latent_norm/scale [R];
        latent_up/kernel [R, N, nope_dim + value_dim]; out/kernel [N, value_dim, D]
    layers/block/mlp/, a dense layer: gate/kernel, up/kernel [D, F], down/kernel [F, D]
    layers/block/experts/, a layer with experts (F = dim; S = num_shared * dim):
        router/kernel [D, E]; router/bias [E] with sigmoid scores; gate, up [E, D, F]; down
        [E, F, D]; shared/gate/kernel, shared/up/kernel [D, S], shared/down/kernel [S, D]
    mtp/, with mtp_layers: embedding_norm, hidden_norm, final_norm/scale [D]; join/kernel [2 D, D],
        of which the first D rows meet the embedding; layer/, as the last of layers/block
    """

    vocab_size: int = 512
    num_layers: int = 3
    embed_dim: int = 128
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 32
    mlp_dim: int = 384
    qkv_bias: bool = True
    tied_embeddings: bool = True
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    init_std: float = 0.02
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full", "parts"] = "none"
    qk_norm: bool = False
    llama3_rope: Llama3Rope | None = None
    yarn: Yarn | None = None
    latent: Latent | None = None
    experts: Experts | None = None
    mtp_layers: int = 0

    def __post_init__(self):
        _at_least(1, self, "vocab_size", "num_layers", "embed_dim", "num_heads", "num_kv_heads")
        _at_least(1, self, "head_dim", "mlp_dim")
        _positive(self, "rope_theta", "norm_epsilon", "init_std")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads="
                f"{self.num_kv_heads}; every key/value head serves the same number of query heads"
            )
        if self.mtp_layers not in (0, 1):
            raise ValueError(f"mtp_layers={self.mtp_layers} must be 0 or 1")
        if self.llama3_rope and self.yarn:
            raise ValueError("llama3_rope and yarn both scale rotary frequencies; choose one")
        if self.experts and self.experts.first_dense >= self.num_layers:
            raise ValueError(
                f"experts.first_dense={self.experts.first_dense} leaves no layer with experts of "
                f"num_layers={self.num_layers}; use fewer, or experts=None"
            )
        if self.latent is None:
            if self.head_dim % 2:
                raise ValueError(f"head_dim={self.head_dim} must be even: rotary turns pairs")
            return
        fixed = {
            "num_kv_heads": self.num_heads,
            "head_dim": self.latent.nope_dim + self.latent.rope_dim,
            "qkv_bias": False,
            "qk_norm": False,
        }
        for name, value in fixed.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)} does not go with latent attention; it is {value}"
                )

    @classmethod
    def named(cls, name: str) -> "ModelConfig":
        """The size of that name (models/sizes.py): what a configuration means by a mere name."""
        from r1_jax.models import sizes  # which is made of this module

        if name not in sizes.SIZES:
            near = difflib.get_close_matches(name, sizes.SIZES, n=1) or sizes.SIZES
            raise ValueError(f"{name!r} is no named size; there is {', '.join(near)}")
        return sizes.SIZES[name]

    @property
    def num_dense_layers(self) -> int:
        """Layers with a dense MLP; they come first."""
        return self.experts.first_dense if self.experts else self.num_layers
