"""Small models of Hugging Face's kind for tests: folders as they are published, made here."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "the quick brown fox jumps over the lazy dog, 1234 times",
    "pack my box with five dozen liquor jugs: (7 + 5) * 3 = 36",
    "un été à la mer, größer als 你好",
]


def tokenizer_files(folder: pathlib.Path, vocab_size: int, *, nfc: bool = False) -> None:
    """A byte-level BPE with three special tokens, trained here: tokenizer.json and settings."""
    tokens = tokenizers.Tokenizer(models.BPE())
    if nfc:
        tokens.normalizer = normalizers.NFC()
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=["<|end|>", "<|pad|>", "<|turn|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator(TEXTS * 3, trainer)
    tokens.add_tokens([tokenizers.AddedToken("<think>", special=False)])
    tokens.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|turn|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    generation = {"eos_token_id": [2, 0], "pad_token_id": 1, "temperature": 0.6, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))


def bits(array: np.ndarray) -> tuple:
    """What two arrays must share to be the same, bit for bit."""
    return array.shape, array.dtype.name, array.tobytes()


LAYERS, V, D, F, N, K, H = 3, 301, 12, 20, 3, 1, 6


def qwen2_shapes(*, tied: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen2.5, written down by hand: {name: [out, in] or [features]}."""
    found = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    for i in range(LAYERS):
        layer = {
            "input_layernorm.weight": (D,),
            "post_attention_layernorm.weight": (D,),
            "self_attn.q_proj.weight": (N * H, D),
            "self_attn.q_proj.bias": (N * H,),
            "self_attn.k_proj.weight": (K * H, D),
            "self_attn.k_proj.bias": (K * H,),
            "self_attn.v_proj.weight": (K * H, D),
            "self_attn.v_proj.bias": (K * H,),
            "self_attn.o_proj.weight": (D, N * H),
            "mlp.gate_proj.weight": (F, D),
            "mlp.up_proj.weight": (F, D),
            "mlp.down_proj.weight": (D, F),
        }
        found |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return found if tied else found | {"lm_head.weight": (V, D)}


QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": V,
    "hidden_size": D, "intermediate_size": F, "num_hidden_layers": LAYERS, "head_dim": H,
    "num_attention_heads": N, "num_key_value_heads": K, "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "rope_theta": 1e6, "initializer_range": 0.02, "attention_dropout": 0.0,
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 2,
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16", "use_cache": True,
    "transformers_version": "4.40.1", "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip


def qwen2(
    path: pathlib.Path, dtype="bfloat16", *, tied: bool = True, num_files: int = 1
) -> dict[str, np.ndarray]:
    """Writes such a model to `path` with random weights and a tokenizer; the tensors."""
    rng = np.random.default_rng(0)
    shapes = qwen2_shapes(tied=tied)
    tensors = {n: rng.normal(size=s).astype(jnp.dtype(dtype)) for n, s in shapes.items()}
    save(path, tensors, num_files)
    (path / "config.json").write_text(json.dumps(QWEN2 | {"tie_word_embeddings": tied}))
    tokenizer_files(path, 300)
    return tensors


def save(path: pathlib.Path, tensors: dict[str, np.ndarray], num_files: int = 1) -> None:
    """Writes `tensors` by the safetensors library, in one file or in several with an index."""
    path.mkdir(exist_ok=True, parents=True)
    if num_files == 1:
        safetensors.numpy.save_file(tensors, path / "model.safetensors", {"format": "pt"})
        return
    placed = {}
    for i in range(num_files):
        file = f"model-{i + 1:05d}-of-{num_files:05d}.safetensors"
        names = sorted(tensors)[i::num_files]
        safetensors.numpy.save_file({name: tensors[name] for name in names}, path / file)
        placed |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 0}, "weight_map": placed}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def load(path: pathlib.Path) -> dict[str, tuple]:
    """{name: bits} of all safetensors in a folder, read by the library."""
    found = {}
    for file in sorted(path.glob("*.safetensors")):
        with safetensors.safe_open(file, framework="numpy") as opened:
            found |= {name: bits(opened.get_tensor(name)) for name in opened.keys()}
    return found
