"""Every tensor of theirs has one place in ours, the layouts agree by hand, odd ones are named."""

import dataclasses

import numpy as np
import pytest

from r1_jax.interop import hf_config, hf_files, hf_weights
from r1_jax.models import config as model_config
from tests.interop import tiny


def _config(**changes) -> model_config.ModelConfig:
    config = hf_config.from_hf(tiny.QWEN2 | {"tie_word_embeddings": True})
    return dataclasses.replace(config, **changes)


@pytest.mark.parametrize("tied", [True, False])
def test_names_and_shapes_are_those_of_qwen2(tied):
    found = hf_weights.places(_config(tied_embeddings=tied))
    assert {name: place.hf_shape for name, place in found.items()} == tiny.qwen2_shapes(tied=tied)


def test_places_cover_all_parameters_once():
    config = _config(tied_embeddings=False)
    taken = {leaf: np.zeros(shape, int) for leaf, shape in hf_weights.shapes(config).items()}
    for place in hf_weights.places(config).values():
        taken[place.leaf][place.at] += 1
    assert all((count == 1).all() for count in taken.values())


def test_layouts_agree_feature_by_feature(tmp_path):
    tensors = tiny.qwen2(tmp_path, "float32", tied=False)
    config = _config(tied_embeddings=False)
    checkpoint = hf_files.Checkpoint(tmp_path, {})
    wanted = hf_weights.plan(config, checkpoint)
    ours = {}
    for leaf in hf_weights.leaves(wanted, checkpoint, config):
        flat = np.concatenate([piece.reshape(-1) for piece in leaf.pieces])
        ours[leaf.name] = flat.reshape(leaf.shape)
        assert leaf.dtype == np.float32
    d, head, h, layer = 5, 2, 4, 1
    block = f"model.layers.{layer}."
    query = ours["layers/block/attention/query/kernel"][layer, d, head, h]
    assert query == tensors[block + "self_attn.q_proj.weight"][head * tiny.H + h, d]
    out = ours["layers/block/attention/out/kernel"][layer, head, h, d]
    assert out == tensors[block + "self_attn.o_proj.weight"][d, head * tiny.H + h]
    bias = ours["layers/block/attention/query/bias"][layer, head, h]
    assert bias == tensors[block + "self_attn.q_proj.bias"][head * tiny.H + h]
    down = ours["layers/block/mlp/down/kernel"][layer, 13, d]
    assert down == tensors[block + "mlp.down_proj.weight"][d, 13]
    norm = ours["layers/block/mlp_norm/scale"][layer, d]
    assert norm == tensors[block + "post_attention_layernorm.weight"][d]
    assert ours["head"][d, 200] == tensors["lm_head.weight"][200, d]
    assert ours["embedding"][200, d] == tensors["model.embed_tokens.weight"][200, d]


def test_large_matrices_are_turned_in_pieces(monkeypatch):
    monkeypatch.setattr(hf_weights, "_PIECE", 100)
    matrix = np.arange(7 * 11, dtype=np.float32).reshape(7, 11)
    pieces = list(hf_weights._turned(matrix))
    assert len(pieces) > 2 and max(piece.nbytes for piece in pieces) <= 100
    np.testing.assert_array_equal(np.concatenate(pieces), matrix.T)


def _lose(tensors):
    del tensors["model.layers.2.mlp.up_proj.weight"], tensors["model.norm.weight"]


def _add(tensors):
    tensors["model.layers.0.self_attn.o_proj.bias"] = np.zeros(3, np.float32)


def _turn(tensors):
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].T.copy()


def _mtp(tensors):
    tensors["model.layers.3.eh_proj.weight"] = np.zeros((2, 2), np.float32)


def _other_head(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lose, r"lacks model\.norm\.weight, model\.layers\.2\.mlp\.up_proj\.weight$"),
        (_add, r"has, and nothing reads, model\.layers\.0\.self_attn\.o_proj\.bias$"),
        (_turn, r"model\.layers\.0\.mlp\.up_proj\.weight has shape \[12, 20\], .* \[20, 12\]"),
        (_mtp, r"1 tensors are of multi-token prediction \(model\.layers\.3\.eh.*--drop_mtp"),
        (_other_head, r"says tie_word_embeddings, but lm_head\.weight is not"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, message):
    tensors = tiny.qwen2(tmp_path)
    change(tensors)
    tiny.save(tmp_path, tensors)
    checkpoint = hf_files.Checkpoint(tmp_path, {"num_nextn_predict_layers": 1})
    with pytest.raises(ValueError, match=message):
        hf_weights.plan(_config(), checkpoint)
    if change is _mtp:
        plan = hf_weights.plan(_config(), checkpoint, drop_mtp=True)
        assert plan.keys() == tiny.qwen2_shapes(tied=True).keys()


def test_a_head_that_repeats_the_embedding_is_not_read_twice(tmp_path):
    tensors = tiny.qwen2(tmp_path)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tiny.save(tmp_path, tensors)
    plan = hf_weights.plan(_config(), hf_files.Checkpoint(tmp_path, {}))
    assert plan.keys() == tiny.qwen2_shapes(tied=True).keys()


def test_layers_of_several_types_become_float32(tmp_path):
    tensors = tiny.qwen2(tmp_path)
    name = "model.layers.1.input_layernorm.weight"
    tensors[name] = tensors[name].astype(np.float32)
    tiny.save(tmp_path, tensors)
    checkpoint = hf_files.Checkpoint(tmp_path, {})
    wanted = hf_weights.plan(_config(), checkpoint)
    kinds = {
        leaf.name: leaf.dtype.name for leaf in hf_weights.leaves(wanted, checkpoint, _config())
    }
    assert kinds.pop("layers/block/attention_norm/scale") == "float32"
    assert set(kinds.values()) == {"bfloat16"}


def test_parameters_of_another_model_are_refused():
    config = _config()
    params = {"embedding": np.zeros((3, 3), np.float32)}
    with pytest.raises(ValueError, match="not those of the model's config: embedding, final_norm"):
        hf_weights.tensors(hf_weights.InMemory(params), config)


def _deepseek(monkeypatch):
    """(config, its shapes, their tensors), both written down by hand: one dense layer, two not."""
    config = _config(
        tied_embeddings=False,
        num_heads=2,
        num_kv_heads=2,
        qkv_bias=False,
        head_dim=6,
        latent=model_config.Latent(rank=8, query_rank=5, nope_dim=4, rope_dim=2, value_dim=3),
        experts=model_config.Experts(4, 2, 7, 1, 1, 1, 1),
    )
    ours = {"embedding": (301, 12), "head": (12, 301), "final_norm/scale": (12,)}
    for stack, num in (("dense_layers", 1), ("layers", 2)):
        inside = {
            "attention_norm/scale": (12,), "mlp_norm/scale": (12,),
            "attention/query_down/kernel": (12, 5), "attention/query_norm/scale": (5,),
            "attention/query_up/kernel": (5, 2, 6), "attention/latent_down/kernel": (12, 10),
            "attention/latent_norm/scale": (8,), "attention/latent_up/kernel": (8, 2, 7),
            "attention/out/kernel": (2, 3, 12),
        }  # fmt: skip
        inside |= {
            "mlp/gate/kernel": (12, 20), "mlp/up/kernel": (12, 20), "mlp/down/kernel": (20, 12),
        } if num == 1 else {
            "experts/router/kernel": (12, 4), "experts/router/bias": (4,),
            "experts/gate": (4, 12, 7), "experts/up": (4, 12, 7), "experts/down": (4, 7, 12),
            "experts/shared/gate/kernel": (12, 7), "experts/shared/up/kernel": (12, 7),
            "experts/shared/down/kernel": (7, 12),
        }  # fmt: skip
        ours |= {f"{stack}/block/{name}": (num, *shape) for name, shape in inside.items()}
    theirs = {
        "model.embed_tokens.weight": (301, 12), "lm_head.weight": (301, 12),
        "model.norm.weight": (12,),
    }  # fmt: skip
    for i in range(3):
        layer = {
            "input_layernorm.weight": (12,), "post_attention_layernorm.weight": (12,),
            "self_attn.q_a_proj.weight": (5, 12), "self_attn.q_a_layernorm.weight": (5,),
            "self_attn.q_b_proj.weight": (12, 5), "self_attn.kv_a_layernorm.weight": (8,),
            "self_attn.kv_a_proj_with_mqa.weight": (10, 12),
            "self_attn.kv_b_proj.weight": (14, 8), "self_attn.o_proj.weight": (12, 6),
        }  # fmt: skip
        wide = {"gate_proj.weight": (7, 12), "up_proj.weight": (7, 12), "down_proj.weight": (12, 7)}
        if i == 0:
            layer |= {
                "mlp.gate_proj.weight": (20, 12), "mlp.up_proj.weight": (20, 12),
                "mlp.down_proj.weight": (12, 20),
            }  # fmt: skip
        else:
            layer |= {"mlp.gate.weight": (4, 12), "mlp.gate.e_score_correction_bias": (4,)}
            for part in ("shared_experts", *(f"experts.{e}" for e in range(4))):
                layer |= {f"mlp.{part}.{name}": shape for name, shape in wide.items()}
        theirs |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    monkeypatch.setattr(hf_weights, "shapes", lambda _: ours)
    return config, ours, theirs


def test_names_and_shapes_are_those_of_deepseek_v3(monkeypatch):
    config, ours, theirs = _deepseek(monkeypatch)
    found = hf_weights.places(config)
    assert {name: place.hf_shape for name, place in found.items()} == theirs
    assert found["model.layers.2.mlp.experts.3.up_proj.weight"].at == (1, 3)
    assert found["model.layers.0.mlp.up_proj.weight"].leaf == "dense_layers/block/mlp/up/kernel"
    taken = {leaf: np.zeros(shape, int) for leaf, shape in ours.items()}
    for place in found.values():
        taken[place.leaf][place.at] += 1
    assert all((count == 1).all() for count in taken.values())


def test_rounding_spares_the_router_s_bias(monkeypatch):
    config, ours, _ = _deepseek(monkeypatch)
    params = {name: np.zeros(shape, np.float32) for name, shape in ours.items()}
    found = hf_weights.tensors(hf_weights.InMemory(params), config, "bfloat16")
    kept = {tensor.name for tensor in found if tensor.dtype == np.float32}
    assert kept == {f"model.layers.{i}.mlp.gate.e_score_correction_bias" for i in (1, 2)}
