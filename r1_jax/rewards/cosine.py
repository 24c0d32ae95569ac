"""The cosine reward: short when right, long when wrong (arXiv 2502.03373).

Range [-10, 2]. The wave is the paper's; the five values below are ours to answer for: they have not
been checked against its tables. Needs the length in tokens. Known hacks: a wrong answer that
is padded to just below the limit loses nothing, so the paper pairs it with a repetition penalty
(rewards.repetition); a limit that most completions reach makes everything -10.
"""

import math

SHORT_RIGHT, LONG_RIGHT = 2.0, 1.0
SHORT_WRONG, LONG_WRONG = -10.0, 0.0
EXCEEDED = -10.0


def reward(is_right: bool, length: int, max_length: int) -> float:
    """Half a cosine wave from the short to the long value as `length` goes from 0 to max_length.

    length: generated tokens, stop token included; max_length and more is EXCEEDED, right or wrong.
    ValueError unless max_length > 0 and length >= 0.
    """
    if max_length <= 0 or length < 0:
        raise ValueError(f"length={length} must be >= 0 and max_length={max_length} > 0, in tokens")
    if length >= max_length:
        return EXCEEDED
    short, long = (SHORT_RIGHT, LONG_RIGHT) if is_right else (SHORT_WRONG, LONG_WRONG)
    return long + (short - long) * (1 + math.cos(math.pi * length / max_length)) / 2
