"""The model of the measurement as transformers has it, with random weights, and its tokenizer."""

import pathlib

import tokenizers
import torch
import transformers

from bench import work as works


def config(work: works.Work) -> transformers.Qwen2Config:
    return transformers.Qwen2Config(
        vocab_size=work.vocab_size,
        hidden_size=work.embed_dim,
        intermediate_size=work.mlp_dim,
        num_hidden_layers=work.num_layers,
        num_attention_heads=work.num_heads,
        num_key_value_heads=work.num_kv_heads,
        max_position_embeddings=work.prompt_length + work.response_length,
        rope_parameters={"rope_type": "default", "rope_theta": work.rope_theta},
        rms_norm_eps=work.norm_epsilon,
        initializer_range=work.init_std,
        tie_word_embeddings=True,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        dtype="float32",
    )


def model(work: works.Work) -> transformers.Qwen2ForCausalLM:
    """Random float32 weights from seed 0."""
    torch.manual_seed(0)
    made = transformers.Qwen2ForCausalLM._from_config(config(work), attn_implementation="sdpa")
    assert made.dtype == torch.float32
    assert made.lm_head.weight is made.model.embed_tokens.weight
    return made


def tokenizer(work: works.Work) -> transformers.PreTrainedTokenizerFast:
    """Ids as decimal numbers; end and padding are ids above the model's, which it cannot draw."""
    vocab = {str(i): i for i in range(work.vocab_size)}
    vocab |= {"<end>": work.vocab_size, "<pad>": work.vocab_size + 1}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<end>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", pad_token="<pad>", padding_side="left"
    )


def save(work: works.Work, folder: str) -> None:
    """A folder that `from_pretrained` reads: for trainers that load a reference policy by name."""
    made = model(work)
    made.save_pretrained(folder)
    tokenizer(work).save_pretrained(folder)
    assert (pathlib.Path(folder) / "config.json").exists()
