"""A mathematical answer's text -> what it is: number, words, group of items, relation, formula.

The cheap half of math_equal: linear scans and short patterns over what math_guard let through. A
formula that names a command which is not listed here is refused, before any algebra sees it.
Nothing here raises.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from r1_jax.rewards import math_guard, math_units

MAX_FORMULA = 256  # of one formula: the grammar that reads it is not linear
MAX_ITEMS = 32  # of a list, a tuple, a union


class Number(NamedTuple):
    """A plain number. places: digits after the point, None for one that is no decimal."""

    value: Fraction
    places: int | None = None
    unit: str = ""


class Words(NamedTuple):
    """A text answer: case and white space do not matter."""

    text: str


class Group(NamedTuple):
    """Items in brackets; "" and "" around a bare list, "U" for a union of groups."""

    left: str
    items: tuple["Answer", ...]
    right: str


class Relation(NamedTuple):
    """left operator right with one of = < <= ; a chain is a tuple of these in a Group "&"."""

    left: str
    operator: str
    right: str


class Formula(NamedTuple):
    """LaTeX for the algebra system."""

    text: str
    unit: str = ""


Answer = Number | Words | Group | Relation | Formula

_COMMANDS = frozenset(
    "frac sqrt pi cdot times div pm mp infty circ ln log exp sin cos tan cot sec csc arcsin arccos "
    "arctan sinh cosh tanh text mathrm mathbf textbf mbox operatorname begin end cup in le leq ge "
    "geq lt gt binom lfloor rfloor lceil rceil emptyset varnothing mathbb max min gcd lvert rvert "
    "alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi varphi omega psi zeta eta "
    "xi kappa Gamma Delta Theta Lambda Sigma Phi Omega Psi boxed fbox to rightarrow".split()
)
_FUNCTIONS = frozenset(
    "sqrt pi ln log exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh max min gcd "
    "infty inf infinity".split()
)
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_POWER_OF_TEN = re.compile(
    r"([+-]?[0-9]+(?:\.[0-9]+)?)\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{?\s*([+-]?[0-9]{1,3})\s*\}?"
    r"|([+-]?[0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]{1,3})"
)
_REPEATING = re.compile(r"([+-]?)([0-9]+)\.([0-9]*)\\overline\s*\{\s*([0-9]{1,60})\s*\}")
_RATIO = re.compile(
    r"([+-]?)(?:\s*([0-9]+)(?:\s+|(?=\\)))?\s*"
    r"(?:\\frac\s*(?:\{\s*([+-]?[0-9]+)\s*\}\s*\{\s*([+-]?[0-9]+)\s*\}|([0-9])([0-9]))"
    r"|([0-9]+)\s*/\s*([0-9]+))"
)
_TEXT_TAIL = re.compile(
    r"(.*\S)\s*\\(?:text|mathrm|mbox)\s*\{([a-zA-Z/. ]+)\}\s*(?:\^\s*\{?\s*([23])\s*\}?)?", re.S
)
_UNIT_TAIL = re.compile(
    r"(.*[0-9})])\s*([a-zA-Z][a-zA-Z/ ]*)\.?\s*(?:\^\s*\{?\s*([23])\s*\}?)?", re.S
)
_OPERATORS = (r"\leq", r"\geq", r"\le", r"\ge", r"\lt", r"\gt", "<=", ">=", "<", ">", "=")


def read(text: str, depth: int = 0) -> Answer | None:
    """What a cleaned text says, or None where it is no answer. Never raises."""
    text = text.strip()
    if not text or depth > math_guard.MAX_DEPTH:
        return None
    number = _number(text)
    if number is not None:
        return number
    based = re.fullmatch(r"([0-9]+)\s*_\s*\{?\s*([0-9]{1,2})\s*\}?", text)
    if based:
        return Words(f"{based[1]}_{based[2]}")  # the parser drops the base
    if re.search(r"[0-9]\s*_", text):
        return None
    words = _words(text)
    if words is not None:
        return words
    if not _is_formula(text) and _split(text, (",", ";")) == [text]:
        with_unit = _with_unit(text, depth)
        if with_unit is not None or not re.search(r"\\text|\bor\b|\band\b|\bU\b", text):
            return with_unit
    group = _group(text, depth)
    if group is not None:
        return group if len(group.items) <= MAX_ITEMS and None not in group.items else None
    relation = _relation(text)
    if relation is not None:
        return relation
    if "=" in text or "<" in text or ">" in text:
        return None
    with_unit = _with_unit(text, depth)
    if with_unit is not None:
        return with_unit
    return Formula(latex(text)) if _is_formula(text) else None


def _number(text: str) -> Number | None:
    """A plain number with or without percent, dollar or degree, exactly."""
    unit = ""
    money = re.fullmatch(r"([+-]?)\\?\$\s*(.+)", text, re.S)
    if money:
        text, unit = money[1] + money[2], "dollar"
    for tail, name in (
        (r"\s*\\?%|\s+percent", "%"),
        (r"\s*\^\s*\{?\s*\\circ\s*\}?", "deg"),
    ):
        shorter = re.sub(f"(?:{tail})$", "", text)
        if shorter != text:
            if unit:
                return None
            text, unit = shorter, name
    text = text.strip()
    text = re.sub(r"^([+-])\s+", r"\1", text)
    if re.fullmatch(r"\{\s*[^{}]*\}", text):
        return None
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    elif re.fullmatch(r"[+-]?[1-9][0-9]{0,2}(?: [0-9]{3})+", text):
        text = text.replace(" ", "")
    if _DECIMAL.fullmatch(text):
        places = len(text.partition(".")[2]) if "." in text else None
        return Number(Fraction(text), places, unit)
    match = _POWER_OF_TEN.fullmatch(text)
    if match:
        mantissa, exponent = (match[1], match[2]) if match[1] else (match[3], match[4])
        value = Fraction(mantissa) * Fraction(10) ** int(exponent)
        return Number(value, None, unit)
    match = _REPEATING.fullmatch(text)
    if match:
        sign, whole, start, repeated = match[1], match[2], match[3], match[4]
        value = Fraction(int(start or 0)) + Fraction(int(repeated), 10 ** len(repeated) - 1)
        value = int(whole) + value / 10 ** len(start)
        return Number(-value if sign == "-" else value, None, unit)
    match = _RATIO.fullmatch(text)
    if match:
        sign, whole = match[1], match[2]
        above, below = next((a, b) for a, b in ((match[3], match[4]), (match[5], match[6]),
                                                (match[7], match[8])) if a)  # fmt: skip
        if int(below) == 0 or (whole and (int(above) < 0 or int(below) < 0)):
            return None
        value = Fraction(int(above), int(below)) + int(whole or 0)
        return Number(-value if sign == "-" else value, None, unit)
    return None


def _words(text: str) -> Words | None:
    r"""Plain words: "Monday", \text{even}, "no solution", "yes"; never what could be a product."""
    bare = _TEXT.sub(r" \1 ", text)
    bare = " ".join(bare.split()).casefold().strip(" .")
    if bare.startswith("(") and bare.endswith(")") and bare[1:-1].isalpha():
        bare = bare[1:-1]
    tokens = re.split(r"[ '-]", bare)
    if not bare or not all(token.isalpha() for token in tokens if token):
        return None
    if any(token in _FUNCTIONS for token in tokens):
        return None
    is_text = bool(re.fullmatch(r"(?:\\(?:text|textbf|mbox)\s*\{[^{}]*\}\s*)+", text))
    known = {"yes", "no", "true", "false", "none", "even", "odd", "dne"}
    if is_text or bare in known or any(len(token) > 2 for token in tokens):
        # "or" and "and" between single letters join items, not words
        joined = re.search(r"\b(?:or|and)\b", bare)
        return None if joined and all(len(t) <= 3 for t in tokens) else Words(bare)
    return None if bare.isascii() else Words(bare)


def _with_unit(text: str, depth: int) -> Number | Formula | None:
    """A number or formula followed by a known unit."""
    match = _TEXT_TAIL.fullmatch(text)
    if not match:
        match = _UNIT_TAIL.fullmatch(text)
        # a letter that is not marked as text may be a variable, unless a space sets it apart
        if not match or (len(match[2]) == 1 and not re.search(r"[0-9] +[a-z]$", text)):
            return None
    inner, name = match[1].strip(), match[2].strip()
    unit, found = math_units.unit_of(name, match[3]), _number(inner)
    if unit is None and found is not None and name.isalpha() and len(name) > 2:
        unit = "#" + name.lower().removesuffix("s")  # 5 apples: something counted
    if unit is None:
        return None
    if found is not None:
        return None if found.unit else found._replace(unit=unit)
    return Formula(latex(inner), unit) if _is_formula(inner) else None


def _split(text: str, separators: tuple[str, ...]) -> list[str]:
    """`text` cut at separators outside brackets."""
    parts, depth, begin, i = [], 0, 0, 0
    while i < len(text):
        depth += (text[i] in math_guard.OPENERS) - (text[i] in math_guard.CLOSERS)
        found = next((s for s in separators if depth == 0 and text.startswith(s, i)), None)
        is_inside_name = found and found[-1].isalpha() and text[i + len(found) :][:1].isalpha()
        if found and not is_inside_name:
            parts.append(text[begin:i])
            i = begin = i + len(found)
            continue
        i += 1
    return [*parts, text[begin:]]


def _group(text: str, depth: int) -> Group | None:
    """A union, a bracketed tuple, interval or set, a bare list, a pair x = +-a."""
    match = re.match(r"[a-zA-Z]\s*\\in\s*(?=[\[({\\])", text)
    if match:
        text = text[match.end() :].strip()
    if text in (r"\emptyset", r"\varnothing", r"\{\}", r"\{ \}"):
        return Group("{", (), "}")
    united = _split(re.sub(r"(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup ", text), (r"\cup",))
    if len(united) > 1:
        return _items("U", united, "U", depth)
    joined = re.sub(r"\s*\\(?:text|mathrm|mbox)\s*\{\s*(?:and|or)\s*\}\s*", ", ", text)
    joined = re.sub(r"\s*,?\s+(?:and|or)\s+", ", ", joined)
    parts = _split(joined, (",", ";"))
    if len(parts) > 1:
        names = {p.partition("=")[0].strip() for p in parts if "=" in p}
        if len(names) == 1 and all("=" in p for p in parts):  # x = 1, x = 2
            parts = [p.partition("=")[2] for p in parts]
        elif len(names) == 1 and "=" in parts[0] and len(next(iter(names))) == 1:  # x = 1, 2
            parts[0] = parts[0].partition("=")[2]
        is_plain = joined == text and _split(text, (";",)) == [text]
        # what is joined by words has no order: "42 or 22" is not the point (42, 22)
        return _items("", parts, "", depth) if is_plain else _items("{", parts, "}", depth)
    text = joined
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return _items("{", _split(text[2:-2], (",", ";")), "}", depth)
    if text[0] == "{" and math_guard.closing(text, 0) == len(text) - 1:
        return _items("{", _split(text[1:-1], (",", ";")), "}", depth)
    if text == r"\mathbb{R}":
        return Group("(", (Formula(r"-\infty"), Formula(r"\infty")), ")")
    if text[0] in "([" and math_guard.closing(text, 0) == len(text) - 1 and text[-1] in ")]":
        parts = _split(text[1:-1], (",", ";"))
        if len(parts) > 1:
            return _items(text[0], parts, text[-1], depth)
    if re.fullmatch(r"(?:[a-zA-Z]\s*=\s*)?\\pm[^=<>]*", text):
        value = text.partition(r"\pm")[2]
        return _items("", [value, f"-({value})"], "", depth)
    if text.count(r"\pm") == 1 and not re.search(r"[=<>]", text):
        return _items("", [text.replace(r"\pm", "+"), text.replace(r"\pm", "-")], "", depth)
    return None


def _items(left: str, parts: list[str], right: str, depth: int) -> Group:
    found = tuple(read(part, depth + 1) for part in parts[: MAX_ITEMS + 1])
    return Group(left, found, right)  # type: ignore[arg-type]  # read() drops groups with None


def _relation(text: str) -> Answer | None:
    """An equation, an inequality, or a chain of two inequalities as the interval it describes."""
    pieces, operators, rest = [], [], text
    while True:
        places = [(rest.find(o), -len(o), o) for o in _OPERATORS if o in rest]
        if not places or len(operators) > 2:
            break
        position, _, operator = min(places)
        pieces.append(rest[:position])
        operators.append(
            operator.replace("\\", "").replace("leq", "<=").replace("geq", ">=")
            .replace("le", "<=").replace("ge", ">=").replace("lt", "<").replace("gt", ">")
        )  # fmt: skip
        rest = rest[position + len(operator) :]
    pieces = [latex(piece) for piece in [*pieces, rest]]
    if not operators or not all(piece and _is_formula(piece) for piece in pieces):
        return None
    if len(operators) == 1:
        left, operator, right = pieces[0], operators[0], pieces[1]
        if operator.startswith(">"):
            left, operator, right = right, operator.replace(">", "<"), left
        return Relation(left, operator, right)
    if len(operators) == 2 and re.fullmatch("[a-zA-Z]", pieces[1]):
        if all(o.startswith(">") for o in operators):
            pieces, operators = pieces[::-1], [o.replace(">", "<") for o in operators[::-1]]
        if all(o.startswith("<") for o in operators):
            left = "[" if operators[0] == "<=" else "("
            right = "]" if operators[1] == "<=" else ")"
            ends = read(pieces[0]), read(pieces[2])
            if ends[0] is not None and ends[1] is not None:
                return Group(left, (ends[0], ends[1]), right)
    return None


def latex(text: str) -> str:
    """`text` with the plain spellings of functions and powers turned into LaTeX."""
    text = text.strip().replace("**", "^").replace("*", r"\cdot ")
    text = re.sub(r"(?<![\\a-zA-Z])(?:infinity|inf)(?![a-zA-Z])", r"\\infty ", text)
    text = re.sub(r"(?<![\\a-zA-Z])(pi|infty)(?![a-zA-Z])", r"\\\1 ", text)
    for _ in range(4):  # sqrt(...) of sqrt(...)
        match = re.search(r"(?<![a-zA-Z])\\?sqrt\s*\(", text)
        end = math_guard.closing(text, match.end() - 1) if match else -1
        if not match or end < 0:
            break
        inner = text[match.end() : end]
        text = f"{text[: match.start()]}\\sqrt{{{inner}}}{text[end + 1 :]}"
    names = "|".join(sorted(_FUNCTIONS - {"sqrt", "pi"}, key=len, reverse=True))
    text = re.sub(rf"(?<![\\a-zA-Z])({names})(?![a-zA-Z])", r"\\\1 ", text)
    text = re.sub(r"\^\s*([+-]?[0-9]{2,}|-[0-9a-zA-Z])", r"^{\1}", text)  # x^10 is not x^1 0
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"([0-9])\s*\(", r"\1\\cdot (", text)  # the parser takes 2(3) for 2 + 3
    text = re.sub(r"([0-9]+)\s*\^\s*\{?\s*\\circ\s*\}?", r"{\\frac{\1\\pi}{180}}", text)
    return re.sub(r"([0-9]*)\.([0-9]+)", _as_ratio, text)


def _as_ratio(match: re.Match) -> str:
    whole, part = match[1] or "0", match[2]
    return rf"\frac{{{int(whole + part)}}}{{{10 ** len(part)}}}"


def _is_formula(text: str) -> bool:
    """Short, only commands of the list, no run of letters that is a word."""
    if len(text) > MAX_FORMULA:
        return False
    if any(name not in _COMMANDS for name in _COMMAND.findall(text)) or not text.isascii():
        return False
    if re.search(r"\\(?:begin|end)\s*\{(?!(?:[pbv]?matrix)\})", text):
        return False
    if re.search(r"[0-9][eE][+-]?[0-9]|[+-]\s*[+-]\s*[0-9]|\.[^0-9]|\.$", text):
        return False  # numbers that _number did not take: no product with e, no --42
    bare = _COMMAND.sub(" ", re.sub(r"\\(?:begin|end)\s*\{[a-z]+\}", " ", text))
    runs = re.findall(r"[a-zA-Z]{3,}", bare)
    return not any(run not in _FUNCTIONS and len(set(run)) == len(run) for run in runs) and not (
        re.search(r"[a-zA-Z]{4,}", bare) and any(run not in _FUNCTIONS for run in runs)
    )
