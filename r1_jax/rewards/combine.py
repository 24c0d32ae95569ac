"""The reward a completion is paid: a weighted sum that keeps every part."""

import dataclasses
import hashlib
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from r1_jax.rewards import cosine, extract, language, length, repetition, verdict
from r1_jax.rewards import format as form

Custom = Callable[[str, str, str], float]  # (completion, prompt_question, reference) -> reward

# In the order in which they are added; each has a weight in RewardConfig.
PENALTIES = ("length", "cosine", "repetition")  # can be negative
PARTS = ("accuracy", "format", "random", "custom", "tags", "language", *PENALTIES)


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """What is paid. Accuracy and format at equal weight, as in DeepSeek-R1 (v2, 2.2)."""

    accuracy_weight: float = 1.0  # the right answer, 0/1; graded and logged at weight 0 too
    format_weight: float = 1.0  # the asked form, 0/1; graded and logged at weight 0 too
    random_weight: float = 0.0  # a coin, for the control run; not drawn at weight 0
    custom: str = ""  # "module:function"; graded and logged at weight 0 too
    custom_weight: float = 0.0
    # the rest is graded where it has a weight
    tags_weight: float = 0.0  # each tag for itself, 0 to 1: format.per_tag
    language_weight: float = 0.0  # words of `language` in the thinking, 0 to 1 (R1, first RL stage)
    language: str = "en"  # one of language.LANGUAGES, or "question": the one it is asked in
    length_weight: float = 0.0  # distance from length_target, -1 to 0
    length_target: int = 0  # generated tokens
    cosine_weight: float = 0.0  # accuracy by length, -10 to 2; set accuracy_weight=0 beside it
    cosine_max_length: int = 0  # generated tokens; usually grpo.max_response
    repetition_weight: float = 0.0  # share of repeated n-grams, -1 to 0
    repetition_ngram: int = 8  # words
    composition: Literal["sum", "product"] = "sum"  # of the weighted parts
    gates: tuple[str, ...] = ()  # graded parts that must be > 0 for any pay

    def __post_init__(self):
        weights = {f"{part}_weight": getattr(self, f"{part}_weight") for part in PARTS}
        for name, weight in weights.items():
            if not math.isfinite(weight):
                raise ValueError(f"{name}={weight} must be a finite number")
        if not any(weights.values()):
            raise ValueError("every reward weight is 0: give one of " + ", ".join(weights))
        if self.custom_weight and not self.custom:
            raise ValueError(
                f"custom_weight={self.custom_weight} pays nothing: set custom to "
                '"module:function" or custom_weight to 0'
            )
        self._check_settings()

    def _check_settings(self):
        if self.language not in (*language.LANGUAGES, "question"):
            known = ", ".join((*language.LANGUAGES, "question"))
            raise ValueError(f"language={self.language!r} is not one of {known}")
        for part, limit in (("length", "length_target"), ("cosine", "cosine_max_length")):
            weight, tokens = getattr(self, f"{part}_weight"), getattr(self, limit)
            if tokens < 0 or bool(tokens) != bool(weight):
                raise ValueError(
                    f"{part}_weight={weight} and {limit}={tokens} (tokens) go together: set both, "
                    "or neither"
                )
        if self.repetition_ngram < 1:
            raise ValueError(f"repetition_ngram={self.repetition_ngram} must be at least 1")
        for gate in self.gates:
            if gate not in parts_of(self):
                raise ValueError(
                    f"gates: {gate!r} is no part that is graded; there are "
                    f"{', '.join(parts_of(self))}"
                )
        if self.composition == "product":
            negative = [part for part in PENALTIES if getattr(self, f"{part}_weight")]
            if negative:
                raise ValueError(
                    f"composition='product' has no meaning with parts that go below 0: set "
                    f"{', '.join(f'{part}_weight' for part in negative)} to 0, or use 'sum'"
                )


def parts_of(config: RewardConfig) -> list[str]:
    """The parts that are graded and logged, in one order: accuracy, format, what has a weight."""
    listed = ["accuracy", "format"]
    for part in PARTS[2:]:
        if getattr(config, f"{part}_weight") or (part == "custom" and config.custom):
            listed.append(part)
    return listed


class Grade(NamedTuple):
    """One completion's reward."""

    total: float  # weighted sum of the parts; 0.0 and meaningless unless is_valid
    parts: dict[str, float]  # unweighted; "accuracy", "format" and what else is configured
    outcome: verdict.Outcome  # of the accuracy part; CRASH where the custom reward failed

    @property
    def is_valid(self) -> bool:
        """False when a grader failed: the row must leave baseline and loss."""
        return not self.outcome.is_failure


def resolve(path: str, what: str = "custom reward") -> Custom | None:
    """The function named "module:function", imported; None for "". Call once, before step 0.

    It is called as function(completion: str, prompt_question: str, reference: str) -> float. what:
    what the function is, for the errors.
    ValueError if the name has another form, cannot be imported, or is not callable; an error
    that the module itself raises while it is imported comes through as it is.
    """
    if not path:
        return None
    module_name, colon, function_name = path.partition(":")
    if not colon or not function_name or not module_name.strip(".") or module_name[0] == ".":
        raise ValueError(f'{what} {path!r} must have the form "module:function"')
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{what} {path!r}: cannot import {module_name!r} ({error}); start from the "
            "folder that holds it, or add that folder to PYTHONPATH"
        ) from error
    if not callable(getattr(module, function_name, None)):
        found = sorted(
            n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])
        )
        raise ValueError(
            f"{what} {path!r}: {module_name!r} has no function {function_name!r}; "
            f"it has {', '.join(found) or 'none'}"
        )
    return getattr(module, function_name)


def coin(seed: int, step: int, uid: int, sample: int) -> float:
    """0.0 or 1.0 with even odds, the same on every host and in every run for the same arguments.

    A reward that knows nothing of the completion, for the control of Spurious Rewards
    (arXiv:2506.10947): what still rises under it does not rise because of the reward.
    """
    text = f"coin/{seed}/{step}/{uid}/{sample}".encode()
    return float(hashlib.blake2b(text, digest_size=1).digest()[0] & 1)


def total(parts: Mapping[str, float], config: RewardConfig) -> float:
    """The weighted parts, added or multiplied; at most 0 where a gate is closed.

    A part without weight takes no part, in the product neither: weight 0 is "not there" and not
    "times 0". A gate is closed where its part is not positive; penalties are paid all the same, so
    that closing a gate is no way around them.
    """
    names = [part for part in PARTS if getattr(config, f"{part}_weight")]
    paid = [getattr(config, f"{part}_weight") * parts[part] for part in names]
    reward = paid[0]
    for pay in paid[1:]:  # sum() rounds otherwise from Python 3.12 on
        reward = reward * pay if config.composition == "product" else reward + pay
    is_open = all(parts[gate] > 0 for gate in config.gates)
    return reward if is_open else min(reward, 0.0)


def grade(
    completion: str,
    question: str,
    reference: str,
    accuracy: Callable[[str | None], verdict.Verdict],
    tags: extract.Tags,
    *,
    config: RewardConfig,
    custom: Custom | None,
    draw: tuple[int, int, int, int],
    num_tokens: int | None = None,
) -> Grade:
    """The reward of one completion (the generated text, without prompt and stop token).

    accuracy: the task's grader with its problem bound; it gets the extracted answer or None, and
    the facts in its verdict's parts are kept as "accuracy/name". custom: what `resolve` returned
    for config.custom. draw: (seed, step, uid, sample), read when config.random_weight is set.
    num_tokens: generated tokens, stop token included; needed by length_weight and cosine_weight
    (ValueError without it).

    An exception, or a value that is not a finite number, from `custom` makes the outcome CRASH
    and the row invalid. Only that call is guarded, because only that code is not ours: an
    exception anywhere else is a bug here and is raised.
    """
    found = accuracy(extract.answer(completion, tags))
    outcome = found.outcome
    parts = {"accuracy": found.value, "format": form.strict(completion, tags)}
    parts |= {f"accuracy/{name}": value for name, value in found.parts.items()}
    if config.random_weight:
        parts["random"] = coin(*draw)
    parts |= _extra(completion, question, found, tags, config, num_tokens)
    if custom is not None:
        paid = _call(custom, completion, question, reference)
        parts["custom"] = 0.0 if paid is None else paid
        if paid is None:
            outcome = verdict.Outcome.CRASH
    return Grade(0.0 if outcome.is_failure else total(parts, config), parts, outcome)


def _extra(
    completion: str,
    question: str,
    found: verdict.Verdict,
    tags: extract.Tags,
    config: RewardConfig,
    num_tokens: int | None,
) -> dict[str, float]:
    """The parts that are graded only where they have a weight."""
    parts = {}
    if config.tags_weight:
        parts["tags"] = form.per_tag(completion, tags)
    if config.language_weight:
        thought = extract.thought(completion, tags)
        wanted = language.of(question) if config.language == "question" else config.language
        parts["language"] = language.share(completion if thought is None else thought, wanted)
    if config.repetition_weight:
        parts["repetition"] = repetition.penalty(completion, config.repetition_ngram)
    if (config.length_weight or config.cosine_weight) and num_tokens is None:
        raise ValueError("length_weight and cosine_weight need num_tokens, the tokens generated")
    if config.length_weight and num_tokens is not None:
        parts["length"] = length.to_target(num_tokens, config.length_target)
    if config.cosine_weight and num_tokens is not None:
        is_right = found.outcome == verdict.Outcome.RIGHT
        parts["cosine"] = cosine.reward(is_right, num_tokens, config.cosine_max_length)
    return parts


def _call(custom: Custom, completion: str, question: str, reference: str) -> float | None:
    """The user's reward as a float; None if it raised or returned no finite number."""
    try:
        paid = float(custom(completion, question, reference))
    except Exception:  # code of the user's: any failure is counted as CRASH, none stops the run
        return None
    return paid if math.isfinite(paid) else None
