"""ModelConfig: the shape of a decoder of the Qwen2.5 kind."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A dense pre-norm decoder: RMSNorm, rotary, grouped-query attention, SwiGLU.

    Widths are counts of features. `compute_dtype` is what matrix products run in; parameters are
    always float32 masters and logits always float32. `remat` says what a backward pass keeps of a
    layer: everything ("none"), its matrix products ("dots") or only its input ("full").
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
    remat: Literal["none", "dots", "full"] = "none"

    def __post_init__(self):
        sizes = ("vocab_size", "num_layers", "embed_dim", "num_heads", "num_kv_heads")
        for name in (*sizes, "head_dim", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("rope_theta", "norm_epsilon", "init_std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads="
                f"{self.num_kv_heads}; every key/value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary turns pairs")
