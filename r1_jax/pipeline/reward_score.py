"""Rewards of texts under a trained reward model: opened from its file, scored in batches."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from r1_jax.checkpoints import weights
from r1_jax.core import build, keys, types
from r1_jax.data import preferences
from r1_jax.models import config as model_config
from r1_jax.models import reward
from r1_jax.pipeline import assemble
from r1_jax.sampling import engine
from r1_jax.sharding import place
from r1_jax.text import chat
from r1_jax.text import tokenizer as text_tokenizer
from r1_jax.training import preference_losses
from r1_jax.training import reward_model as reward_loop


@dataclasses.dataclass(frozen=True)
class RewardModel:
    """A trained reward model and how it wants to be read."""

    params: Any  # on the mesh
    model: model_config.ModelConfig
    tokens: text_tokenizer.Tokenizer
    tags: chat.Tags
    view: str  # of preferences.VIEWS: what it was trained to see of a completion
    mean: float  # of its rewards on held-out texts
    std: float
    floor: float  # the lowest of them: what a completion without a view earns
    digest: str  # of its weights


def open_model(path: str | pathlib.Path, mesh: jax.sharding.Mesh) -> RewardModel:
    """The reward model at `path`, split over `mesh` like a policy; its tokenizer lies beside it.

    Raises ValueError for a file that is no reward model and for another tokenizer than its own.
    """
    path = pathlib.Path(path)
    loaded, manifest = weights.load_weights(path)
    if "view" not in manifest or "scalar" not in loaded:
        raise ValueError(f"{path} is no reward model; pipeline.reward_models makes one")
    tokens = text_tokenizer.SentencePieceTokenizer(path.with_suffix(".model"))
    if tokens.digest != manifest["tokenizer_digest"]:
        raise ValueError(
            f"{path} was trained with tokenizer {manifest['tokenizer_digest'][:12]}, but the file "
            f"beside it is {tokens.digest[:12]}; bring both from one run"
        )
    model = build.build(model_config.ModelConfig, manifest["config"]["model"])
    boxed = jax.eval_shape(functools.partial(reward.init_boxed, model), keys.root(0))
    return RewardModel(
        jax.device_put(loaded, place.shardings(boxed, mesh)),
        model,
        tokens,
        build.build(chat.Tags, manifest["config"]["tags"]),
        manifest["view"],
        manifest["rewards"]["mean"],
        manifest["rewards"]["std"],
        manifest["rewards"]["min"],
        manifest["digest"],
    )


def encode(tokens: text_tokenizer.Tokenizer, prompt: str, response: str) -> list[int]:
    """What a reward model reads, in training and after: prompt, response, stop token.

    prompt: rendered. response: what the view shows. Apart, so that no token spans their border.
    """
    return [*tokens.encode(prompt), *tokens.encode(response), tokens.stop_ids[0]]


def make_score(
    model: model_config.ModelConfig,
    mesh: jax.sharding.Mesh,
    *,
    batch_rows: int,
    capacity: int,
    pad_id: int,
) -> Callable[[Any, Sequence[Sequence[int]]], np.ndarray]:
    """score(params, token ids of N texts) -> reward_N, float32 on the host.

    Texts of like length share a batch of batch_rows, which is cut to what its longest fills; one
    program does all. capacity: tokens. No text is cut: one that is longer doubles the capacity, at
    the price of another compilation. Raises ValueError when batch_rows does not split over the
    mesh. Enter the mesh to call it.
    """
    rows_that_split("batch_rows", batch_rows, mesh)

    @functools.cache
    def program(num_positions: int):
        cuts = reward_loop.cuts(num_positions)

        def rewards_of(params, batch: preference_losses.ResponseRows) -> jax.Array:
            return cuts.apply(
                lambda piece: preference_losses.row_rewards(model, params, piece)[:, 0], batch
            )

        return jax.jit(rewards_of, out_shardings=place.batch_sharding(mesh))

    def score(params, texts: Sequence[Sequence[int]]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        reward_N = np.zeros(len(texts), np.float32)
        for start in range(0, len(order), batch_rows):
            chosen = order[start : start + batch_rows]
            padded = chosen + chosen[-1:] * (batch_rows - len(chosen))
            longest, num_positions = len(texts[chosen[-1]]), capacity
            while num_positions < longest:
                num_positions *= 2
            examples = [reward_loop.Example((texts[i],)) for i in padded]
            batch = assemble.put(reward_loop.rows(examples, num_positions, pad_id), mesh)
            found = place.to_host(program(num_positions)(params, batch))
            reward_N[chosen] = found[: len(chosen)]
        return reward_N

    return score


def make_rollout_rewards(
    judge: RewardModel,
    policy_tokens: text_tokenizer.Tokenizer,
    mesh: jax.sharding.Mesh,
    *,
    batch_rows: int,
    capacity: int,
) -> Callable[[Any, types.Rollouts], np.ndarray]:
    """rewards(params, host Rollouts) -> reward_B, float32: the general reward of R1's last stage.

    params: judge.params. A completion is shown as the reward model was trained to see it: its
    summary alone, or the whole. One without a summary (thinking never closed) earns judge.floor:
    there is nothing to prefer. Text goes over to the reward model's own tokenizer; prompts are
    those of the rollouts, so policy and reward model must share a template.
    """
    score = make_score(
        judge.model, mesh, batch_rows=batch_rows, capacity=capacity, pad_id=judge.tokens.pad_id
    )
    view = preferences.VIEWS[judge.view]

    def rewards(params, rollouts: types.Rollouts) -> np.ndarray:
        shown = [view(text, judge.tags) for text in engine.completions(rollouts, policy_tokens)]
        reward_B = np.full(len(shown), judge.floor, np.float32)
        readable, texts = [], []
        for row, response in enumerate(shown):
            if response:
                prompt_ids = rollouts.tokens_BT[row, : rollouts.prompt_length_B[row]]
                prompt = policy_tokens.decode(prompt_ids.tolist())
                readable.append(row)
                texts.append(encode(judge.tokens, prompt, response))
        reward_B[readable] = score(params, texts)
        return reward_B

    return rewards


def rows_that_split(name: str, size: int, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError for a number of rows that does not split over the mesh's data axes."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if size % ways:
        raise ValueError(
            f"{name}={size} does not split over data*fsdp={ways} of {dict(mesh.shape)}; use a "
            f"multiple of {ways}"
        )
