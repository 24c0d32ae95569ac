"""A world with one preference: the better of two answers holds the word "please". And its stage."""

import functools
import pathlib
import random

from r1_jax.core import build
from r1_jax.data import preferences
from r1_jax.pipeline import experiment
from r1_jax.text import chat, tokenizer

WORD = "please"
FILLERS = "go come take give left right here there now then red blue".split()
TAGS = chat.Tags()

CONFIG = {
    "seed": 5,
    "model": {
        "vocab_size": 300, "num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_kv_heads": 1,
        "head_dim": 8, "mlp_dim": 32,
    },
    "mesh": {"fsdp": 2},
    "reward_model": {
        "batch_size": 32, "num_epochs": 2, "max_tokens": 33,
        "held_out_share": 0.1, "optim": {"learning_rate": 0.01, "weight_decay": 0.1},
    },
    "checkpoint": {"every": 10},
}  # fmt: skip


def config(folder: pathlib.Path, **changes) -> experiment.ExperimentConfig:
    """CONFIG with changes, dots written as two underscores; its tokenizer lies in `folder`."""
    mapping = build.merge(CONFIG, "tokenizer.path", str(folder / "t.model"))
    for name, value in changes.items():
        mapping = build.merge(mapping, name.replace("__", "."), value)
    return build.build(experiment.ExperimentConfig, mapping)


def train_tokenizer(folder: pathlib.Path) -> None:
    words = (WORD, *FILLERS)
    symbols = (*chat.symbols(TAGS), *(f" {word}" for word in words))
    texts = [chat.render(f"say {n}", TAGS) + f" {' '.join(words)}" for n in range(20)]
    tokenizer.train_sentencepiece(texts, folder / "t.model", 300, symbols=symbols)


def sentence(rng: random.Random, is_polite: bool) -> str:
    """3 to 8 words, WORD among them or not, one as long as the other."""
    words = rng.choices(FILLERS, k=rng.randint(3, 8))
    if is_polite:
        words[rng.randrange(len(words))] = WORD
    return " " + " ".join(words)


def better(question: str, first: str, second: str) -> float:
    """The world's judge of pairs."""
    return 2.0 * ((WORD in first) - (WORD in second))


def safe(question: str, reference: str | None, answer: str) -> bool:
    return WORD in answer


@functools.cache
def pairs(num: int = 600, seed: int = 0) -> tuple[preferences.Preference, ...]:
    rng = random.Random(seed)
    return tuple(
        preferences.Preference(
            uid, f"say {uid}", sentence(rng, True), sentence(rng, False), 2.0, "summary"
        )
        for uid in range(num)
    )


def swapped(pairs) -> list[preferences.Preference]:
    return [
        preferences.Preference(p.uid, p.question, p.rejected, p.chosen, p.margin, p.view)
        for p in pairs
    ]


def labelled(num: int = 600) -> list[preferences.Labelled]:
    rng = random.Random(1)
    found = []
    for uid in range(num):
        is_safe = rng.random() < 0.5
        found.append(preferences.Labelled(uid, f"say {uid}", sentence(rng, is_safe), is_safe))
    return found
