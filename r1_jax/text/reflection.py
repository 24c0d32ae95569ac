"""Words that show a model looking back at its own work."""

import functools
import re
from collections.abc import Iterable

# DeepSeek-R1, supplement C.2: the merged list of three experts.
R1_WORDS = (
    "wait",
    "mistake",
    "however",
    "but",
    "retry",
    "error",
    "verify",
    "wrong",
    "evaluate",
    "check",
)


@functools.cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(
        r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", re.IGNORECASE
    )


def count(text: str, words: Iterable[str] = R1_WORDS) -> int:
    """How often any of `words` occurs in `text`: whole words, any case, no overlaps.

    A word may hold spaces ("check again"); where several start at one place the longest counts.
    """
    words = tuple(words)
    return len(_pattern(words).findall(text)) if words else 0
