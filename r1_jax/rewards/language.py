"""Language consistency: the share of words that are in the wanted language (DeepSeek-R1 4.2).

Source: R1's first RL stage adds "target-language words / all words" of the chain to the reward;
how words are cut and recognised is not published. Here: code, LaTeX, tags, addresses and single
letters are left out; a word's script decides where it can (Han, kana, Hangul, Cyrillic, Arabic);
Latin words go by sentence, to the language whose function words occur in it most, the wanted one
where none does. Two characters of a script without spaces count as a word.
Range [0, 1]; 0 where no word is left. Known hacks: silence is not paid, but one word is; Latin text
of LEAST_WORDS or more of which hardly any is a function word (keyboard noise, foreign languages
that are not listed) is not counted as the wanted language; repeating "the" is, and is
rewards.repetition's business.
"""

import re

LEAST_WORDS = 12  # a shorter text is not asked for function words
LEAST_SHARE = 0.08  # of function words; mathematical English has 0.3

# The commonest words of each language that no other list here has.
_FUNCTION_WORDS = {
    "en": "the of and to is that it for with this be are as by from we have has not but which so "
    "then if there can will was were you i they what when how would let us since at or on its all "
    "first now must only need check wait these those their our because should",
    "es": "el los las que y del por con para una como pero sus este esta son ser entonces cuando "
    "tambi\u00e9n muy hay donde porque m\u00e1s est\u00e1 tenemos vamos",
    "fr": "le les des et est une dans qui pour pas sur au avec sont plus nous vous cette mais "
    "alors donc ce ces aux ont \u00e0 \u00eatre o\u00f9 puis comme avons",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf f\u00fcr dem auch als wird "
    "wir es sind dass aber dann wenn oder haben kann noch nur durch einen",
}
_LISTS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
_SCRIPTS = {"zh": "han", "ja": "kana", "ko": "hangul", "ru": "cyrillic", "ar": "arabic"}
LANGUAGES = (*_LISTS, *_SCRIPTS)

_FENCED = re.compile(r"```[^`]*(?:```|$)")
_LEFT_OUT = re.compile(
    r"`[^`\n]*`|\$\$[^$]*\$\$|\$[^$\n]*\$|\\\((?:[^\\]|\\(?![()]))*\\\)"
    r"|\\\[(?:[^\\]|\\(?![\[\]]))*\\\]"
    r"|\\[a-zA-Z]+(?:\{[^{}]*\})*|https?://\S+|</?[a-zA-Z_]+>"
)
_SENTENCE = re.compile(r"[.!?;:\n\u3002\uff01\uff1f\uff1b]+")
_RUN = re.compile(
    r"(?P<han>[\u3400-\u4dbf\u4e00-\u9fff]+)|(?P<kana>[\u3040-\u30ff]+)|(?P<hangul>[\uac00-\ud7af]+)"
    r"|(?P<cyrillic>[\u0400-\u04ff]+)|(?P<arabic>[\u0600-\u06ff]+)"
    r"|(?P<latin>[a-zA-Z\u00c0-\u024f]+(?:['\u2019][a-zA-Z\u00c0-\u024f]+)*)|(?P<other>[^\W\d_]+)"
)


def share(text: str, language: str) -> float:
    """Words of `text` in `language` over all its words, in [0, 1]; 0.0 if there is none.

    language: one of LANGUAGES, else ValueError. Japanese owns its Han characters when it has any
    kana. Linear in the text's length.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language={language!r} is not one of {', '.join(LANGUAGES)}")
    text = _LEFT_OUT.sub(" ", _FENCED.sub(" ", text))
    counts: dict[str, float] = {}
    latin: list[str] = []
    for sentence in _SENTENCE.split(text):
        words = []
        for match in _RUN.finditer(sentence):
            script, run = match.lastgroup or "other", match[0]
            if script == "latin":
                if len(run) > 1 or run in "aI":
                    words.append(run.lower())
            else:
                has_no_spaces = script in ("han", "kana")
                amount = max(1.0, len(run) / 2) if has_no_spaces else 1.0
                counts[script] = counts.get(script, 0.0) + amount
        if words:
            spoken = _spoken(words, language)
            counts[spoken] = counts.get(spoken, 0.0) + len(words)
            latin += words if spoken == language else []
    if "kana" in counts and language == "ja":
        counts["kana"] += counts.pop("han", 0.0)
    total = sum(counts.values())
    if not total or (language in _LISTS and _is_noise(latin, language)):
        return 0.0
    return counts.get(_SCRIPTS.get(language, language), 0.0) / total


def of(text: str) -> str:
    """The one of LANGUAGES that most of a text's words are in; "en" where none is found."""
    return max(LANGUAGES, key=lambda name: (share(text, name), name == "en"))


def _spoken(words: list[str], language: str) -> str:
    """The language of a sentence of Latin words; the wanted one, or "latin", where none shows."""
    hits = {name: sum(word in known for word in words) for name, known in _LISTS.items()}
    best = max(hits, key=lambda name: (hits[name], name == language))
    if hits[best]:
        return best
    return language if language in _LISTS else "latin"


def _is_noise(words: list[str], language: str) -> bool:
    known = sum(word in _LISTS[language] for word in words)
    return len(words) >= LEAST_WORDS and known < LEAST_SHARE * len(words)
