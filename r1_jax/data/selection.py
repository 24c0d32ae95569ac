"""From graded samples to demonstrations: rejection sampling's choice, and what it dropped, why."""

import collections
import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from r1_jax.data import demonstrations
from r1_jax.data import filters as filtering
from r1_jax.rewards import extract, verdict
from r1_jax.rewards import judge as judges
from r1_jax.text import chat

Rewriter = Callable[[str, str, chat.Tags], str | None]  # (question, completion, tags)


@dataclasses.dataclass(frozen=True)
class SelectionConfig:
    """How many samples are drawn, and which of them are learnt from."""

    num_prompts: int = 1024  # of the train split, in order
    num_samples: int = 16  # a prompt; the paper's number is not published
    per_prompt: int = 1  # kept a prompt at most
    examples: str = ""  # demonstrations (JSONL) shown before every question; "" shows none
    num_examples: int = 0  # the first so many of them
    judge: str = ""  # "module:function" (question, reference, answer): of what no rule can grade
    rewriter: str = ""  # "module:function" of (question, completion, tags); "" keeps the words
    filters: filtering.FilterConfig = dataclasses.field(default_factory=filtering.FilterConfig)

    def __post_init__(self):
        for name in ("num_prompts", "num_samples", "per_prompt"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if bool(self.examples) != bool(self.num_examples) or self.num_examples < 0:
            raise ValueError(
                f"examples={self.examples!r} and num_examples={self.num_examples} go together: set "
                "both, or neither"
            )

    def shown(self) -> list[tuple[str, str]]:
        """(question, completion) of every example. ValueError where there are too few."""
        if not self.examples:
            return []
        found = demonstrations.read(self.examples)
        if len(found) < self.num_examples:
            raise ValueError(
                f"{self.examples} holds {len(found)} demonstrations, fewer than num_examples="
                f"{self.num_examples}"
            )
        return [(one.question, one.completion) for one in found[: self.num_examples]]


def resolve(rewriter: str) -> Rewriter:
    """The function named "module:function"; one that changes nothing for "". ValueError if none."""
    if not rewriter:
        return lambda question, completion, tags: completion
    module, _, name = rewriter.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'rewriter={rewriter!r} must be "module:function" of something importable ({error})'
        ) from error


def select(
    samples: Iterable[Mapping[str, Any]],
    config: SelectionConfig,
    tags: chat.Tags,
    source: str,
    references: Mapping[int, str] | None = None,
) -> tuple[list[demonstrations.Demonstration], dict[str, int]]:
    """(what is kept, in the order sampled; number of samples by what became of them).

    samples: rows as in samples/: uid, question, completion, sample, outcome. Kept are right ones
    that, rewritten, pass the filters, are no duplicate, and are among the first per_prompt of their
    prompt. What the rules could not grade (verdict.Outcome.is_failure) is put to config.judge with
    the problem's reference, of `references` by uid (DeepSeek-R1 2.3.3).
    """
    rewrite = resolve(config.rewriter)
    by = judges.named(right=config.judge) if config.judge else None
    kept: list[demonstrations.Demonstration] = []
    fate: collections.Counter[str] = collections.Counter()
    of_prompt: collections.Counter[int] = collections.Counter()
    seen = set()
    for row in samples:
        uid, question = row["uid"], row["question"]
        outcome = row["outcome"]
        if by is not None and verdict.Outcome[outcome.upper()].is_failure:
            answer = extract.answer(row["completion"], tags) or ""
            ruling = by.grade(question, (references or {}).get(uid), answer, row["sample"])
            outcome = "right" if ruling.is_right else f"judge: {ruling.error or 'wrong'}"
        if outcome != "right":
            fate[f"not right: {outcome}"] += 1
            continue
        completion = rewrite(question, row["completion"], tags)
        if completion is None:
            fate["not rewritten"] += 1
            continue
        why = filtering.why_dropped(question, completion, tags, config.filters)
        if why is None and (uid, completion) in seen:
            why = "duplicate"
        if why is None and of_prompt[uid] == config.per_prompt:
            why = "over per_prompt"
        fate[why or "kept"] += 1
        if why is None:
            of_prompt[uid] += 1
            seen.add((uid, completion))
            kept.append(demonstrations.Demonstration(uid, question, completion, source))
    return kept, dict(sorted(fate.items()))
