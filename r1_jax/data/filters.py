"""What makes a completion fit to learn from, besides being right (DeepSeek-R1 2.3.1, 2.3.3)."""

import dataclasses
import math

from r1_jax.rewards import extract, format, language, repetition


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """Limits on a completion's thinking. Published are the kinds of filters, not their numbers."""

    min_language: float = 1.0  # share of words in the question's language
    max_repetition: float = 0.2  # share of n-grams of words that were said before
    repetition_ngram: int = 8  # words
    max_paragraph: int = 2000  # characters between blank lines
    code_blocks: bool = False  # whether fenced code may stand in the thinking

    def __post_init__(self):
        if not 0 <= self.min_language <= 1 or not 0 <= self.max_repetition <= 1:
            raise ValueError(
                f"min_language={self.min_language} and max_repetition={self.max_repetition} are "
                "shares in [0, 1]"
            )
        if self.repetition_ngram < 1 or not 0 < self.max_paragraph < math.inf:
            raise ValueError("repetition_ngram and max_paragraph must be at least 1")


def why_dropped(
    question: str, completion: str, tags: extract.Tags, config: FilterConfig
) -> str | None:
    """The first filter that a completion fails, by name, or None: it may be learnt from."""
    if format.strict(completion, tags) < 1:
        return "form"
    thought = extract.thought(completion, tags) or ""
    wanted = language.of(question)
    if config.min_language and language.share(thought, wanted) < config.min_language:
        return "language"
    if -repetition.penalty(thought, config.repetition_ngram) > config.max_repetition:
        return "repetition"
    if any(len(piece) > config.max_paragraph for piece in thought.split("\n\n")):
        return "long paragraph"
    if not config.code_blocks and "```" in thought:
        return "code block"
    return None
