"""A model of Hugging Face's kind comes in, is trained, goes back: transformers has the same."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from r1_jax.checkpoints import folder as weights_folder
from r1_jax.checkpoints import weights
from r1_jax.cli import convert as command
from r1_jax.core import build, trees
from r1_jax.interop import convert
from r1_jax.models import heads, transformer
from r1_jax.pipeline import experiment, policy, r1_zero, sft
from r1_jax.text import dialogue, load
from tests.interop import tiny
from tests.models import tiny as tiny_models

R1 = dialogue.R1_OPEN
QUESTION = (
    "Using the numbers [3, 5, 7], write an expression that equals 22. Use + - * / and each "
    "number exactly once."
)
ANSWER = " <think> So. </think> <answer> 3 * 5 + 7 </answer>"
CONFIG = {
    "task": {"num_train": 8, "num_validation": 2, "num_test": 2, "min_target": 10},
    "layout": "r1",
    "optim": {"learning_rate": 0.01},
    "sft": {"epochs": 2, "batch_rows": 8, "row_length": 96},
    "grpo": {
        "num_steps": 2, "prompts_per_rollout": 8, "group_size": 4, "num_minibatches": 1,
        "kl_coef": 0.0, "max_prompt": 68, "max_response": 28,
    },
    "reward": {"custom": "tests.toy_rewards:digits", "custom_weight": 1.0},
    "eval": {"num_problems": 2, "num_problems_between": 2, "num_samples": 4, "every": 0},
    "checkpoint": {"every": 0},
}  # fmt: skip


def _chat_tokenizer(folder):
    """Writes a byte-level BPE that knows R1's marks, and how its texts end, into `folder`."""
    tokens = tokenizers.Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=tiny.V,
        special_tokens=["<pad>", "<｜User｜>", R1.stop, R1.begin, "<｜Assistant｜>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator([QUESTION, ANSWER] * 9, trainer)
    tokens.save(str(folder / "tokenizer.json"))
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": R1.stop,
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))


def _fine_tuned(config, workdir):
    """(what `convert` takes, the weights file): one and the same."""
    told = {"question": QUESTION, "completion": ANSWER, "source": "by hand"}
    data = workdir.with_suffix(".jsonl")
    data.write_text("".join(json.dumps(told | {"uid": i}) + "\n" for i in range(8)))
    path = sft.run(config, data, workdir)
    return path, path


def _by_rl(config, workdir):
    """(the run, which `convert` takes, the weights file that it is exported to).

    Of a model that was fine-tuned first: one of noise stops too seldom to be rewarded.
    """
    assert config.sft is not None
    longer = dataclasses.replace(config, sft=dataclasses.replace(config.sft, epochs=12))
    _, start = _fine_tuned(longer, workdir.with_name("start"))
    assert r1_zero.run(dataclasses.replace(config, base=str(start)), workdir)
    return workdir, policy.export(workdir, workdir / sft.WEIGHTS)


@pytest.mark.hf
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("trained", [_fine_tuned, pytest.param(_by_rl, marks=pytest.mark.slow)])
def test_in_two_updates_and_out_again_transformers_has_the_same_model(trained, tmp_path):
    torch = pytest.importorskip("torch")
    import transformers

    theirs, out = tmp_path / "theirs", tmp_path / "out"
    tiny.qwen2(theirs, "float32", tied=False)
    _chat_tokenizer(theirs)
    command.main(["convert", f"--from-hf={theirs}", f"--to={tmp_path / 'ours'}"])
    made_for = weights_folder.Folder(tmp_path / "ours").manifest["config"]["model"]
    mapping = build.merge(CONFIG, "task.data_dir", str(tmp_path / "data"))
    mapping |= {"base": str(tmp_path / "ours"), "model": made_for}
    config = build.build(experiment.ExperimentConfig, mapping)
    source, path = trained(config, tmp_path / "run")
    command.main(["convert", f"--from={source}", f"--to-hf={out}"])

    before, after = tiny.load(theirs), tiny.load(out)
    assert {n: x[:2] for n, x in before.items()} == {n: x[:2] for n, x in after.items()}
    assert sum(before[name] != after[name] for name in before) > len(before) // 2  # it was trained
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (out / name).read_bytes() == (theirs / name).read_bytes()
    was, found = (json.loads((folder / "config.json").read_text()) for folder in (theirs, out))
    assert all(found[key] == was[key] for key in ("hidden_size", "eos_token_id", "rope_theta"))

    # what transformers makes of it computes what the policy does
    params, _ = weights.load_weights(path)
    tokens_BT = np.random.default_rng(0).integers(0, tiny.V, (2, 24))

    @tiny_models.jit
    def forward(params):
        hidden_BTD, _ = transformer.forward(config.model, params, jnp.asarray(tokens_BT, jnp.int32))
        return heads.logits(hidden_BTD, heads.kernel(config.model, params))

    ours = np.asarray(forward(params))

    def logits(folder):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            return model(torch.from_numpy(tokens_BT)).logits.numpy()

    np.testing.assert_allclose(logits(out), ours, rtol=0, atol=1e-4 * np.abs(ours).max())
    assert np.abs(logits(theirs) - ours).max() > 0.01 * np.abs(ours).max()
    text = dialogue.question(R1, QUESTION) + ANSWER
    tokens = transformers.PreTrainedTokenizerFast.from_pretrained(out)  # Auto takes Qwen2's own
    expected = load.load(theirs, tiny.V).encode(text)
    assert tokens.encode(text, add_special_tokens=False) == expected

    # and it comes in again as what the weights file holds, bit for bit
    convert.from_hf(out, tmp_path / "back")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    back = weights_folder.Folder(tmp_path / "back").load(jax.tree.map(lambda _: device, params))
    assert trees.digest(back) == trees.digest(params)
