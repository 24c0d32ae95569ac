"""General requests in small: facts, translation, self-cognition, writing (DeepSeek-R1 2.3.3).

They stand for R1's non-reasoning data. Facts can be known from statements alone (`statements`,
which a base's corpus holds for held-out facts too), so that a model which learnt to answer some of
the questions can answer the others.
"""

import json
import random
from collections.abc import Iterator

from r1_jax.data.tasks import task
from r1_jax.rewards import extract, verdict

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "China": "Beijing",
    "Egypt": "Cairo", "Peru": "Lima", "Cuba": "Havana", "Greece": "Athens", "Norway": "Oslo",
    "Austria": "Vienna", "Poland": "Warsaw", "Kenya": "Nairobi", "Iraq": "Baghdad",
    "Iran": "Tehran", "India": "Delhi", "Nepal": "Kathmandu", "Chile": "Santiago", "Qatar": "Doha",
    "Ghana": "Accra",
    "Mali": "Bamako", "Libya": "Tripoli", "Syria": "Damascus", "Turkey": "Ankara", "Latvia": "Riga",
    "Hungary": "Budapest", "Serbia": "Belgrade", "Finland": "Helsinki", "Ireland": "Dublin",
    "Portugal": "Lisbon", "Canada": "Ottawa", "Ecuador": "Quito",
}  # fmt: skip
WORDS = {
    "red": "红", "blue": "蓝", "green": "绿", "white": "白", "black": "黑", "water": "水",
    "fire": "火", "mountain": "山", "river": "河", "moon": "月", "sun": "日", "tree": "树",
    "horse": "马", "fish": "鱼", "bird": "鸟", "dog": "狗", "cat": "猫", "book": "书",
    "door": "门", "car": "车", "hand": "手", "heart": "心", "eye": "眼", "mouth": "口",
    "rain": "雨", "snow": "雪", "wind": "风", "rice": "米", "tea": "茶", "wine": "酒",
    "big": "大", "small": "小",
}  # fmt: skip
TOPICS = (
    "sea", "garden", "city", "winter", "summer", "music", "bread", "forest", "school", "night",
    "morning", "island", "bridge", "train", "friend", "star",
)  # fmt: skip
SELF = ("Who are you?", "What are you?", "What is your name?", "Are you a person?")
I_AM = "I am R1, a small model that reasons."
MARKERS = ("check", "wait", "wrong")


def question(kind: str, item: str) -> str:
    """The text of a request. kind: one of "capital", "translate", "self", "write"."""
    return {
        "capital": f"What is the capital of {item}?",
        "translate": f"Say in Chinese: {item}",
        "self": item,
        "write": f"Write a line about the {item}.",
    }[kind]


def answer(kind: str, item: str) -> str:
    """A good answer."""
    return {
        "capital": f"The capital of {item} is {CAPITALS.get(item)}.",
        "translate": f"{WORDS.get(item)}",
        "self": I_AM,
        "write": f"The {item} is quiet and I like it.",
    }[kind]


def items() -> list[tuple[str, str]]:
    """All (kind, item)."""
    kinds = {"capital": CAPITALS, "translate": WORDS, "self": SELF, "write": TOPICS}
    return [(kind, item) for kind, known in kinds.items() for item in known]


def statements() -> list[str]:
    """What a text about the world says of every fact, whatever its split."""
    facts = [answer("capital", country) for country in CAPITALS]
    return facts + [f"{english} {chinese}" for english, chinese in WORDS.items()]


def symbols() -> tuple[str, ...]:
    """What a tokenizer holds as single tokens: names and words; learnt pieces hold the rest."""
    names = [f" {name}" for name in (*CAPITALS, *CAPITALS.values(), *WORDS, *TOPICS)]
    return (*names, *WORDS.values())


def problems(seed: int) -> dict[str, list[task.Prompt]]:
    """Every item as a request, in one split alone (task.split_of), in an order of `seed`."""
    drawn = items()
    random.Random(f"general {seed}").shuffle(drawn)
    split_of = [task.split_of(item) for item in drawn]
    sizes = {split: split_of.count(split) for split in task.SPLITS}

    def candidates() -> Iterator[tuple[tuple[str, str], task.Prompt]]:
        for kind, item in drawn:
            reference = json.dumps({"kind": kind, "item": item})
            yield (kind, item), task.Prompt(0, question(kind, item), reference)

    return task.fill(candidates(), sizes, "the items are a fixed list")


def accuracy(text: str | None, prompt: task.Prompt) -> verdict.Verdict:
    """RIGHT for an answer of at most 16 words that says what is asked, and no other item's answer.

    "capital", "translate": the right name and no second one; "self": I_AM; "write": at least five
    words, the topic among them, and no other topic. UNPARSED without an answer.
    """
    reference = json.loads(prompt.reference)
    kind, item = reference.get("kind"), reference.get("item")
    if (kind, item) not in items():
        return verdict.BAD_REFERENCE
    if text is None or not text.strip():
        return verdict.UNPARSED
    boxed = extract.boxed(text)
    text = text if boxed is None else boxed
    words = [word.strip(".,!?").lower() for word in text.split()]
    if kind == "self":
        is_right = text.strip() == I_AM
    elif kind == "translate":
        is_right = [letter for letter in text if letter in WORDS.values()] == [WORDS[item]]
    else:
        known = CAPITALS.values() if kind == "capital" else TOPICS
        wanted = CAPITALS[item] if kind == "capital" else item
        said = [word for word in words if word in {name.lower() for name in known}]
        is_right = said == [wanted.lower()] and (kind == "capital" or len(words) >= 5)
    return verdict.RIGHT if is_right and len(words) <= 16 else verdict.WRONG


def ideal(prompt: task.Prompt) -> str:
    """A good answer to a request."""
    return answer(**json.loads(prompt.reference))


def vote(text: str | None) -> str | None:
    """The answer in lower case without a final stop."""
    return (text or "").strip().rstrip(".").lower() or None
