"""The cosine reward: short when right, long when wrong (arXiv 2502.03373).

Range [-10, 2]. Checked: the five values below are those of the authors' own run scripts for their
sections 4.2 (with the repetition penalty) and 4.5 (without), github.com/eddycmu/demystify-long-cot
at 29fddcc: 2 and 1 when right, -10 and 0 when wrong, -10 at the limit, which there are 14,336
generated tokens. Their section 4.3 has three other sets. Not checked: the tables of the paper, and
their code of the wave itself; the latter is written from its description. Needs the length in
tokens. Known hacks: a wrong answer that is padded to just below the limit loses nothing, so they
pair it with a repetition penalty (rewards.repetition); a limit that most completions reach makes
everything -10.
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
