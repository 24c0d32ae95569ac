"""Small random models of the transformers library, and their weights as our parameter tree.

Only for parity tests (marker hf). The weights are spread wider than they are initialised, so that
every layer, bias, norm and router matters.
"""

import jax.numpy as jnp
import numpy as np

from r1_jax.models import config as model_config

V = 53
SIZES = {
    "vocab_size": V,
    "hidden_size": 24,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "max_position_embeddings": 512,
    "attn_implementation": "eager",
    "experts_implementation": "eager",  # the others want widths that are multiples of 16 bytes
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
DENSE = SIZES | {"num_attention_heads": 6, "num_key_value_heads": 3}
LATENT = SIZES | {
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "num_hidden_layers": 4,
    "kv_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 8,
    "v_head_dim": 5,
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 14,
    "first_k_dense_replace": 1,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def _yarn(mscale, mscale_all_dim):
    return {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 40.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 8,
        "beta_slow": 1,
        "mscale": mscale,
        "mscale_all_dim": mscale_all_dim,
    }


def _plain(theta):
    return {"rope_type": "default", "rope_theta": theta}


# name -> (class of transformers' configuration and model, its arguments)
FAMILIES = {
    "qwen2.5 tied": (
        "Qwen2",
        DENSE | {"tie_word_embeddings": True, "rope_parameters": _plain(1e4)},
    ),
    "qwen2.5 untied, one key head": (
        "Qwen2",
        DENSE
        | {"num_key_value_heads": 1, "tie_word_embeddings": False, "rms_norm_eps": 1e-3}
        | {"rope_parameters": _plain(1e6)},
    ),
    "qwen3": (
        "Qwen3",
        DENSE | {"head_dim": 10, "tie_word_embeddings": True, "rope_parameters": _plain(1e6)},
    ),
    "llama 3": (
        "Llama",
        DENSE
        | {"head_dim": 16, "tie_word_embeddings": False, "rope_parameters": LLAMA3}
        | {"rms_norm_eps": 1e-5},
    ),
    "llama 3 tied": (
        "Llama",
        DENSE | {"head_dim": 8, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "deepseek v2 lite": (
        "DeepseekV2",
        LATENT
        | {"q_lora_rank": None, "topk_method": "greedy", "n_shared_experts": 2}
        | {"rope_parameters": _yarn(0.707, 0.707), "routed_scaling_factor": 1.0},
    ),
    "deepseek v2": (
        "DeepseekV2",
        LATENT
        | {"q_lora_rank": 7, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
        | {"rope_parameters": _yarn(1.0, 0.5), "routed_scaling_factor": 3.0}
        | {"n_shared_experts": 1, "first_k_dense_replace": 0},
    ),
    "deepseek v3": (
        "DeepseekV3",
        LATENT
        | {"q_lora_rank": 9, "n_group": 3, "topk_group": 2, "n_shared_experts": 1}
        | {"rope_parameters": _yarn(1.0, 1.0), "routed_scaling_factor": 2.5}
        | {"first_k_dense_replace": 2},
    ),
    "deepseek v3, plain": (
        "DeepseekV3",
        LATENT
        | {"q_lora_rank": None, "n_group": 1, "topk_group": 1, "n_shared_experts": 2}
        | {"rope_parameters": _plain(1e4), "norm_topk_prob": False, "routed_scaling_factor": 1.5},
    ),
}


def make(name, seed=0):
    """(transformers' model in float32, our ModelConfig, our parameters)."""
    import torch
    import transformers

    kind, arguments = FAMILIES[name]
    config = getattr(transformers, f"{kind}Config")(**arguments)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).to(torch.float32).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for path, x in [*model.named_parameters(), *model.named_buffers()]:
            if path.endswith("inv_freq"):
                continue
            noise = rng.normal(size=tuple(x.shape))
            # the bias is small beside sigmoid scores, which differ in the first digit
            spread = 0.1 if path.endswith("e_score_correction_bias") else 0.4
            centre = 1.0 if "norm" in path else 0.0
            x.copy_(torch.from_numpy(centre + spread * noise))
    return model, _config(kind, arguments, config), parameters(model)


def _config(kind, given, config):
    rope = given["rope_parameters"]
    scaled = {}
    if rope["rope_type"] == "llama3":
        scaled["llama3_rope"] = model_config.Llama3Rope(
            rope["factor"], rope["original_max_position_embeddings"]
        )
    if rope["rope_type"] == "yarn":
        scaled["yarn"] = model_config.Yarn(
            rope["factor"],
            rope["original_max_position_embeddings"],
            rope["beta_fast"],
            rope["beta_slow"],
            rope["mscale"],
            rope["mscale_all_dim"],
        )
    head_dim = given.get("head_dim", config.hidden_size // config.num_attention_heads)
    if kind.startswith("Deepseek"):
        scaled["latent"] = latent = model_config.Latent(
            rank=config.kv_lora_rank,
            query_rank=config.q_lora_rank or 0,
            nope_dim=config.qk_nope_head_dim,
            rope_dim=config.qk_rope_head_dim,
            value_dim=config.v_head_dim,
        )
        head_dim = latent.nope_dim + latent.rope_dim
        is_v3 = kind == "DeepseekV3"
        scaled["experts"] = model_config.Experts(
            num_routed=config.n_routed_experts,
            num_chosen=config.num_experts_per_tok,
            dim=config.moe_intermediate_size,
            num_shared=config.n_shared_experts,
            first_dense=config.first_k_dense_replace,
            num_groups=config.n_group or 1,
            groups_kept=config.topk_group or 1,
            scoring="sigmoid" if is_v3 else "softmax",
            normalise=config.norm_topk_prob if is_v3 else False,
            scale=config.routed_scaling_factor,
        )
    return model_config.ModelConfig(
        vocab_size=config.vocab_size,
        num_layers=config.num_hidden_layers,
        embed_dim=config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        mlp_dim=config.intermediate_size,
        qkv_bias=kind == "Qwen2",
        qk_norm=kind == "Qwen3",
        tied_embeddings=config.tie_word_embeddings,
        rope_theta=rope["rope_theta"],
        norm_epsilon=config.rms_norm_eps,
        **scaled,
    )


def parameters(model, of=lambda x: x):
    """The model's weights, or of(weight) such as its gradient, as our tree of float32 arrays."""
    c = model.config
    named = dict(model.named_parameters()) | dict(model.named_buffers())

    def array(name):
        return np.array(of(named[name]).detach().numpy(), np.float32)

    def linear(name, *out):
        """A kernel [in, *out] and its bias, if there is one."""
        kernel = array(f"{name}.weight").T
        found = {"kernel": kernel.reshape(kernel.shape[0], *(out or (-1,)))}
        if f"{name}.bias" in named:
            found["bias"] = array(f"{name}.bias").reshape(out or (-1,))
        return found

    def norm(name):
        return {"scale": array(f"{name}.weight")}

    def swiglu(name):
        return {part: linear(f"{name}.{part}_proj") for part in ("gate", "up", "down")}

    def attention(name):
        N = c.num_attention_heads
        out = linear(f"{name}.o_proj")["kernel"]
        found = {"out": {"kernel": out.reshape(N, -1, out.shape[-1])}}
        if f"{name}.kv_b_proj.weight" not in named:
            for ours, theirs, n in (
                ("query", "q", N),
                ("key", "k", c.num_key_value_heads),
                ("value", "v", c.num_key_value_heads),
            ):
                found[ours] = linear(f"{name}.{theirs}_proj", n, -1)
            if f"{name}.q_norm.weight" in named:
                found |= {f"{k}_norm": norm(f"{name}.{k[0]}_norm") for k in ("query", "key")}
            return found
        if c.q_lora_rank is None:
            found["query"] = linear(f"{name}.q_proj", N, -1)
        else:
            found["query_down"] = linear(f"{name}.q_a_proj")
            found["query_norm"] = norm(f"{name}.q_a_layernorm")
            found["query_up"] = linear(f"{name}.q_b_proj", N, -1)
        found["latent_down"] = linear(f"{name}.kv_a_proj_with_mqa")
        found["latent_norm"] = norm(f"{name}.kv_a_layernorm")
        found["latent_up"] = linear(f"{name}.kv_b_proj", N, c.qk_nope_head_dim + c.v_head_dim)
        return found

    def block(layer):
        name = f"model.layers.{layer}"
        found = {
            "attention": attention(f"{name}.self_attn"),
            "attention_norm": norm(f"{name}.input_layernorm"),
            "mlp_norm": norm(f"{name}.post_attention_layernorm"),
        }
        if f"{name}.mlp.gate.weight" not in named:
            return found | {"mlp": swiglu(f"{name}.mlp")}
        gate_up = array(f"{name}.mlp.experts.gate_up_proj").swapaxes(1, 2)
        gate, up = np.split(gate_up, 2, axis=-1)
        experts = {
            "router": {"kernel": array(f"{name}.mlp.gate.weight").T},
            "gate": gate,
            "up": up,
            "down": array(f"{name}.mlp.experts.down_proj").swapaxes(1, 2),
            "shared": swiglu(f"{name}.mlp.shared_experts"),
        }
        if f"{name}.mlp.gate.e_score_correction_bias" in named:
            experts["router"]["bias"] = array(f"{name}.mlp.gate.e_score_correction_bias")
        return found | {"experts": experts}

    def stack(layers):
        blocks = [block(layer) for layer in layers]
        return {"block": _stacked(blocks)}

    latent = hasattr(c, "kv_lora_rank")
    first = c.first_k_dense_replace if latent else 0
    tree = {
        "embedding": array("model.embed_tokens.weight"),
        "final_norm": norm("model.norm"),
        "layers": stack(range(first, c.num_hidden_layers)),
    }
    if first:
        tree["dense_layers"] = stack(range(first))
    if not c.tie_word_embeddings:
        tree["head"] = array("lm_head.weight").T
    return tree


def _stacked(trees):
    if isinstance(trees[0], dict):
        return {name: _stacked([tree[name] for tree in trees]) for name in trees[0]}
    return jnp.asarray(np.stack(trees))
