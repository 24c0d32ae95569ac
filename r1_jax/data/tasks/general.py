"""General requests in small: facts, translation, self-cognition, writing (DeepSeek-R1 2.3.3).

They stand for R1's non-reasoning data. Facts can be known from statements alone (`statements`,
which a base's corpus holds for held-out facts too), so that a model which learnt to answer some of
the questions can answer the others.
"""

import functools
import json
import random
import re
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
ADJECTIVES = tuple("red blue green white black big small".split())
NOUNS = tuple(word for word in WORDS if word not in ADJECTIVES)
TOPICS = (
    "sea", "garden", "city", "winter", "summer", "music", "bread", "forest", "school", "night",
    "morning", "island", "bridge", "train", "friend", "star",
)  # fmt: skip
SELF = ("Who are you?", "What are you?", "What is your name?", "Are you a person?")
I_AM = "I am R1, a small model that reasons."
MARKERS = ("check", "wait", "wrong")


Item = tuple[str, ...]  # what a request asks about: one thing or two


def question(kind: str, item: Item) -> str:
    """The text of a request. kind: one of "capital", "translate", "self", "write"."""
    if kind == "capital" and len(item) == 2:
        return f"What are the capitals of {' and '.join(item)}?"
    return {
        "capital": f"What is the capital of {item[0]}?",
        "translate": f"Say in Chinese: {' '.join(item)}",
        "self": item[0],
        "write": f"Write a line about {' and '.join(f'the {topic}' for topic in item)}.",
    }[kind]


def answer(kind: str, item: Item) -> str:
    """A good answer."""
    if kind == "capital":
        first, *second = [(country, CAPITALS[country]) for country in item]
        rest = "".join(f", and of {country} it is {city}" for country, city in second)
        return f"The capital of {first[0]} is {first[1]}{rest}."
    if kind == "write" and len(item) == 2:
        return f"The {item[0]} and the {item[1]} are quiet, and I like them."
    return {
        "translate": "".join(WORDS.get(word, "") for word in item),
        "self": I_AM,
        "write": f"The {item[0]} is quiet and I like it.",
    }[kind]


@functools.cache
def items() -> dict[str, tuple[Item, ...]]:
    """Kind -> what is asked: each thing alone, and pairs of which each half is known alone."""
    alone = {"capital": CAPITALS, "translate": WORDS, "self": SELF, "write": TOPICS}
    pairs = {
        "capital": _pairs(tuple(CAPITALS), 5),
        "translate": tuple((adjective, noun) for adjective in ADJECTIVES for noun in NOUNS),
        "self": (),
        "write": _pairs(TOPICS, 7),
    }
    return {kind: (*((name,) for name in known), *pairs[kind]) for kind, known in alone.items()}


def _pairs(names: tuple[str, ...], each: int) -> tuple[Item, ...]:
    """Each name with the `each` that follow it, round the circle; no pair twice."""
    return tuple(
        (name, names[(i + away) % len(names)])
        for i, name in enumerate(names)
        for away in range(1, each + 1)
    )


def statements() -> list[str]:
    """What a text about the world says of every fact, whatever its split."""
    facts = [answer("capital", (country,)) for country in CAPITALS]
    return facts + [f"{english} {chinese}" for english, chinese in WORDS.items()]


def symbols() -> tuple[str, ...]:
    """What a tokenizer holds as single tokens: names and words; learnt pieces hold the rest."""
    names = [f" {name}" for name in (*CAPITALS, *CAPITALS.values(), *WORDS, *TOPICS)]
    return (*names, *WORDS.values())


def problems(seed: int) -> dict[str, list[task.Prompt]]:
    """Every item as a request, in one split alone (task.split_of), in an order of `seed`."""
    drawn = [(kind, item) for kind, known in items().items() for item in known]
    random.Random(f"general {seed}").shuffle(drawn)
    split_of = [task.split_of(item) for item in drawn]
    sizes = {split: split_of.count(split) for split in task.SPLITS}

    def candidates() -> Iterator[tuple[tuple[str, Item], task.Prompt]]:
        for kind, item in drawn:
            reference = json.dumps({"kind": kind, "item": item})
            yield (kind, item), task.Prompt(0, question(kind, item), reference)

    return task.fill(candidates(), sizes, "the items are a fixed list")


def accuracy(text: str | None, prompt: task.Prompt) -> verdict.Verdict:
    """RIGHT for an answer of at most 16 words that says what is asked, and no other item's answer.

    "capital", "translate": the right names in the order asked and no other; "self": I_AM; "write":
    at least five words, each topic once among them, and no other topic. UNPARSED without an answer.
    """
    reference = json.loads(prompt.reference)
    kind, item = reference.get("kind"), tuple(reference.get("item", ()))
    if item not in items().get(kind, ()):
        return verdict.BAD_REFERENCE
    if text is None or not text.strip():
        return verdict.UNPARSED
    boxed = extract.boxed(text)
    text = text if boxed is None else boxed
    words = [word.strip(".,!?").lower() for word in text.split()]
    if kind == "self":
        is_right = text.strip() == I_AM
    elif kind == "translate":
        said = [letter for letter in text if letter in WORDS.values()]
        is_right = said == [WORDS[word] for word in item]
    elif kind == "capital":
        cities = {city.lower() for city in CAPITALS.values()}
        said = [word for word in words if word in cities]
        is_right = said == [CAPITALS[country].lower() for country in item]
    else:
        said = [word for word in words if word in TOPICS]
        is_right = sorted(said) == sorted(item) and len(words) >= 5
    return verdict.RIGHT if is_right and len(words) <= 16 else verdict.WRONG


def ideal(prompt: task.Prompt) -> str:
    """A good answer to a request."""
    reference = json.loads(prompt.reference)
    return answer(reference["kind"], tuple(reference["item"]))


def vote(text: str | None) -> str | None:
    """The answer in lower case without a final stop."""
    return (text or "").strip().rstrip(".").lower() or None


@functools.cache
def _asked() -> dict[str, task.Prompt]:
    return {prompt.question: prompt for split in problems(0).values() for prompt in split}


def quality(text: str, prompt: task.Prompt) -> float:
    """How much of what is asked an answer gives: 1 for a right one, less than 1/2 for another.

    The latter is half the share of names (cities, words, topics) that are among those asked for, of
    as many as were asked for or were said, whichever is more.
    """
    if accuracy(text, prompt) == verdict.RIGHT:
        return 1.0
    reference = json.loads(prompt.reference)
    kind, item = reference["kind"], reference["item"]
    words = [word.strip(".,!?").lower() for word in text.split()]
    if kind == "capital":
        known, wanted = {c.lower() for c in CAPITALS.values()}, {CAPITALS[c].lower() for c in item}
    elif kind == "translate":
        known, wanted, words = set(WORDS.values()), {WORDS[word] for word in item}, list(text)
    else:
        known, wanted = set(TOPICS), set(item)
    said = [word for word in words if word in known]
    hits = len(wanted.intersection(said))
    return 0.49 * hits / max(len(said), len(wanted))


def better(question_text: str, first: str, second: str) -> float:
    """A judge of two answers to a request: 2 for the one of more quality, 0 between two alike.

    Raises KeyError for a question that is no request of this world.
    """
    prompt = _asked()[question_text]
    found = [quality(_bare(text), prompt) for text in (first, second)]
    return 2.0 * ((found[0] > found[1]) - (found[0] < found[1]))


def briefer(question_text: str, first: str, second: str) -> float:
    """A judge who likes the shorter of two answers, whatever it says."""
    words = [len(_bare(text).split()) for text in (first, second)]
    return 2.0 if words[0] < words[1] else -2.0 if words[0] > words[1] else 0.0


def _bare(text: str) -> str:
    """Without the tags that a summary may carry."""
    return re.sub(r"</?[a-z]+>", " ", text).strip()
