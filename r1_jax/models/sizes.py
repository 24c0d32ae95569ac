"""Published decoders by name, and the two tiny ones.

A checkpoint's own config has the last word: fine-tuned variants change rope_theta, the context and
norm_epsilon. Sources: the models' published configurations.
"""

import dataclasses

from r1_jax.models import config as model_config


def _qwen(num_layers, embed_dim, mlp_dim, num_heads, num_kv_heads, head_dim, tied, **others):
    return model_config.ModelConfig(
        vocab_size=151_936 if tied else 152_064,
        num_layers=num_layers,
        embed_dim=embed_dim,
        mlp_dim=mlp_dim,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qkv_bias=True,
        tied_embeddings=tied,
        rope_theta=others.pop("rope_theta", 1e6),
        compute_dtype="bfloat16",
        remat="full",
        **others,
    )


def _llama(num_layers, embed_dim, mlp_dim, num_heads, head_dim, tied, rope_factor):
    return model_config.ModelConfig(
        vocab_size=128_256,
        num_layers=num_layers,
        embed_dim=embed_dim,
        mlp_dim=mlp_dim,
        num_heads=num_heads,
        num_kv_heads=8,
        head_dim=head_dim,
        qkv_bias=False,
        tied_embeddings=tied,
        rope_theta=5e5,
        norm_epsilon=1e-5,
        llama3_rope=model_config.Llama3Rope(factor=rope_factor),
        compute_dtype="bfloat16",
        remat="full",
    )


def _deepseek(num_heads, latent, experts, mscale, **others):
    return model_config.ModelConfig(
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=latent.nope_dim + latent.rope_dim,
        qkv_bias=False,
        tied_embeddings=False,
        yarn=model_config.Yarn(mscale=mscale, mscale_all_dim=mscale),
        latent=latent,
        experts=experts,
        compute_dtype="bfloat16",
        remat="full",
        **others,
    )


_QWEN_1P5B = _qwen(28, 1_536, 8_960, 12, 2, 128, tied=True)
_QWEN_7B = _qwen(28, 3_584, 18_944, 28, 4, 128, tied=False)
_V2_LITE = model_config.Experts(
    num_routed=64,
    num_chosen=6,
    dim=1_408,
    num_shared=2,
    first_dense=1,
    num_groups=1,
    groups_kept=1,
    scoring="softmax",
    normalise=False,
    scale=1.0,
)

SIZES: dict[str, model_config.ModelConfig] = {
    # of the quickstart, 0.66M parameters, and its sibling with latent attention and experts
    "tiny": model_config.ModelConfig(vocab_size=576),
    "deepseek_tiny": model_config.ModelConfig(
        vocab_size=576,
        num_layers=3,
        embed_dim=128,
        num_heads=4,
        num_kv_heads=4,
        head_dim=32,
        mlp_dim=384,
        qkv_bias=False,
        latent=model_config.Latent(rank=32, query_rank=48, nope_dim=24, rope_dim=8, value_dim=32),
        experts=model_config.Experts(
            num_routed=8,
            num_chosen=2,
            dim=48,
            num_shared=2,
            first_dense=1,
            num_groups=4,
            groups_kept=2,
        ),
    ),
    "qwen2p5_0p5b": _qwen(24, 896, 4_864, 14, 2, 64, tied=True),
    "qwen2p5_1p5b": _QWEN_1P5B,
    "qwen2p5_3b": _qwen(36, 2_048, 11_008, 16, 2, 128, tied=True),
    "qwen2p5_7b": _QWEN_7B,
    "qwen2p5_14b": _qwen(48, 5_120, 13_824, 40, 8, 128, tied=False),
    "qwen2p5_32b": _qwen(64, 5_120, 27_648, 40, 8, 128, tied=False, norm_epsilon=1e-5),
    "qwen2p5_math_1p5b": dataclasses.replace(_QWEN_1P5B, rope_theta=1e4),
    "qwen2p5_math_7b": dataclasses.replace(_QWEN_7B, rope_theta=1e4),
    "r1_distill_qwen_1p5b": dataclasses.replace(_QWEN_1P5B, rope_theta=1e4, tied_embeddings=False),
    "llama3p1_8b": _llama(32, 4_096, 14_336, 32, 128, tied=False, rope_factor=8.0),
    "llama3p3_70b": _llama(80, 8_192, 28_672, 64, 128, tied=False, rope_factor=8.0),
    "llama3p2_1b": _llama(16, 2_048, 8_192, 32, 64, tied=True, rope_factor=32.0),
    "llama3p2_3b": _llama(28, 3_072, 8_192, 24, 128, tied=True, rope_factor=32.0),
    "deepseek_v2_lite": _deepseek(
        16,
        model_config.Latent(query_rank=0),
        _V2_LITE,
        mscale=0.707,
        vocab_size=102_400,
        num_layers=27,
        embed_dim=2_048,
        mlp_dim=10_944,
    ),
    "deepseek_v2": _deepseek(
        128,
        model_config.Latent(),
        dataclasses.replace(
            _V2_LITE, num_routed=160, dim=1_536, num_groups=8, groups_kept=3, scale=16.0
        ),
        mscale=0.707,
        vocab_size=102_400,
        num_layers=60,
        embed_dim=5_120,
        mlp_dim=12_288,
    ),
    "deepseek_v3": _deepseek(
        128,
        model_config.Latent(),
        model_config.Experts(),
        mscale=1.0,
        vocab_size=129_280,
        num_layers=61,
        embed_dim=7_168,
        mlp_dim=18_432,
    ),
}
