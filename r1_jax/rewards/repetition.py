"""The repetition penalty: which part of a completion's n-grams has been said before.

Source: the n-gram penalty beside the cosine reward (arXiv 2502.03373); there every token of a
repeated n-gram costs the same, here it is one share of the whole, so that it does not grow with
length. Range [-1, 0], 0 for a text shorter than n words. Known hacks: a text that says nothing, or
one that counts ("step 1, step 2"), repeats nothing; paraphrase is not seen. Upper and lower case
and punctuation make no difference.
"""

import re

# Words of letters or digits; of scripts written without spaces, each character.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+|[+*/=<>^-]")


def penalty(text: str, ngram: int) -> float:
    """Minus the share of n-grams that repeat an earlier one. ValueError unless ngram >= 1."""
    if ngram < 1:
        raise ValueError(f"ngram={ngram} must be at least 1")
    words = _WORDS.findall(text.casefold())
    total = len(words) - ngram + 1
    if total < 1:
        return 0.0
    seen = {tuple(words[i : i + ngram]) for i in range(total)}
    return len(seen) / total - 1.0
