"""The reward a completion is paid: a weighted sum that keeps every part."""

import dataclasses
import hashlib
import importlib
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from r1_jax.rewards import extract, verdict
from r1_jax.rewards import format as form

Custom = Callable[[str, str, str], float]  # (completion, prompt_question, reference) -> reward


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """What is paid. Accuracy and format at equal weight, as in DeepSeek-R1 (v2, 2.2)."""

    accuracy_weight: float = 1.0  # the right answer, 0/1; graded and logged at weight 0 too
    format_weight: float = 1.0  # the asked form, 0/1; graded and logged at weight 0 too
    random_weight: float = 0.0  # a coin, for the control run; not drawn at weight 0
    custom: str = ""  # "module:function"; graded and logged at weight 0 too
    custom_weight: float = 0.0

    def __post_init__(self):
        weights = {
            name: getattr(self, name)
            for name in ("accuracy_weight", "format_weight", "random_weight", "custom_weight")
        }
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


class Grade(NamedTuple):
    """One completion's reward."""

    total: float  # weighted sum of the parts; 0.0 and meaningless unless is_valid
    parts: dict[str, float]  # unweighted; "accuracy", "format" and what else is configured
    outcome: verdict.Outcome  # of the accuracy part; CRASH where the custom reward failed

    @property
    def is_valid(self) -> bool:
        """False when a grader failed: the row must leave baseline and loss."""
        return not self.outcome.is_failure


def resolve(path: str) -> Custom | None:
    """The function named "module:function", imported; None for "". Call once, before step 0.

    It is called as function(completion: str, prompt_question: str, reference: str) -> float.
    ValueError if the name has another form, cannot be imported, or is not callable; an error
    that the module itself raises while it is imported comes through as it is.
    """
    if not path:
        return None
    module_name, colon, function_name = path.partition(":")
    if not colon or not function_name or not module_name.strip(".") or module_name[0] == ".":
        raise ValueError(f'custom reward {path!r} must have the form "module:function"')
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"custom reward {path!r}: cannot import {module_name!r} ({error}); start from the "
            "folder that holds it, or add that folder to PYTHONPATH"
        ) from error
    if not callable(getattr(module, function_name, None)):
        found = sorted(
            n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])
        )
        raise ValueError(
            f"custom reward {path!r}: {module_name!r} has no function {function_name!r}; "
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
    """The weighted sum of the parts that have a weight: accuracy, format, random, custom."""
    reward = config.accuracy_weight * parts["accuracy"] + config.format_weight * parts["format"]
    if config.random_weight:
        reward += config.random_weight * parts["random"]
    if config.custom_weight:
        reward += config.custom_weight * parts["custom"]
    return reward


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
) -> Grade:
    """The reward of one completion (the generated text, without prompt and stop token).

    accuracy: the task's grader with its problem bound; it gets the extracted answer or None, and
    the facts in its verdict's parts are kept as "accuracy/name". custom: what `resolve` returned
    for config.custom. draw: (seed, step, uid, sample), read when config.random_weight is set.

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
    if custom is not None:
        paid = _call(custom, completion, question, reference)
        parts["custom"] = 0.0 if paid is None else paid
        if paid is None:
            outcome = verdict.Outcome.CRASH
    return Grade(0.0 if outcome.is_failure else total(parts, config), parts, outcome)


def _call(custom: Custom, completion: str, question: str, reference: str) -> float | None:
    """The user's reward as a float; None if it raised or returned no finite number."""
    try:
        paid = float(custom(completion, question, reference))
    except Exception:  # code of the user's: any failure is counted as CRASH, none stops the run
        return None
    return paid if math.isfinite(paid) else None
