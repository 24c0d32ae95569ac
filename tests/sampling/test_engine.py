"""Texts to a PromptBatch of one shape, and Rollouts back to texts."""

import numpy as np
import pytest

from r1_jax.core import types
from r1_jax.sampling import engine
from r1_jax.text import tokenizer as text_tokenizer

TOKENS = text_tokenizer.ByteTokenizer()


class LoudTokenizer(text_tokenizer.ByteTokenizer):
    """Its stop tokens are ordinary pieces, as a model's `\\n\\n` or `<|im_end|>` may be."""

    stop_ids = (ord("."), ord("!"))


def test_prompts_are_padded_on_the_right_to_one_shape():
    batch = engine.encode(["ab", "c", "dé"], [7, 5, 2**31 - 1], TOKENS, 4)
    np.testing.assert_array_equal(
        batch.tokens_PT,
        [[97, 98, 256, 256], [99, 256, 256, 256], [100, 0xC3, 0xA9, 256]],
    )
    np.testing.assert_array_equal(batch.length_P, [2, 1, 3])
    np.testing.assert_array_equal(batch.uid_P, [7, 5, 2**31 - 1])
    assert {x.dtype for x in (batch.tokens_PT, batch.length_P, batch.uid_P)} == {np.dtype(np.int32)}


@pytest.mark.parametrize(("text", "length"), [("abcde", 5), ("", 0)])
def test_a_prompt_that_does_not_fit_is_named(text, length):
    with pytest.raises(ValueError, match=f"problem 12 has {length} tokens; max_prompt=4"):
        engine.encode(["ab", text], [11, 12], TOKENS, 4)


def test_texts_and_uids_must_pair():
    with pytest.raises(ValueError, match="zip"):
        engine.encode(["a", "b"], [1], TOKENS, 4)


def _rollouts(rows, stops):
    """Rollouts on the host from (prompt, completion) ids, padded with what could be mistaken."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows) + 2
    tokens_BT = [[*p, *c] + [ord("z")] * (width - len(p) - len(c)) for p, c in rows]
    num = len(rows)
    return types.Rollouts(
        tokens_BT=np.array(tokens_BT, np.int32),
        prompt_length_B=np.array([len(p) for p, _ in rows], np.int32),
        length_B=np.array([len(c) for _, c in rows], np.int32),
        logps_BT=np.zeros((num, width), np.float32),
        stop_B=np.array(stops, np.int32),
        uid_B=np.arange(num, dtype=np.int32),
        sample_B=np.zeros(num, np.int32),
        policy_step=np.int32(0),
        slot_steps=np.int32(0),
    )


def test_completions_come_back_without_prompt_padding_and_stop_token():
    rows = [(b"Q:", [*b" yes", 257]), (b"Q: a", b"12"), (b"Q", [257]), (b"Q", [*"é".encode()])]
    texts = engine.completions(_rollouts(rows, [257, -1, 257, -1]), TOKENS)
    assert texts == [" yes", "12", "", "é"]


def test_a_stop_token_that_is_text_is_cut_off_too_but_only_where_it_stopped():
    rows = [(b"Q.", b"one."), (b"Q.", b"two!"), (b"Q.", b"cut")]
    texts = engine.completions(_rollouts(rows, [ord("."), ord("!"), -1]), LoudTokenizer())
    assert texts == ["one", "two", "cut"]
