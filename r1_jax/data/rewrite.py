"""The cold start's rewriter by rules: one language, and a summary with the answer in a box.

Where the paper has DeepSeek-V3 rewrite a trace (v2 B.3.2: the thinking translated to the question's
language; a summary in the same language, without new steps, the final answer boxed), the tiny world
is small enough for rules: its phrases are known in every language.
"""

import re

from r1_jax.data import corpus
from r1_jax.rewards import extract, language
from r1_jax.text import chat

_FIELDS = corpus.Phrases._fields


def _spoken() -> dict[str, tuple[str, int]]:
    """phrase -> (field of Phrases, index in it), over all languages."""
    found = {}
    for phrases in corpus.PHRASES.values():
        for name in _FIELDS:
            said = getattr(phrases, name)
            for i, phrase in enumerate((said,) if isinstance(said, str) else said):
                found[phrase] = (name, i)
    return found


_SPOKEN = _spoken()
# Longest first: ". check: " before "."; a point between digits is none of ours.
_PHRASE = re.compile("|".join(map(re.escape, sorted(_SPOKEN, key=len, reverse=True))))


def translate(thought: str, to: str) -> str:
    """`thought` with every phrase of corpus.PHRASES said in the language `to`."""
    words = corpus.PHRASES[to]

    def say(match: re.Match[str]) -> str:
        name, i = _SPOKEN[match[0]]
        said = getattr(words, name)
        return said if isinstance(said, str) else said[i]

    return _PHRASE.sub(say, thought)


def summary(thought: str, answer: str) -> str:
    """The steps of the last attempt in `thought`, then the answer in a box.

    thought: in the words of corpus.PHRASES, any language.
    """
    starts = {p for words in corpus.PHRASES.values() for p in (words.opening, *words.retry)}
    ends = {p for words in corpus.PHRASES.values() for p in (words.check, words.end)}
    steps = re.split("|".join(map(re.escape, sorted(starts, key=len, reverse=True))), thought)[-1]
    steps = re.split("|".join(map(re.escape, sorted(ends, key=len, reverse=True))), steps)[0]
    end = next(w.end for name, w in corpus.PHRASES.items() if name == language.of(thought))
    return f"{steps.strip()}{end} {extract.BOX}{answer}}}"


def countdown(question: str, completion: str, tags: chat.Tags) -> str | None:
    """A readable completion with the same reasoning and answer; None where it has no such parts."""
    thought, answer = extract.thought(completion, tags), extract.answer(completion, tags)
    if not thought or not answer:
        return None
    boxed = extract.boxed(answer)
    spoken = translate(thought, language.of(question))
    return chat.completion(spoken, summary(spoken, answer if boxed is None else boxed), tags)
