"""Models come in, go out and are the same: names, bits, logits."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.checkpoints import folder, weights
from r1_jax.core import build, trees
from r1_jax.interop import convert, hf_weights
from r1_jax.models import config as model_config
from r1_jax.models import heads, transformer
from r1_jax.text import hf_tokenizer, tokenizer
from r1_jax.text import load as text_load
from tests.interop import tiny
from tests.models import parity
from tests.models import tiny as models


def _files(path: pathlib.Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir() if p.suffix != ".safetensors"}


# --- without torch ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "tied", "num_files"),
    [("bfloat16", True, 1), ("float32", False, 3), ("float16", True, 2)],
)
def test_theirs_to_ours_to_theirs_is_the_same_bit_for_bit(tmp_path, dtype, tied, num_files):
    tensors = tiny.qwen2(tmp_path / "hf", dtype, tied=tied, num_files=num_files)
    convert.from_hf(tmp_path / "hf", tmp_path / "ours")
    model = convert.open_model(tmp_path / "ours")
    convert.to_hf(model, tmp_path / "back", shard_bytes=5000)
    assert tiny.load(tmp_path / "back") == {n: tiny.bits(x) for n, x in tensors.items()}
    before, after = _files(tmp_path / "hf"), _files(tmp_path / "back")
    index = "model.safetensors.index.json"
    assert before.keys() - {index} == after.keys() - {index} and index in after
    for name in before.keys() - {index, "config.json"}:
        assert before[name] == after[name]
    theirs, back = (json.loads(found["config.json"]) for found in (before, after))
    assert back == theirs | {"torch_dtype": dtype}


def test_ours_to_theirs_to_ours_is_the_same_bit_for_bit(tmp_path):
    tiny.qwen2(tmp_path / "hf", tied=False)
    first = convert.from_hf(tmp_path / "hf", tmp_path / "ours")
    convert.to_hf(convert.open_model(tmp_path / "ours"), tmp_path / "out", shard_bytes=9000)
    second = convert.from_hf(tmp_path / "out", tmp_path / "again")
    assert first["leaves"] == second["leaves"] and first["digest"] == second["digest"]
    assert first["config"] == second["config"]
    assert first["tokenizer_digest"] == second["tokenizer_digest"]


def test_a_policy_with_a_tokenizer_of_theirs_goes_out_with_the_files_it_came_with(tmp_path):
    """What fine-tuning leaves: one weights file, and one file that holds all of the tokenizer's."""
    tiny.qwen2(tmp_path / "hf")
    convert.from_hf(tmp_path / "hf", tmp_path / "ours")
    opened = convert.open_model(tmp_path / "ours")
    tokens = text_load.load(tmp_path / "hf", opened.config.vocab_size)
    assert isinstance(tokens, hf_tokenizer.HuggingFaceTokenizer)
    facts = folder.Folder(tmp_path / "ours").manifest
    record = {name: facts[name] for name in ("commit", "config", "seed", "tokenizer_digest")}
    params = models.params(opened.config)
    weights.save_weights(tmp_path / "policy.safetensors", params, record)
    (tmp_path / "policy.model").write_bytes(tokens.model)
    convert.to_hf(convert.open_model(tmp_path / "policy.safetensors"), tmp_path / "out")
    before, after = _files(tmp_path / "hf"), _files(tmp_path / "out")
    assert before.keys() == after.keys()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert before[name] == after[name]
    assert json.loads(after["config.json"])["eos_token_id"] == tiny.QWEN2["eos_token_id"]


FAMILIES = {
    "qwen2": models.MODEL,
    "qwen2 tied": dataclasses.replace(models.MODEL, tied_embeddings=True),
    "qwen3": models.QWEN3,
    "llama": models.LLAMA3,
    "deepseek_v2": models.DEEPSEEK_V2,
    "deepseek_v3": models.DEEPSEEK,
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("qwen2", "float32"), ("qwen2 tied", "bfloat16"), ("qwen3", "bfloat16"),
        ("llama", "float32"), ("deepseek_v2", "bfloat16"), ("deepseek_v3", "float32"),
    ],
)  # fmt: skip
def test_every_family_goes_out_in_and_out_again_bit_for_bit(name, dtype, tmp_path):
    config = dataclasses.replace(FAMILIES[name], vocab_size=301)
    params = models.params(config)
    if dtype != "float32":
        # a router's bias is float32 whatever the rest is
        rounded = {
            path: x if path.endswith("router/bias") else jnp.asarray(x, dtype)
            for path, x in trees.paths(params).items()
        }
        params = jax.tree.unflatten(jax.tree.structure(params), list(rounded.values()))
    tiny.tokenizer_files(tmp_path, 300)
    beside = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    ours = hf_weights.InMemory(params)
    convert.to_hf(convert.Model(ours, config, beside), tmp_path / "theirs", shard_bytes=20_000)
    convert.from_hf(tmp_path / "theirs", tmp_path / "ours")
    model = convert.open_model(tmp_path / "ours")
    family = json.loads((tmp_path / "theirs" / "config.json").read_text())["model_type"]
    assert family == name.split()[0] and model.config == config
    assert model.source.leaves() == ours.leaves()
    for leaf in ours.leaves():
        assert tiny.bits(model.source.read(leaf)) == tiny.bits(ours.read(leaf)), leaf
    convert.to_hf(model, tmp_path / "again", shard_bytes=20_000)
    first, second = tiny.load(tmp_path / "theirs"), tiny.load(tmp_path / "again")
    assert first == second and len(first) > 10
    assert _files(tmp_path / "theirs") == _files(tmp_path / "again")


def test_a_base_made_here_goes_out_and_comes_in_again(tmp_path):
    texts = ["the quick brown fox jumps over the lazy dog " * 3, "pack my box with five dozen"]
    tokens = tokenizer.train_sentencepiece(texts, tmp_path / "base.model", 300)
    config = model_config.ModelConfig(
        vocab_size=300, num_layers=2, embed_dim=12, num_heads=2, num_kv_heads=1, head_dim=8,
        mlp_dim=10,
    )  # fmt: skip
    params = transformer.init(config, jax.random.key(0))
    facts = {
        "commit": "c", "seed": 0, "config": {"model": build.to_dict(config)},
        "tokenizer_digest": tokens.digest,
    }  # fmt: skip
    weights.save_weights(tmp_path / "base.safetensors", params, facts)
    convert.to_hf(convert.open_model(tmp_path / "base.safetensors"), tmp_path / "out")
    theirs = json.loads((tmp_path / "out" / "config.json").read_text())
    assert theirs["model_type"] == "qwen2" and theirs["eos_token_id"] is None
    manifest = convert.from_hf(tmp_path / "out", tmp_path / "again")
    assert manifest["tokenizer_digest"] == tokens.digest
    assert manifest["config"]["model"] == build.to_dict(config)
    again = folder.Folder(tmp_path / "again")
    stored = hf_weights.InMemory(params)
    for name in stored.leaves():
        assert tiny.bits(again.read(name)) == tiny.bits(stored.read(name))


def test_rounding_on_the_way_out_is_asked_for(tmp_path):
    tensors = tiny.qwen2(tmp_path / "hf", "float32")
    convert.from_hf(tmp_path / "hf", tmp_path / "ours")
    convert.to_hf(convert.open_model(tmp_path / "ours"), tmp_path / "out", dtype="bfloat16")
    rounded = {n: tiny.bits(x.astype(jnp.bfloat16)) for n, x in tensors.items()}
    assert tiny.load(tmp_path / "out") == rounded
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def _cut(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _unknown(path):
    _set(path, model_type="gpt_neox")


def _set(path, **changes):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def _grow(path):
    tiny.tokenizer_files(path, 320)


def _not_finite(path):
    tensors = tiny.qwen2(path)
    tensors["model.norm.weight"][3] = np.nan
    tiny.save(path, tensors)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, "model.safetensors is cut short"),
        (_unknown, "model_type='gpt_neox' is not one of"),
        (lambda path: _set(path, hidden_size=24), r"has shape \[301, 12\], .* \[301, 24\]"),
        (lambda path: _set(path, num_hidden_layers=4), r"lacks model\.layers\.3\."),
        (_grow, "has 320 ids, the model only vocab_size=301"),
        (lambda path: (path / "tokenizer.json").unlink(), "neither tokenizer.json nor"),
        (lambda path: (path / "tokenizer.json").write_text("{}"), "is no tokenizer.json"),
        (lambda path: _set(path, eos_token_id=301), "eos_token_id=301, which is no token"),
        (_not_finite, "final_norm/scale is not finite"),
        (lambda path: (path / "config.json").unlink(), "config.json: no such file"),
    ],
)
def test_bad_input_is_one_error_and_leaves_nothing(tmp_path, spoil, message):
    tiny.qwen2(tmp_path / "hf")
    spoil(tmp_path / "hf")
    with pytest.raises(ValueError, match=message) as error:
        convert.from_hf(tmp_path / "hf", tmp_path / "ours")
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["hf"]


def test_a_target_that_exists_is_left_alone_both_ways(tmp_path):
    tiny.qwen2(tmp_path / "hf")
    convert.from_hf(tmp_path / "hf", tmp_path / "ours")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("x")
    with pytest.raises(ValueError, match="there exists"):
        convert.from_hf(tmp_path / "hf", tmp_path / "there")
    with pytest.raises(ValueError, match="there exists"):
        convert.to_hf(convert.open_model(tmp_path / "ours"), tmp_path / "there")
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["mine"]


_CHILD = """
import pathlib, re, sys
from r1_jax.interop import convert
def peak():  # not ru_maxrss, which a child inherits from its parent
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024
import jax
jax.eval_shape(lambda: 0)
before = peak()
convert.from_hf(sys.argv[1], sys.argv[2])
come = peak()
convert.to_hf(convert.open_model(sys.argv[2]), sys.argv[3])
print(before, come, peak())
"""


@pytest.mark.slow
def test_two_gigabytes_are_converted_in_the_memory_of_a_tensor(tmp_path):
    names, V, D, F = {}, 32000, 2048, 8192
    config = tiny.QWEN2 | {
        "vocab_size": V, "hidden_size": D, "intermediate_size": F, "num_hidden_layers": 14,
        "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128,
        "tie_word_embeddings": False,
    }  # fmt: skip
    names["model.embed_tokens.weight"] = names["lm_head.weight"] = (V, D)
    names["model.norm.weight"] = (D,)
    for i in range(14):
        for name, shape in {
            "input_layernorm.weight": (D,), "post_attention_layernorm.weight": (D,),
            "self_attn.q_proj.weight": (D, D), "self_attn.q_proj.bias": (D,),
            "self_attn.k_proj.weight": (512, D), "self_attn.k_proj.bias": (512,),
            "self_attn.v_proj.weight": (512, D), "self_attn.v_proj.bias": (512,),
            "self_attn.o_proj.weight": (D, D), "mlp.gate_proj.weight": (F, D),
            "mlp.up_proj.weight": (F, D), "mlp.down_proj.weight": (D, F),
        }.items():  # fmt: skip
            names[f"model.layers.{i}.{name}"] = shape
    rng = np.random.default_rng(0)
    noise = rng.normal(size=V * D).astype(jnp.bfloat16)
    placed, shard, size, total = {}, {}, 0, 0
    (tmp_path / "hf").mkdir()
    files = 0
    for name, shape in names.items():
        shard[name] = np.ascontiguousarray(noise[: int(np.prod(shape))].reshape(shape))
        size += shard[name].nbytes
        total += shard[name].nbytes
        if size > 500_000_000 or name == list(names)[-1]:
            files += 1
            tiny.save(tmp_path / "part", shard)
            file = f"model-{files}.safetensors"
            (tmp_path / "part" / "model.safetensors").rename(tmp_path / "hf" / file)
            placed |= dict.fromkeys(shard, file)
            shard, size = {}, 0
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    tiny.tokenizer_files(tmp_path / "hf", 300)
    assert total > 1.9e9
    words = [str(tmp_path / name) for name in ("hf", "ours", "back")]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *words], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    before, come, gone = map(int, done.stdout.split())
    (tmp_path / "peak_mb").write_text(f"{before=} {come=} {gone=} for {total / 1e6:.0f} MB")
    largest = max(int(np.prod(shape)) for shape in names.values()) * 2 / 1e6
    assert gone - before < largest + 300 < 1200
    made = {re.sub(r"^.*/", "", str(p)) for p in (tmp_path / "back").glob("*.safetensors")}
    assert made == {"model.safetensors"}


# --- against transformers -----------------------------------------------------------------------


def _theirs(model, tokens_BT: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(tokens_BT)).logits.float().numpy()


def _ours(path: pathlib.Path, tokens_BT: np.ndarray) -> np.ndarray:
    opened = folder.Folder(path)
    config = build.build(model_config.ModelConfig, opened.manifest["config"]["model"])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: transformer.init(config, jax.random.key(0)))
    params = opened.load(jax.tree.map(lambda _: device, shapes))
    hidden_BTD, _ = transformer.forward(config, params, jnp.asarray(tokens_BT, jnp.int32))
    return np.asarray(heads.logits(hidden_BTD, heads.kernel(config, params)))


@pytest.mark.hf
@pytest.mark.parametrize("family", parity.FAMILIES)
def test_logits_are_those_of_transformers_on_the_way_in_and_out(family, tmp_path, monkeypatch):
    import transformers

    kind, settings = parity.FAMILIES[family]
    monkeypatch.setitem(parity.FAMILIES, family, (kind, settings | {"vocab_size": 301}))
    model, config, _ = parity.make(family)
    model.save_pretrained(tmp_path / "hf")
    tiny.tokenizer_files(tmp_path / "hf", 300)
    manifest = convert.from_hf(tmp_path / "hf", tmp_path / "ours")
    made = build.build(model_config.ModelConfig, manifest["config"]["model"])
    assert dataclasses.replace(made, init_std=config.init_std) == config
    tokens_BT = np.random.default_rng(0).integers(0, 301, (2, 37))
    expected, found = _theirs(model, tokens_BT), _ours(tmp_path / "ours", tokens_BT)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    convert.to_hf(convert.open_model(tmp_path / "ours"), tmp_path / "back", shard_bytes=30_000)
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "back",
        dtype="auto",
        output_loading_info=True,
        attn_implementation="eager",
        experts_implementation="eager",
    )
    assert not any(report.values()), report
    assert again.dtype == model.dtype
    np.testing.assert_array_equal(_theirs(again.eval(), tokens_BT), expected)
    tied = again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert tied == model.config.tie_word_embeddings == again.config.tie_word_embeddings
    assert tiny.load(tmp_path / "back") == tiny.load(tmp_path / "hf")
    assert len(list((tmp_path / "back").glob("*.safetensors"))) > 1
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert tokens.eos_token == "<|turn|>"
    assert again.generation_config.eos_token_id == [2, 0]
