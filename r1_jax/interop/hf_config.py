"""Hugging Face config.json <-> ModelConfig: what is not honoured is an error, not a guess.

Read are the older spelling (rope_theta and rope_scaling) and that of transformers 5
(rope_parameters); written is the older one, which every reader knows.
"""

from collections.abc import Mapping
from typing import Any

from r1_jax.models import config as model_config

ARCHITECTURES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
}
"""model_type -> the class that config.json names, for the families that are known."""

_DEEPSEEK = ("deepseek_v2", "deepseek_v3")

CARRIED = frozenset(
    "architectures model_type transformers_version torch_dtype dtype use_cache _name_or_path "
    "auto_map bos_token_id eos_token_id pad_token_id max_position_embeddings max_window_layers "
    "sliding_window aux_loss_alpha seq_aux ep_size output_router_logits quantization_config "
    "num_nextn_predict_layers num_mtp_layers".split()
)
"""Fields that change no logits, or are read elsewhere (hf_weights): an export gives them back."""

_HELD = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False,),
    "use_mrope": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "attention_dropout": (0, 0.0),
    "pretraining_tp": (1,),
    "moe_layer_freq": (1,),
    "rope_interleave": (True,),
}
"""Field -> the values under which the model is ours; absent or null is the first one."""

_NAMES = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "embed_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
}
_LATENT = {
    "rank": "kv_lora_rank",
    "nope_dim": "qk_nope_head_dim",
    "rope_dim": "qk_rope_head_dim",
    "value_dim": "v_head_dim",
}
_EXPERTS = {
    "num_routed": "n_routed_experts",
    "num_chosen": "num_experts_per_tok",
    "dim": "moe_intermediate_size",
    "num_shared": "n_shared_experts",
    "first_dense": "first_k_dense_replace",
    "scale": "routed_scaling_factor",
}
_LLAMA3 = {
    "factor": "factor",
    "original_length": "original_max_position_embeddings",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
}
_YARN = {
    "factor": "factor",
    "original_length": "original_max_position_embeddings",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
}


class _Fields:
    """A mapping that is used up: what is left when all is read is not honoured."""

    def __init__(self, mapping: Mapping[str, Any], where: str):
        self._left = {name: value for name, value in mapping.items() if value is not None}
        self._where = where

    def take(self, name: str, default: Any = None) -> Any:
        """The value of a field; without a default it must be there."""
        if name not in self._left and default is None:
            raise ValueError(f"{self._where} lacks {name}, which says what model it is")
        return self._left.pop(name, default)

    def number(self, name: str, kind: type, default: Any = None) -> Any:
        value = self.take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or kind(value) != value:
            raise ValueError(f"{self._where}: {name}={value!r} is not a {kind.__name__}")
        return kind(value)

    def numbers(self, names: Mapping[str, str]) -> dict[str, Any]:
        """{our name: number} of fields that must be there; ints stay ints."""
        found = {ours: self.number(theirs, float) for ours, theirs in names.items()}
        return {ours: int(x) if x.is_integer() else x for ours, x in found.items()}

    def hold(self, name: str, allowed: tuple[Any, ...]) -> None:
        """Raises ValueError unless the field has one of the `allowed` values or is absent."""
        value = self._left.pop(name, allowed[0])
        if value not in allowed or type(value) not in {type(x) for x in allowed}:
            known = " or ".join(map(repr, allowed))
            raise ValueError(f"{self._where}: {name}={value!r} is not honoured here, only {known}")

    def finish(self) -> None:
        if self._left:
            name, value = next(iter(self._left.items()))
            raise ValueError(
                f"{self._where}: {name}={value!r:.80} is a field that nobody here reads"
            )


def from_hf(mapping: Mapping[str, Any]) -> model_config.ModelConfig:
    """The ModelConfig of a config.json, read as JSON; compute_dtype and remat keep defaults.

    Raises ValueError naming the architecture or the field that is unknown, missing or not honoured.
    """
    family = mapping.get("model_type")
    if family not in ARCHITECTURES:
        raise ValueError(
            f"config.json: model_type={family!r} is not one of {', '.join(ARCHITECTURES)}"
        )
    named = mapping.get("architectures") or [ARCHITECTURES[family]]
    if named != [ARCHITECTURES[family]]:
        raise ValueError(
            f"config.json: architectures={named!r} with model_type={family!r}; only "
            f"{ARCHITECTURES[family]} is known"
        )
    fields = _Fields({k: v for k, v in mapping.items() if k not in CARRIED}, "config.json")
    for name, allowed in _HELD.items():
        fields.hold(name, allowed)
    ours = fields.numbers(_NAMES)
    ours["tied_embeddings"] = bool(fields.take("tie_word_embeddings", False))
    ours["norm_epsilon"] = fields.number("rms_norm_eps", float, 1e-6)
    ours["init_std"] = fields.number("initializer_range", float, 0.02)
    ours["qkv_bias"] = family == "qwen2"
    ours["qk_norm"] = family == "qwen3"
    ours["num_kv_heads"] = fields.number("num_key_value_heads", int, ours["num_heads"])
    ours |= _rope(fields)
    layers = fields.take("layer_types", ["full_attention"] * ours["num_layers"])
    if layers != ["full_attention"] * ours["num_layers"]:
        raise ValueError(f"config.json: layer_types={layers!r:.80}; only full_attention is known")
    if family in _DEEPSEEK:
        ours |= _deepseek(fields, family)
    else:
        default = None if family == "qwen3" else ours["embed_dim"] // ours["num_heads"]
        ours["head_dim"] = fields.number("head_dim", int, default)
    fields.finish()
    try:
        return model_config.ModelConfig(**ours)
    except ValueError as error:
        raise ValueError(f"config.json: {error}") from error


def _rope(fields: _Fields) -> dict[str, Any]:
    """rope_theta, and llama3_rope or yarn where frequencies are scaled."""
    newer = fields.take("rope_parameters", {})
    older = fields.take("rope_scaling", {})
    if newer and older:
        raise ValueError("config.json has rope_parameters and rope_scaling; one must go")
    given = _Fields(newer or older, "config.json: rope_parameters" if newer else "rope_scaling")
    theta = (given if newer else fields).number("rope_theta", float, 10_000.0)
    kind = given.take("rope_type", "") or given.take("type", "default")
    given.take("type", "")  # some files have both
    found: dict[str, Any] = {"rope_theta": theta}
    if kind == "llama3":
        found["llama3_rope"] = model_config.Llama3Rope(**given.numbers(_LLAMA3))
    elif kind == "yarn":
        numbers = given.numbers({k: _YARN[k] for k in ("factor", "original_length")})
        numbers["beta_fast"] = given.number("beta_fast", float, 32.0)
        numbers["beta_slow"] = given.number("beta_slow", float, 1.0)
        mscale, all_dim = (
            given.number("mscale", float, 0.0),
            given.number("mscale_all_dim", float, 0.0),
        )
        if bool(mscale) != bool(all_dim):
            raise ValueError("rope_scaling: mscale and mscale_all_dim go together, or not at all")
        numbers |= {"mscale": mscale or 1.0, "mscale_all_dim": all_dim}
        found["yarn"] = model_config.Yarn(**numbers)
    elif kind != "default":
        raise ValueError(f"rope_scaling: type {kind!r} is not one of default, llama3, yarn")
    given.finish()
    return found


def _deepseek(fields: _Fields, family: str) -> dict[str, Any]:
    """Latent attention and experts."""
    query_rank = fields.take("q_lora_rank", 0)
    latent = model_config.Latent(query_rank=query_rank, **fields.numbers(_LATENT))
    head_dim = latent.nope_dim + latent.rope_dim
    # transformers 5 writes these down, though they follow from the others
    fields.hold("qk_head_dim", (head_dim,))
    fields.hold("head_dim", (latent.rope_dim,))
    is_v3 = family == "deepseek_v3"
    numbers = fields.numbers({k: v for k, v in _EXPERTS.items() if k != "scale"})
    scale = fields.number("routed_scaling_factor", float, 1.0)
    fields.hold("scoring_func", ("sigmoid" if is_v3 else "softmax",))
    if is_v3:
        fields.hold("topk_method", ("noaux_tc",))
        normalise = bool(fields.take("norm_topk_prob", True))
        groups, kept = fields.number("n_group", int, 1), fields.number("topk_group", int, 1)
    else:  # the published code scales or normalises, never both
        fields.hold("norm_topk_prob", (False,))
        normalise = False
        groups, kept = fields.number("n_group", int, 1), fields.number("topk_group", int, 1)
        method = fields.take("topk_method", "greedy")
        if method not in ("greedy", "group_limited_greedy"):
            raise ValueError(f"config.json: topk_method={method!r} is not honoured here")
        if method == "greedy":
            groups = kept = 1
    experts = model_config.Experts(
        **numbers, num_groups=groups, groups_kept=kept, normalise=normalise, scale=scale,
        scoring="sigmoid" if is_v3 else "softmax",
    )  # fmt: skip
    dense = {"head_dim": head_dim, "latent": latent, "experts": experts}
    return dense


def family_of(config: model_config.ModelConfig) -> str:
    """The model_type as which `config` can be written; ValueError when there is none."""
    c = config
    if c.latent is not None and c.experts is not None:
        return "deepseek_v3" if c.experts.scoring == "sigmoid" else "deepseek_v2"
    if c.latent is not None or c.experts is not None:
        raise ValueError("latent attention without experts, or the reverse, has no known format")
    if c.qkv_bias and c.qk_norm:
        raise ValueError("qkv_bias together with qk_norm has no known format")
    return "qwen2" if c.qkv_bias else "qwen3" if c.qk_norm else "llama"


def to_hf(config: model_config.ModelConfig, carried: Mapping[str, Any] = {}) -> dict[str, Any]:
    """config.json of `config`; `carried` are fields of CARRIED, such as ids and longest position.

    Of those a quantisation is left out, which an export does not have, and the number of prediction
    layers, which is the model's own.
    Raises ValueError when no known family has this shape.
    """
    family = family_of(config)
    unknown = sorted(carried.keys() - CARRIED)
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: made from the model, not carried over")
    theirs: dict[str, Any] = {"architectures": [ARCHITECTURES[family]], "model_type": family}
    theirs |= {name: getattr(config, ours) for ours, name in _NAMES.items()}
    theirs |= {
        "num_key_value_heads": config.num_kv_heads,
        "tie_word_embeddings": config.tied_embeddings,
        "rms_norm_eps": config.norm_epsilon,
        "initializer_range": config.init_std,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
    }
    if config.llama3_rope:
        named = {name: getattr(config.llama3_rope, ours) for ours, name in _LLAMA3.items()}
        theirs["rope_scaling"] = {"rope_type": "llama3"} | named
    if config.yarn:
        named = {name: getattr(config.yarn, ours) for ours, name in _YARN.items()}
        if not config.yarn.mscale_all_dim:  # plain YaRN has no magnitudes of its own
            if config.yarn.mscale != 1:
                raise ValueError("yarn.mscale without yarn.mscale_all_dim has no known format")
            del named["mscale"], named["mscale_all_dim"]
        theirs["rope_scaling"] = {"type": "yarn", "rope_type": "yarn"} | named
        longest = int(config.yarn.factor * config.yarn.original_length)
        theirs["max_position_embeddings"] = longest
    if config.latent and config.experts:
        theirs |= {name: getattr(config.latent, ours) for ours, name in _LATENT.items()}
        theirs |= {name: getattr(config.experts, ours) for ours, name in _EXPERTS.items()}
        theirs |= _deepseek_choices(config.latent, config.experts)
    else:
        theirs["head_dim"] = config.head_dim
    if family in ("llama", "qwen3"):
        theirs["attention_bias"] = False
    if family == "llama":
        theirs["mlp_bias"] = False
    if family in ("qwen2", "qwen3"):
        theirs["use_sliding_window"] = False
    left_out = ("quantization_config", "num_nextn_predict_layers", "num_mtp_layers")
    kept = {k: v for k, v in carried.items() if k not in (*left_out, "architectures", "model_type")}
    if family == "deepseek_v3":
        theirs["num_nextn_predict_layers"] = config.mtp_layers
    elif config.mtp_layers:
        raise ValueError(f"mtp_layers=1 has no known format with model_type={family!r}")
    return theirs | kept


def _deepseek_choices(latent: model_config.Latent, experts: model_config.Experts) -> dict[str, Any]:
    is_v3 = experts.scoring == "sigmoid"
    if not is_v3 and experts.normalise:
        raise ValueError("experts.normalise with softmax scores has no known format")
    grouped = experts.num_groups > 1
    return {
        "q_lora_rank": latent.query_rank or None,
        "n_group": experts.num_groups,
        "topk_group": experts.groups_kept,
        "norm_topk_prob": experts.normalise,
        "scoring_func": experts.scoring,
        "topk_method": "noaux_tc" if is_v3 else "group_limited_greedy" if grouped else "greedy",
        "moe_layer_freq": 1,
        "attention_bias": False,
    }
