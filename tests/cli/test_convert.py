"""`convert`: both ways from the command line; what cannot be done is one line."""

import types

import numpy as np
import pytest

from r1_jax.checkpoints import folder
from r1_jax.cli import convert
from r1_jax.interop import hf_config
from r1_jax.pipeline import policy
from r1_jax.text import hf_tokenizer
from tests.interop import tiny


def _main(*words):
    return convert.main(["convert", *map(str, words)])


def test_a_model_comes_in_and_goes_out(tmp_path, capsys):
    tensors = tiny.qwen2(tmp_path / "hf")
    _main(f"--from-hf={tmp_path / 'hf'}", f"--to={tmp_path / 'ours'}")
    out = capsys.readouterr().out
    assert f"--config.base={tmp_path / 'ours'}" in out
    config = hf_config.from_hf(tiny.QWEN2 | {"tie_word_embeddings": True})
    for name in ("vocab_size", "num_layers", "embed_dim", "mlp_dim", "rope_theta", "qkv_bias"):
        assert f"--config.model.{name}={getattr(config, name)}" in out
    _main("--from", tmp_path / "ours", "--to-hf", tmp_path / "back")
    assert tiny.load(tmp_path / "back") == {n: tiny.bits(x) for n, x in tensors.items()}
    _main("--from", tmp_path / "ours", "--to-hf", tmp_path / "wide", "--dtype=float32")
    assert {kind for _, kind, _ in tiny.load(tmp_path / "wide").values()} == {"float32"}


def test_a_run_s_policy_goes_out_with_its_tokenizer(tmp_path, monkeypatch, capsys):
    tensors = tiny.qwen2(tmp_path / "hf")
    _main("--from-hf", tmp_path / "hf", "--to", tmp_path / "base")
    opened = folder.Folder(tmp_path / "base")
    params = {name: opened.read(name).astype(np.float32) for name in opened.leaves()}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    config = hf_config.from_hf(tiny.QWEN2 | {"tie_word_embeddings": True})
    stage = types.SimpleNamespace(tokens=hf_tokenizer.HuggingFaceTokenizer(tmp_path / "hf", 301))
    asked = []
    monkeypatch.setattr(policy, "open_config", lambda run: types.SimpleNamespace(model=config))
    monkeypatch.setattr(
        policy, "restore", lambda run, config, step: asked.append(step) or (stage, params, 7)
    )
    words = ("--from", tmp_path / "run", "--to-hf", tmp_path / "out", "--dtype=bfloat16")
    _main(*words, "--step=7")
    assert asked == [7] and "step 7 of" in capsys.readouterr().out
    assert tiny.load(tmp_path / "out") == {n: tiny.bits(x) for n, x in tensors.items()}
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --from-hf=DIR --to=FOLDER, or --from=MODEL --to-hf=DIR"),
        (("--from-hf=a",), "give --from-hf=DIR"),
        (("--from-hf=a", "--to-hf=b"), "give --from-hf=DIR"),
        (("--from=a", "--to=b"), "give --from-hf=DIR"),
        (("--from-hf=a", "--to=b", "c"), "give --from-hf=DIR"),
        (("--from-hf=a", "--to=b", "--dtype=float32"), "--dtype and --step belong to --from"),
        (("--from-hf=a", "--to=b", "--step=3"), "--dtype and --step belong to --from"),
        (("--from=a", "--to-hf=b", "--drop_mtp"), "--drop_mtp belongs to --from-hf"),
        (("--from=a", "--to-hf=b", "--dtype=int8"), "dtype"),
        (("--from-hf=absent", "--to=b"), "config.json: no such file"),
        (("--from=absent", "--to-hf=b"), "no manifest there"),
        (("--from=absent", "--to-hf=b", "--step=3"), "--step=3 is of a run; absent is none"),
    ],
)
def test_words_that_cannot_be_followed_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        _main(*words)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
