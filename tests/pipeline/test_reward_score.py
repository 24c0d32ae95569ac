"""Rewards of rollouts: the text's own, whatever batch it is in, read through the model's view."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from r1_jax.checkpoints import weights
from r1_jax.core import build, keys, types
from r1_jax.models import reward, transformer
from r1_jax.pipeline import assemble, reward_score
from r1_jax.sharding import mesh as meshes
from r1_jax.text import chat
from tests import tiny_preferences as world

THINK = " <think> go left </think>"


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Compiling takes longer than running; make_score remembers what it made."""
    jax.config.update("jax_disable_most_optimizations", True)
    patch = pytest.MonkeyPatch()
    patch.setattr(reward_score, "make_score", functools.cache(reward_score.make_score))
    yield
    patch.undo()
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reward model with weights from nowhere, on disk as the stage leaves it."""
    folder = tmp_path_factory.mktemp("reward_score")
    world.train_tokenizer(folder)
    config = world.config(folder)
    tokens = assemble.load_tokenizer(config)
    decoder = jax.tree.map(lambda x: 3 * x, transformer.init(config.model, keys.root(0)))
    params = reward.from_policy(config.model, decoder)
    params["scalar"] = {"kernel": np.cos(np.arange(16.0)), "bias": np.float32(0.25)}
    about = {
        "commit": "0", "config": build.to_dict(config), "seed": 0, "view": "summary",
        "tokenizer_digest": tokens.digest, "rewards": {"mean": 0.5, "std": 2.0, "min": -7.5},
    }  # fmt: skip
    weights.save_weights(folder / "rm.safetensors", params, about)
    (folder / "rm.model").write_bytes(tokens.model)
    return folder


@pytest.fixture(scope="module")
def opened(folder):
    """(mesh of eight devices, the reward model on it)."""
    mesh = assemble.make_mesh(world.config(folder).mesh)
    with meshes.activate(mesh):
        return mesh, reward_score.open_model(folder / "rm.safetensors", mesh)


def _score(opened, texts, *, batch_rows=8, capacity=48):
    mesh, judge = opened
    with meshes.activate(mesh):
        score = reward_score.make_score(
            judge.model, mesh, batch_rows=batch_rows, capacity=capacity, pad_id=judge.tokens.pad_id
        )
        return score(judge.params, texts)


def _texts(judge, responses):
    prompt = chat.render("say 3", judge.tags)
    return [reward_score.encode(judge.tokens, prompt, response) for response in responses]


RESPONSES = [pair.chosen for pair in world.pairs(13)]


@pytest.fixture(scope="module")
def rewards(opened):
    return _score(opened, _texts(opened[1], RESPONSES))


def test_a_text_s_reward_is_its_own_on_any_devices_in_any_batch(opened, rewards):
    _, judge = opened
    texts = _texts(judge, RESPONSES)
    params = jax.device_get(judge.params)
    for row in (0, 5, 12):
        tokens_1T, length_1 = np.array([texts[row]], np.int32), np.array([len(texts[row])])
        alone = jax.jit(reward.rewards, static_argnums=0)(judge.model, params, tokens_1T, length_1)
        np.testing.assert_allclose(rewards[row], alone[0], rtol=2e-5, atol=1e-6)
    assert len(set(rewards.tolist())) == 13 and rewards.std() > 0.01
    order = np.random.default_rng(0).permutation(13)
    shuffled = _score(opened, [texts[i] for i in order], batch_rows=16)
    np.testing.assert_allclose(shuffled, rewards[order], rtol=2e-5, atol=1e-6)


def test_nothing_is_cut_at_inference(opened, rewards):
    _, judge = opened
    small = _score(opened, _texts(judge, RESPONSES), capacity=12)
    np.testing.assert_allclose(small, rewards, rtol=2e-5, atol=1e-6)
    assert max(map(len, _texts(judge, RESPONSES))) > 12


def _rollouts(judge, completions, *, cut_off=()) -> types.Rollouts:
    prompts = [judge.tokens.encode(chat.render(f"say {3 + i % 2}", judge.tags)) for i in range(8)]
    rows = [judge.tokens.encode(text) for text in completions]
    num = len(rows)
    tokens_BT = np.full((num, 64), judge.tokens.pad_id, np.int32)
    length_B, stop_B = np.zeros(num, np.int32), np.full(num, judge.tokens.stop_ids[0], np.int32)
    for b, (prompt, ids) in enumerate(zip(prompts, rows, strict=True)):
        ids = ids if b in cut_off else [*ids, judge.tokens.stop_ids[0]]
        tokens_BT[b, : len(prompt) + len(ids)] = prompt + ids
        length_B[b] = len(ids)
    stop_B[list(cut_off)] = -1
    return types.Rollouts(
        tokens_BT, np.array([len(p) for p in prompts], np.int32), length_B,
        np.zeros(tokens_BT.shape, np.float32), stop_B, np.arange(num, dtype=np.int32),
        np.zeros(num, np.int32), np.int32(0), np.int32(0),
    )  # fmt: skip


def _of_rollouts(opened, view, rollouts):
    mesh, judge = opened
    judge = dataclasses.replace(judge, view=view)
    with meshes.activate(mesh):
        rewards = reward_score.make_rollout_rewards(
            judge, judge.tokens, mesh, batch_rows=8, capacity=48
        )
        return rewards(judge.params, rollouts)


def test_rollouts_are_seen_through_the_view(opened):
    _, judge = opened
    completions = [THINK + text for text in RESPONSES[:8]]
    completions[2] = RESPONSES[2]  # never thought
    completions[5] = " <think> go left" + RESPONSES[5]  # never stopped thinking
    rollouts = _rollouts(judge, completions, cut_off=(5,))
    prompts = [chat.render(f"say {3 + i % 2}", judge.tags) for i in range(8)]
    summary_B = _of_rollouts(opened, "summary", rollouts)
    shown = [text.strip() for text in RESPONSES[:8]]
    texts = [reward_score.encode(judge.tokens, *both) for both in zip(prompts, shown, strict=True)]
    expected_B = _score(opened, texts)
    expected_B[[2, 5]] = -7.5  # the floor: there is no summary to prefer
    np.testing.assert_allclose(summary_B, expected_B, rtol=2e-5, atol=1e-6)
    whole_B = _of_rollouts(opened, "whole", rollouts)
    both = zip(prompts, completions, strict=True)
    texts = [reward_score.encode(judge.tokens, *pair) for pair in both]
    np.testing.assert_allclose(whole_B, _score(opened, texts), rtol=2e-5, atol=1e-6)
    # What was thought changes the harmlessness, and nothing about the helpfulness.
    rollouts = _rollouts(judge, [text.replace("go left", "now blue") for text in completions],
                         cut_off=(5,))  # fmt: skip
    np.testing.assert_array_equal(_of_rollouts(opened, "summary", rollouts), summary_B)
    changed = _of_rollouts(opened, "whole", rollouts) != whole_B
    assert changed.tolist() == [i != 2 for i in range(8)]


def test_files_that_are_no_reward_model_are_named(folder, opened, tmp_path):
    mesh, _ = opened
    params, about = weights.load_weights(folder / "rm.safetensors")
    path = tmp_path / "base.safetensors"
    weights.save_weights(path, params, {k: v for k, v in about.items() if k != "view"})
    with pytest.raises(ValueError, match="is no reward model"):
        reward_score.open_model(path, mesh)
    weights.save_weights(path, params, about | {"tokenizer_digest": "0" * 64})
    path.with_suffix(".model").write_bytes((folder / "rm.model").read_bytes())
    with pytest.raises(ValueError, match="was trained with tokenizer 000000000000"):
        reward_score.open_model(path, mesh)


def test_a_batch_that_does_not_split_is_named(opened):
    with pytest.raises(ValueError, match="batch_rows=6 does not split over data"):
        _score(opened, [[1]], batch_rows=6)
