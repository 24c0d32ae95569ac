"""Published configurations mean the models they mean; what is not honoured is named."""

import pytest

from r1_jax.core import build
from r1_jax.interop import hf_config, hf_weights
from r1_jax.models import config as model_config

QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151936,
    "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_act": "silu",
    "initializer_range": 0.02, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True,
    "attention_dropout": 0.0, "use_sliding_window": False, "sliding_window": 32768,
    "max_window_layers": 24, "max_position_embeddings": 32768, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1", "use_cache": True, "use_mrope": False, "bos_token_id": 151643,
    "eos_token_id": 151643,
}  # fmt: skip
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
    "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "pretraining_tp": 1,
    "initializer_range": 0.02, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3",
    },
    "tie_word_embeddings": False, "max_position_embeddings": 131072, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN3 = QWEN2 | {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128,
    "hidden_size": 1024, "attention_bias": False, "num_attention_heads": 16,
    "num_key_value_heads": 8,
}  # fmt: skip
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 129280,
    "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "n_shared_experts": 1, "n_routed_experts": 256, "ep_size": 1, "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "qk_nope_head_dim": 128, "topk_method": "noaux_tc", "n_group": 8, "topk_group": 4,
    "num_experts_per_tok": 8, "moe_layer_freq": 1, "first_k_dense_replace": 3,
    "norm_topk_prob": True, "scoring_func": "sigmoid", "aux_loss_alpha": 0.001, "seq_aux": True,
    "num_nextn_predict_layers": 1, "hidden_act": "silu", "initializer_range": 0.02,
    "rms_norm_eps": 1e-6, "rope_theta": 10000, "attention_bias": False, "attention_dropout": 0.0,
    "rope_scaling": {
        "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
        "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    },
    "tie_word_embeddings": False, "max_position_embeddings": 163840, "pretraining_tp": 1,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
DEEPSEEK_V2_LITE = DEEPSEEK_V3 | {
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "vocab_size": 102400,
    "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
    "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
    "n_shared_experts": 2, "n_routed_experts": 64, "routed_scaling_factor": 1.0,
    "q_lora_rank": None, "topk_method": "greedy", "n_group": 1, "topk_group": 1,
    "num_experts_per_tok": 6, "first_k_dense_replace": 1, "norm_topk_prob": False,
    "scoring_func": "softmax", "num_nextn_predict_layers": None, "quantization_config": None,
    "rope_scaling": DEEPSEEK_V3["rope_scaling"] | {"mscale": 0.707, "mscale_all_dim": 0.707},
}  # fmt: skip
PUBLISHED = {
    "qwen2": QWEN2, "llama": LLAMA, "qwen3": QWEN3, "deepseek_v3": DEEPSEEK_V3,
    "deepseek_v2_lite": DEEPSEEK_V2_LITE,
}  # fmt: skip


def test_every_size_of_qwen2p5_0p5b_lands_where_it_belongs():
    assert hf_config.from_hf(QWEN2) == model_config.ModelConfig(
        vocab_size=151936, num_layers=24, embed_dim=896, num_heads=14, num_kv_heads=2, head_dim=64,
        mlp_dim=4864, qkv_bias=True, tied_embeddings=True, rope_theta=1e6, norm_epsilon=1e-6,
    )  # fmt: skip


def test_llama_3p1_s_rotary_scaling_and_widths():
    found = hf_config.from_hf(LLAMA)
    assert found.llama3_rope == model_config.Llama3Rope(8.0, 8192, 1.0, 4.0)
    assert (found.head_dim, found.qkv_bias, found.tied_embeddings) == (128, False, False)
    assert (found.norm_epsilon, found.rope_theta) == (1e-5, 5e5)


def test_deepseek_v3_s_latents_experts_and_yarn():
    found = hf_config.from_hf(DEEPSEEK_V3)
    assert found.latent == model_config.Latent(512, 1536, 128, 64, 128)
    assert found.yarn == model_config.Yarn(40, 4096, 32, 1, 1, 1)
    assert found.experts == model_config.Experts(
        256, 8, 2048, 1, 3, 8, 4, "sigmoid", normalise=True, scale=2.5
    )
    assert (found.head_dim, found.num_kv_heads, found.mlp_dim) == (192, 128, 18432)


def test_deepseek_v2_lite_has_direct_queries_and_one_group():
    found = hf_config.from_hf(DEEPSEEK_V2_LITE)
    assert found.latent is not None and found.latent.query_rank == 0
    assert found.yarn == model_config.Yarn(40, 4096, 32, 1, 0.707, 0.707)
    assert found.experts == model_config.Experts(
        64, 6, 1408, 2, 1, 1, 1, "softmax", normalise=False, scale=1.0
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_out_and_in_again_is_the_same_model(name):
    config = hf_config.from_hf(PUBLISHED[name])
    theirs = hf_config.to_hf(config)
    assert hf_config.from_hf(theirs) == config
    for field in theirs.keys() & PUBLISHED[name].keys() - {"rope_scaling"}:
        if field != "num_nextn_predict_layers":
            assert theirs[field] == PUBLISHED[name][field], field


def test_newer_spelling_is_read_too():
    newer = {k: v for k, v in LLAMA.items() if k not in ("rope_theta", "rope_scaling")}
    newer["rope_parameters"] = LLAMA["rope_scaling"] | {"rope_theta": 500000.0}
    newer["layer_types"] = ["full_attention"] * 32
    assert hf_config.from_hf(newer) == hf_config.from_hf(LLAMA)
    with pytest.raises(ValueError, match="rope_parameters and rope_scaling; one must go"):
        hf_config.from_hf(newer | {"rope_scaling": LLAMA["rope_scaling"]})


def test_an_export_carries_what_it_is_given_and_nothing_of_a_quantisation():
    carried = {k: v for k, v in DEEPSEEK_V3.items() if k in hf_config.CARRIED}
    theirs = hf_config.to_hf(hf_config.from_hf(DEEPSEEK_V3), carried)
    assert theirs["eos_token_id"] == 1 and theirs["max_position_embeddings"] == 163840
    assert "quantization_config" not in theirs and theirs["num_nextn_predict_layers"] == 0
    with pytest.raises(ValueError, match="hidden_size: made from the model"):
        hf_config.to_hf(hf_config.from_hf(QWEN2), {"hidden_size": 3})


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (QWEN2, {"model_type": "mamba"}, "model_type='mamba' is not one of qwen2, qwen3, llama"),
        (QWEN2, {"model_type": None}, "model_type=None is not one of"),
        (QWEN2, {"architectures": ["Qwen2ForSequenceClassification"]}, r"architectures=\['Qwen2F"),
        (QWEN2, {"use_sliding_window": True}, "use_sliding_window=True is not honoured"),
        (QWEN2, {"use_mrope": True}, "use_mrope=True is not honoured"),
        (QWEN2, {"hidden_act": "gelu"}, "hidden_act='gelu' is not honoured"),
        (QWEN2, {"logit_softcap": 30.0}, r"logit_softcap=30\.0 is a field that nobody"),
        (QWEN2, {"hidden_size": None}, "lacks hidden_size"),
        (QWEN2, {"hidden_size": "896"}, "hidden_size='896' is not a float"),
        (QWEN2, {"num_key_value_heads": 3}, "num_heads=14 is not a multiple"),
        (QWEN2, {"layer_types": ["sliding_attention"] * 24}, "only full_attention"),
        (QWEN2, {"rope_scaling": {"type": "linear", "factor": 2}}, "type 'linear' is not one of"),
        (QWEN3, {"head_dim": None}, "lacks head_dim"),
        (QWEN3, {"attention_bias": True}, "attention_bias=True is not honoured"),
        (LLAMA, {"mlp_bias": True}, "mlp_bias=True is not honoured"),
        (LLAMA, {"attention_dropout": 0.1}, r"attention_dropout=0\.1 is not honoured"),
        (
            LLAMA,
            {"rope_scaling": LLAMA["rope_scaling"] | {"attention_factor": 2}},
            "attention_factor=2 is a field",
        ),
        (DEEPSEEK_V3, {"scoring_func": "softmax"}, "scoring_func='softmax' is not honoured"),
        (DEEPSEEK_V3, {"rope_interleave": False}, "rope_interleave=False is not honoured"),
        (DEEPSEEK_V3, {"moe_layer_freq": 2}, "moe_layer_freq=2 is not honoured"),
        (DEEPSEEK_V3, {"topk_group": 9}, "groups_kept=9 is more than num_groups=8"),
        (DEEPSEEK_V2_LITE, {"norm_topk_prob": True}, "norm_topk_prob=True is not honoured"),
        (
            DEEPSEEK_V3,
            {"rope_scaling": DEEPSEEK_V3["rope_scaling"] | {"mscale_all_dim": 0}},
            "mscale and mscale_all_dim go together",
        ),
    ],
)
def test_what_is_not_honoured_is_one_error_that_names_it(base, changes, message):
    with pytest.raises(ValueError, match=message):
        hf_config.from_hf(base | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qk_norm": True}, "qkv_bias together with qk_norm"),
        (
            {"qkv_bias": False, "yarn": model_config.Yarn(mscale=0.5)},
            "yarn.mscale without",
        ),
        ({"experts": model_config.Experts(first_dense=1)}, "latent attention without experts, or"),
    ],
)
def test_a_model_that_no_format_knows_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        hf_config.to_hf(model_config.ModelConfig(**changes))


COUNTS = {  # R1_FACTS 7.3: L, d, MLP, heads, kv heads, vocabulary, tied, parameters
    "Qwen2.5-0.5B": (24, 896, 4864, 14, 2, 151936, True, 494_032_768),
    "Qwen2.5-3B": (36, 2048, 11008, 16, 2, 151936, True, 3_085_938_688),
    "Qwen2.5-32B": (64, 5120, 27648, 40, 8, 152064, False, 32_763_876_352),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes_have_the_published_number_of_parameters(name):
    layers, width, mlp, heads, kv, vocab, tied, count = COUNTS[name]
    config = hf_config.from_hf(
        QWEN2 | {
            "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": mlp,
            "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocab,
            "tie_word_embeddings": tied,
        }
    )  # fmt: skip
    total = 0
    for place in hf_weights.places(config).values():
        size = 1
        for n in place.hf_shape:
            size *= n
        total += size
    assert total == count


def test_a_config_survives_the_manifest():
    config = hf_config.from_hf(DEEPSEEK_V3)
    assert build.build(model_config.ModelConfig, build.to_dict(config)) == config
