"""IF-Eval: prompts whose instructions a program can verify (Zhou et al., arXiv:2311.07911).

Verified are the 22 kinds in CHECKS, written from their published description, strict variant. Three
kinds are not: length_constraints:number_sentences and change_case:capital_word_frequency (they are
defined by a trained sentence and word splitter) and language:response_language (by a language
identifier); prompts that ask for one are left out and counted. The two kinds that ask for English
in one case check the case alone. A score here is therefore not the published one to the point.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from r1_jax.data.tasks import published, task
from r1_jax.rewards import verdict

SOURCE = published.Source(
    "ifeval", ("input_data.jsonl", "*.jsonl", "*.parquet"), "google/IFEval, input_data.jsonl"
)


def problems(
    source: published.Source, found: Sequence[published.Record]
) -> tuple[list[task.Prompt], int]:
    """(prompts of which every instruction can be verified here, how many others there were)."""
    prompts = []
    for index, record in enumerate(found):
        kinds = published.field(record, ("instruction_id_list",), source, index)
        arguments = published.field(record, ("kwargs",), source, index)
        if len(kinds) != len(arguments):
            raise ValueError(
                f"{source.name}: record {index} has {len(kinds)} instructions and "
                f"{len(arguments)} sets of arguments"
            )
        if not set(kinds) <= set(CHECKS):
            continue
        # Parquet has a column, mostly empty, for every argument of every kind.
        given = [{k: v for k, v in kwargs.items() if v is not None} for kwargs in arguments]
        reference = json.dumps({"instructions": list(zip(kinds, given, strict=True))})
        question = published.field(record, ("prompt",), source, index)
        prompts.append(task.Prompt(index, question, reference))
    return prompts, len(found) - len(prompts)


def accuracy(answer: str | None, prompt: task.Prompt) -> verdict.Verdict:
    """RIGHT if the answer follows every instruction; its share that are followed as a part."""
    if answer is None or not answer.strip():
        return verdict.UNPARSED
    instructions = json.loads(prompt.reference)["instructions"]
    try:
        followed = [bool(CHECKS[kind](answer, **given)) for kind, given in instructions]
    except (KeyError, TypeError, ValueError, AttributeError):
        return verdict.BAD_REFERENCE  # arguments that this kind cannot have
    parts = {"instructions": sum(followed) / len(followed)}
    if all(followed):
        return verdict.Verdict(1.0, verdict.Outcome.RIGHT, parts)
    return verdict.Verdict(0.0, verdict.Outcome.WRONG, parts)


def ideal(prompt: task.Prompt) -> str:
    """There is none: raises ValueError. These prompts are for evaluation only."""
    raise ValueError(f"ifeval has no worked answer to {prompt.question[:60]!r}")


vote = None  # texts that follow instructions have no majority


def _compare(count: int, relation: str, bound: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"relation={relation!r}")
    return count < bound if relation == "less than" else count >= bound


def _has_words(text: str, keywords: Sequence[str]) -> bool:
    lower = text.lower()
    return all(keyword.lower() in lower for keyword in keywords)


def _word_frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _compare(text.lower().count(keyword.lower()), relation, frequency)


def _no_words(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(
        re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words
    )


def _letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compare(text.lower().count(letter.lower()), let_relation, let_frequency)


def _num_words(text: str, num_words: int, relation: str) -> bool:
    return _compare(len(re.findall(r"\w+", text)), relation, num_words)


def _num_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Paragraphs divided by "***"; an empty one counts against it except at either end."""
    pieces = [piece.strip() for piece in text.split("***")]
    inner = pieces[bool(not pieces[0]) : len(pieces) - (len(pieces) > 1 and not pieces[-1])]
    return all(inner) and len(inner) == num_paragraphs


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs divided by an empty line; the word ends at punctuation, in either case."""
    pieces = text.split("\n\n")
    if nth_paragraph > len(pieces) or not pieces[nth_paragraph - 1].strip():
        return False
    word = pieces[nth_paragraph - 1].split()[0].lstrip("'\"")
    word = re.split(r"[.,?!'\"]", word)[0].lower()
    num = sum(bool(piece.strip()) for piece in pieces)
    return num == num_paragraphs and word == first_word.lower()


def _num_placeholders(text: str, num_placeholders: int) -> bool:
    # By find, as a pattern for "[...]" is quadratic in a text of opening brackets.
    count = 0
    for line in text.split("\n"):
        start = line.find("[")
        while start >= 0 and (end := line.find("]", start)) >= 0:
            count += 1
            start = line.find("[", end)
    return count >= num_placeholders


def _postscript(text: str, postscript_marker: str) -> bool:
    letters = postscript_marker.lower().replace(".", "").replace(" ", "")
    if letters in ("ps", "pps"):
        pattern = r"\.\s?".join(letters) + (r"\." if letters == "ps" else "")
        return re.search(pattern, text.lower()) is not None
    return postscript_marker.lower() in text.lower()


def _num_bullets(text: str, num_bullets: int) -> bool:
    lines = [line.lstrip() for line in text.split("\n")]
    stars = sum(line[:1] == "*" and line[1:2] not in ("*", "") for line in lines)
    return stars + sum(line[:1] == "-" for line in lines) == num_bullets


def _one_of_three(text: str) -> bool:
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


def _num_highlights(text: str, num_highlights: int) -> bool:
    single = re.findall(r"\*([^\n*]*)\*", text)
    double = re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(inner.strip()) for inner in single + double) >= num_highlights


def _num_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.findall(rf"{re.escape(section_spliter)}\s?[0-9]+", text)) >= num_sections


def _is_json(text: str) -> bool:
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _has_title(text: str) -> bool:
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end and line[start:end].strip("<> "):
            return True
    return False


def _two_responses(text: str) -> bool:
    pieces = [piece.strip() for piece in text.split("******")]
    inner = pieces[bool(not pieces[0]) : len(pieces) - (len(pieces) > 1 and not pieces[-1])]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def _repeats(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends_with(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _is_quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS: dict[str, Callable[..., Any]] = {
    "keywords:existence": _has_words,
    "keywords:frequency": _word_frequency,
    "keywords:forbidden_words": _no_words,
    "keywords:letter_frequency": _letter_frequency,
    "length_constraints:number_words": _num_words,
    "length_constraints:number_paragraphs": _num_paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _num_placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _num_bullets,
    "detectable_format:constrained_response": _one_of_three,
    "detectable_format:number_highlighted_sections": _num_highlights,
    "detectable_format:multiple_sections": _num_sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _has_title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends_with,
    "startend:quotation": _is_quoted,
    "punctuation:no_comma": lambda text: "," not in text,
    "change_case:english_capital": str.isupper,
    "change_case:english_lowercase": str.islower,
}
