"""Candidates -> judged pairs on disk -> token ids of a reward model's examples."""

import hashlib
import json
import pathlib
from typing import Any, NamedTuple

from absl import logging

from r1_jax.checkpoints import atomic
from r1_jax.data import length_balance, preferences
from r1_jax.pipeline import assemble, experiment, r1_zero, reward_score
from r1_jax.rewards import judge
from r1_jax.text import tokenizer as text_tokenizer
from r1_jax.training import reward_model as reward_loop

RECORDS = {"pairwise": preferences.Preference, "pointwise": preferences.Labelled}


def collect(
    config: experiment.ExperimentConfig,
    candidates: str | pathlib.Path,
    by: judge.Judge,
    out: str | pathlib.Path,
) -> dict[str, Any]:
    """Judges the Candidate records of a JSONL file on their summaries; writes the pairs to `out`.

    Returns what became of all pairs and how much length says before and after, which is written
    beside `out` as well (.stats.json). Lengths are in tokens of the config's tokenizer.
    """
    tokens = assemble.load_tokenizer(config)
    found = preferences.judge_pairs(
        preferences.read(candidates, preferences.Candidate), by, config.preference,
        view="summary", tags=config.tags, seed=config.seed,
    )  # fmt: skip
    pairs = found.pairs

    def length(text: str) -> int:
        return len(tokens.encode(text))

    stats: dict[str, Any] = {"first_mean": found.first_mean}
    stats["before"] = length_balance.measure(pairs, length)
    if config.preference.balance_lengths:
        pairs = length_balance.balance(pairs, length, seed=config.seed)
    stats["after"] = length_balance.measure(pairs, length)
    dropped = {"dropped/length": len(found.pairs) - len(pairs)}
    stats["counts"] = found.counts | dropped | {"kept": len(pairs)}
    out = pathlib.Path(out)
    atomic.write(out.with_suffix(".stats.json"), (json.dumps(stats, indent=2) + "\n").encode())
    preferences.write(out, pairs)
    return stats


class Data(NamedTuple):
    """The records of a file, encoded and split by prompt."""

    train: list[reward_loop.Example]
    held_out: list[reward_loop.Example]
    view: str


def digest(path: str | pathlib.Path) -> str:
    """SHA-256, hex, of a file of records; ValueError where there is none."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no file of judged pairs or labelled answers there")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(
    config: experiment.ExperimentConfig, path: str | pathlib.Path, tokens: text_tokenizer.Tokenizer
) -> Data:
    """The examples of a JSONL file of Preference or Labelled records.

    A prompt is held out or not, a function of its text alone: none is in both parts. What is longer
    than max_tokens is left out and counted in the log. Raises ValueError when a part is empty or
    records were made for different views.
    """
    cfg = config.reward_model
    records = preferences.read(path, RECORDS[cfg.kind])
    views = sorted({record.view for record in records})
    if len(views) > 1:
        raise ValueError(f"{path} mixes the views {', '.join(views)}; a reward model has one")
    parts: tuple[list[reward_loop.Example], ...] = ([], [])
    for record in records:
        prompt = r1_zero.render(config, record.question)
        if isinstance(record, preferences.Preference):
            responses, is_good = (record.chosen, record.rejected), True
        else:
            responses, is_good = (record.response,), record.is_safe
        texts = tuple(reward_score.encode(tokens, prompt, response) for response in responses)
        example = reward_loop.Example(texts, is_good)
        if example.longest <= cfg.max_tokens:
            parts[_is_held_out(record.question, cfg.held_out_share)].append(example)
    num_long = len(records) - sum(map(len, parts))
    if num_long:
        logging.warning("%d examples are longer than max_tokens=%d", num_long, cfg.max_tokens)
    if not parts[1]:
        raise ValueError(
            f"{path}: none of {len(records)} records is held out; bring more prompts or raise "
            "reward_model.held_out_share"
        )
    return Data(*parts, views[0])


def _is_held_out(question: str, share: float) -> bool:
    bits = hashlib.sha256(f"reward_model/held_out/{question}".encode()).digest()[:4]
    return int.from_bytes(bits) < share * 2**32
