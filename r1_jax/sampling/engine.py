"""The host's side of sampling: texts to a PromptBatch, Rollouts to texts."""

from collections.abc import Sequence

import numpy as np

from r1_jax.core import types
from r1_jax.text import tokenizer as text_tokenizer


def encode(
    texts: Sequence[str],
    uids: Sequence[int],
    tokenizer: text_tokenizer.Tokenizer,
    capacity: int,
) -> types.PromptBatch:
    """A PromptBatch of NumPy arrays [P, capacity]: one shape, whatever the prompts' lengths.

    texts: whole prompts, template included. Raises ValueError for a prompt of more than `capacity`
    tokens, naming it: a prompt that is cut is another prompt.
    """
    rows = [tokenizer.encode(text) for text in texts]
    for uid, row in zip(uids, rows, strict=True):
        if not 0 < len(row) <= capacity:
            raise ValueError(
                f"the prompt of problem {uid} has {len(row)} tokens; max_prompt={capacity} must "
                "hold the longest one"
            )
    padded = [row + [tokenizer.pad_id] * (capacity - len(row)) for row in rows]
    return types.PromptBatch(
        np.array(padded, np.int32),
        np.array([len(row) for row in rows], np.int32),
        np.array(uids, np.int32),
    )


def completions(rollouts: types.Rollouts, tokenizer: text_tokenizer.Decoder) -> list[str]:
    """The generated text of every row of host-side Rollouts, without prompt and stop token."""
    texts = []
    text_length_B = rollouts.length_B - (rollouts.stop_B >= 0)
    for row, start, length in zip(
        rollouts.tokens_BT, rollouts.prompt_length_B, text_length_B, strict=True
    ):
        texts.append(tokenizer.decode(row[start : start + length].tolist()))
    return texts
