"""A mathematical answer's text -> one spelling of it, or a refusal before anything reads it.

Linear scans over at most MAX_CHARS characters. What is too long, too deep, not balanced, or spells
a number of more than MAX_SIZE digits (power towers, factorials, binomials) is refused here. Nothing
here raises.
"""

import re

MAX_CHARS = 512
MAX_DEPTH = 16  # of brackets, whatever their kind
MAX_SIZE = 20_000  # digits of a number that an expression spells out
MAX_LITERAL = 300  # digits of a number as written; Python itself stops at 4,300

OPENERS, CLOSERS = "([{", ")]}"
_UNICODE = {
    "\u2212": "-", "\u2013": "-", "\u00d7": r"\times ", "\u00f7": r"\div ", "\u00b7": r"\cdot ",
    "\u00b0": r"^{\circ}", "\u03c0": r"\pi ", "\u221e": r"\infty ", "\u2264": r"\le ",
    "\u2265": r"\ge ", "\u222a": r"\cup ", "\u2208": r"\in ", "\u00b2": "^{2}", "\u00b3": "^{3}",
    "\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}",
    "\u00b1": r"\pm ", "\u03b8": r"\theta ", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip
_TRANSLATE = str.maketrans(_UNICODE)
_SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![a-zA-Z])|\\displaystyle(?![a-zA-Z])|~")


def clean(text: str) -> str | None:
    """The answer in one spelling of LaTeX, or None where it is refused unread."""
    if len(text) > MAX_CHARS or "\x00" in text:
        return None
    text = re.sub(r"\s+", " ", text.translate(_TRANSLATE)).strip()
    if text.count("$") == 1 and text.startswith("$"):
        text = "\\" + text  # an amount of money
    for _ in range(4):  # wrappers inside wrappers; more than four is no honest answer
        before = text
        for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**")):
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
                text = text[len(left) : -len(right)].strip()
        text = text.removesuffix(".").rstrip() if not text.endswith("..") else text
        match = re.match(r"\\(?:boxed|fbox)\s*\{", text)
        if match and closing(text, match.end() - 1) == len(text) - 1:
            text = text[match.end() : -1].strip()
        if text == before:
            break
    text = _SPACES.sub(" ", text.replace("{,}", ",").replace(r"\!", ""))
    text = re.sub("\u221a\\s*(\\([^()]*\\)|[0-9a-zA-Z]+)", r"\\sqrt{\1}", text)
    text = re.sub(r"^(?:\\(?:text|mathrm|mathbf|textbf))?\s*\{([^{},\\]*)\}$", r"\1", text.strip())
    text = re.sub(r"\\(?:left|right|big|Big|bigl|bigr)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text).strip()
    return text if text and not _is_refused(text) else None


def closing(text: str, start: int) -> int:
    """Where the bracket opened at `start` is closed, -1 if nowhere; kinds may differ: [0, 1)."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] in OPENERS:
            depth += 1
        elif text[i] in CLOSERS:
            depth -= 1
            if depth == 0:
                return i
    return -1


def _is_refused(text: str) -> bool:
    """Brackets too deep or not balanced, a `$` left inside, or a number too large to write down."""
    depth = 0
    for character in text:
        depth += (character in OPENERS) - (character in CLOSERS)
        if depth < 0 or depth > MAX_DEPTH:
            return True
    if depth or re.search(rf"[0-9]{{{MAX_LITERAL + 1}}}|(?<!\\)\$", text):
        return True
    return _size(text) > MAX_SIZE


def _size(text: str) -> float:
    """A bound on the digits of the largest number that `text` spells by ^, ** and !.

    One pass with a stack: per open bracket (product of sizes so far, size of the last item). An
    exponent is read as the largest literal in it, and as endless if it holds a power, a factorial
    or a bracketed product of its own: nobody answers with a tower.
    """
    stack, last, total, i = [], 0.0, 0.0, 0
    text = text.replace("**", "^")
    while i < len(text):
        character = text[i]
        if character.isdigit():
            j = i
            while j < len(text) and text[j].isdigit():
                j += 1
            last, i = float(j - i), j
            total += last
            continue
        if character in OPENERS:
            stack.append(total)
            total = last = 0.0
        elif character in CLOSERS and stack:
            last = max(total, 1.0)
            total += stack.pop()
        elif character == "!":
            literal = re.search(r"([0-9]+)\s*$", text[:i])
            if text[i + 1 : i + 2] == "!" or (literal and int(literal[1][-6:]) > 1000):
                return float("inf")
            if not literal and not re.search(r"[a-zA-Z]\s*$", text[:i]):
                return float("inf")
            last = 3000.0
            total += last
        elif character == "^":
            exponent, i = _exponent(text, i + 1)
            if re.search(r"[0-9)}]\s*\^|!|\^\s*\^", exponent) or exponent.count("^") > 1:
                return float("inf")
            literals = [int(n[:9]) for n in re.findall("[0-9]+", exponent)]
            last = max(last, 1.0) * max([1, *literals])
            total += last
            if last > MAX_SIZE:
                return float("inf")
            continue
        elif character.isalpha():
            last = 1.0
        i += 1
    plain = r"\s*\{\s*(?:[0-9]{1,4}|[a-zA-Z])\s*\}"
    if len(re.findall(rf"\\binom{plain}{plain}", text)) != text.count(r"\binom"):
        return float("inf")
    return total


def _exponent(text: str, start: int) -> tuple[str, int]:
    """(the exponent that begins at `start`, where it ends), with a further ^ on its top if any."""
    while start < len(text) and text[start] == " ":
        start += 1
    end = start + 1
    if start < len(text) and text[start] in OPENERS:
        end = closing(text, start) + 1
    else:
        match = re.compile(r"[+-]?[0-9]+|\\[a-zA-Z]+|.").match(text, start)
        end = match.end() if match else end
    rest = text[end:].lstrip()
    if rest.startswith("^"):
        return text[start:end] + "^^", end
    return text[start:end], end
