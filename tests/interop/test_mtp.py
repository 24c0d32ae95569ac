"""The layer of multi-token prediction, as DeepSeek-V3 stores it: in, out, left out, refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from r1_jax.interop import convert, hf_config, hf_files, hf_weights
from tests.interop import tiny
from tests.models import tiny as models

CONFIG = dataclasses.replace(models.DEEPSEEK, vocab_size=301, mtp_layers=1)
LAYER = "model.layers.3."


def _stored() -> dict[str, tuple[int, ...]]:
    """What layer 61 of the published checkpoints holds, written down by hand for these sizes."""
    D, N, E, F, V = 32, 4, 8, 20, 301
    found = {
        "embed_tokens.weight": (V, D),
        "enorm.weight": (D,),
        "hnorm.weight": (D,),
        "eh_proj.weight": (D, 2 * D),
        "shared_head.norm.weight": (D,),
        "shared_head.head.weight": (V, D),
        "input_layernorm.weight": (D,),
        "post_attention_layernorm.weight": (D,),
        "self_attn.q_a_proj.weight": (18, D),
        "self_attn.q_a_layernorm.weight": (18,),
        "self_attn.q_b_proj.weight": (N * 10, 18),
        "self_attn.kv_a_proj_with_mqa.weight": (12 + 4, D),
        "self_attn.kv_a_layernorm.weight": (12,),
        "self_attn.kv_b_proj.weight": (N * (6 + 14), 12),
        "self_attn.o_proj.weight": (D, N * 14),
        "mlp.gate.weight": (E, D),
        "mlp.gate.e_score_correction_bias": (E,),
    }
    for expert in (*(f"experts.{e}" for e in range(E)), "shared_experts"):
        for part in ("gate", "up"):
            found[f"mlp.{expert}.{part}_proj.weight"] = (F, D)
        found[f"mlp.{expert}.down_proj.weight"] = (D, F)
    return {LAYER + name: shape for name, shape in found.items()}


@pytest.fixture
def stored(tmp_path):
    """(folder of a model with the layer, its tensors, our parameters it was made of)."""
    params = models.params(CONFIG)
    tensors = hf_weights.tensors(hf_weights.InMemory(params), CONFIG)
    arrays = {
        t.name: np.concatenate([p.reshape(-1) for p in t.pieces()]).reshape(t.shape)
        for t in tensors
    }
    tiny.save(tmp_path / "hf", arrays)
    theirs = hf_config.to_hf(CONFIG, {"torch_dtype": "float32"})
    (tmp_path / "hf" / "config.json").write_text(json.dumps(theirs))
    tiny.tokenizer_files(tmp_path / "hf", 300)
    return tmp_path / "hf", arrays, params


def test_names_and_shapes_are_those_that_are_published(stored):
    _, arrays, params = stored
    found = {name: x.shape for name, x in arrays.items() if name.startswith(LAYER)}
    assert found == _stored()
    # the half that meets the embedding comes first, and what is shared is said twice
    join = params["mtp"]["join"]["kernel"]
    np.testing.assert_array_equal(arrays[LAYER + "eh_proj.weight"], join.T)
    for name, same in (("embed_tokens", "model.embed_tokens"), ("shared_head.head", "lm_head")):
        np.testing.assert_array_equal(arrays[f"{LAYER}{name}.weight"], arrays[f"{same}.weight"])
    np.testing.assert_array_equal(
        arrays[LAYER + "mlp.experts.5.down_proj.weight"],
        params["mtp"]["layer"]["experts"]["down"][5].T,
    )


def test_in_and_out_again_bit_for_bit(stored, tmp_path):
    hf, arrays, params = stored
    facts = convert.from_hf(hf, tmp_path / "ours")
    assert facts["config"]["model"]["mtp_layers"] == 1
    opened = convert.open_model(tmp_path / "ours")
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        np.testing.assert_array_equal(opened.source.read(name), x, err_msg=name)
    convert.to_hf(opened, tmp_path / "back")
    assert tiny.load(tmp_path / "back") == {n: tiny.bits(x) for n, x in arrays.items()}
    theirs = json.loads((tmp_path / "back" / "config.json").read_text())
    assert theirs["num_nextn_predict_layers"] == 1


def test_it_can_be_left_out_and_need_not_be_there(stored, tmp_path):
    hf, arrays, _ = stored
    facts = convert.from_hf(hf, tmp_path / "without", drop_mtp=True)
    assert facts["config"]["model"]["mtp_layers"] == 0
    # a file that was saved without it, whose config.json still speaks of it
    kept = {name: x for name, x in arrays.items() if not name.startswith(LAYER)}
    tiny.save(hf, kept)
    same = convert.from_hf(hf, tmp_path / "again")
    assert same["digest"] == facts["digest"]


def test_an_embedding_of_its_own_is_refused_and_a_missing_part_is_named(stored):
    hf, arrays, _ = stored
    name = LAYER + "embed_tokens.weight"
    tiny.save(hf, arrays | {name: arrays[name] + 1})
    checkpoint = hf_files.Checkpoint(hf, {"num_nextn_predict_layers": 1})
    with pytest.raises(ValueError, match=r"3\.embed_tokens\.weight is not model\.embed.*drop_mtp"):
        hf_weights.plan(CONFIG, checkpoint)
    # copies may be left out, the rest may not
    tiny.save(hf, {n: x for n, x in arrays.items() if n != name})
    checkpoint = hf_files.Checkpoint(hf, {"num_nextn_predict_layers": 1})
    assert hf_weights.plan(CONFIG, checkpoint).keys() == hf_weights.places(CONFIG).keys()
    tiny.save(hf, {n: x for n, x in arrays.items() if n != LAYER + "enorm.weight"})
    checkpoint = hf_files.Checkpoint(hf, {"num_nextn_predict_layers": 1})
    with pytest.raises(ValueError, match=r"lacks model\.layers\.3\.enorm\.weight$"):
        hf_weights.plan(CONFIG, checkpoint)
