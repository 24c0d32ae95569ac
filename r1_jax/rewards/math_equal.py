"""Whether a mathematical answer is the reference: the accuracy reward of maths problems.

Source: DeepSeek-R1 grades maths by rule against the reference (2.2.2; v2 B.3.1); its grader is not
published. Range: RIGHT 1, WRONG 0, UNPARSED 0, BAD_REFERENCE (leaves baseline and loss).

math-verify reads the LaTeX of formulas (antlr4 grammar, sympy trees). Its own extraction from prose
and its verify() are not used: extraction takes the last of several candidates, and verify() rounds
to 6 places, so that 0 is 1e-7, makes words into products of letters, so that "on" is "no", drops
units, and calls solve() and simplify(), whose cost has no bound. Here structure is read by
math_text, numbers are compared as fractions, and formulas by value: at 40 digits, and where they
have variables at fixed points, positive, negative and complex. math-verify's timeouts are SIGALRM,
which raises off the main thread: they are switched off. What bounds the cost is math_text, refusing
first; the hard deadline is that of the process in which this runs.

The rules where taste enters. A decimal stands for an irrational or a fraction when it is cut or
rounded correctly and shows six digits. 50 and 0.5 both pass for 50%, 50 does not pass for 0.5. A
unit may be left out; a unit of another kind is wrong, cm against m is converted. Case does not
matter in words and in choices. (1, 2) keeps its order, {1, 2} and 1, 2 do not.
Known hacks: an answer that hedges ("7 or 8") is a list and not 7; prose around the answer is
UNPARSED; a formula that agrees at all points without being equal would have to know them.
"""

import functools
import logging
import re
from fractions import Fraction
from typing import Any

import math_verify
import sympy

from r1_jax.rewards import math_guard, math_text, math_units, verdict

DIGITS = 40
TOLERANCE = sympy.Rational(1, 10**25)  # relative, of two values at DIGITS
MIN_SHOWN = 6  # significant digits of a decimal that stands for another number

# Told once that timeouts are off, which they are on purpose.
logging.getLogger("math_verify.parser").setLevel(logging.ERROR)

_CHOICE = re.compile(
    r"(?:\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{)?\s*(?:option|choice|answer)?\s*:?\s*"
    r"[(\[]?\s*([A-Ja-j])\s*[)\].:]?\s*\}?\s*[).]?",
    re.IGNORECASE,
)
_POINTS = (
    sympy.Rational(7310585786, 10**10),
    sympy.Rational(-13132616875, 10**10),
    sympy.Rational(27182939, 10**7),
    sympy.Rational(6137, 10000) + sympy.I * sympy.Rational(8213, 10000),
)


def equal(answer: str | None, reference: str) -> verdict.Verdict:
    """RIGHT if the answer says what the reference says. Never raises on text.

    WRONG: read, and something else. UNPARSED: no answer, prose, or refused unread (length, depth,
    power towers, unknown commands) unless the reference is words. BAD_REFERENCE: the reference
    itself cannot be read.
    """
    gold_text = math_guard.clean(reference)
    gold = math_text.read(gold_text) if gold_text else None
    if gold_text is None or (gold is None and not _choice(gold_text)):
        return verdict.BAD_REFERENCE
    if isinstance(gold, math_text.Formula) and not _choice(gold_text) and not _is_sound(gold):
        return verdict.BAD_REFERENCE
    if answer is None or not answer.strip():
        return verdict.UNPARSED
    text = math_guard.clean(answer)
    choice = _choice(gold_text) if gold_text != gold_text.lower() else ""  # e, i, x are no choices
    if choice:
        chosen = _choice(text or answer[: math_guard.MAX_CHARS])  # "C)" is not clean
        if chosen:
            return verdict.RIGHT if chosen == choice else verdict.WRONG
        return verdict.UNPARSED
    if text is None:
        return verdict.UNPARSED
    if text == gold_text:
        return verdict.RIGHT
    found = math_text.read(text)
    if gold is None or found is None:
        return verdict.UNPARSED
    same = _same(gold, found)
    if same is None:
        return verdict.UNPARSED
    return verdict.RIGHT if same else verdict.WRONG


def _choice(text: str) -> str:
    """The letter A to J that the text chooses and says nothing else, else ""."""
    match = _CHOICE.fullmatch(text.strip())
    return match[1].upper() if match else ""


def _same(gold: math_text.Answer, found: math_text.Answer) -> bool | None:
    """None where a formula cannot be read or has no value."""
    if isinstance(gold, math_text.Words) or isinstance(found, math_text.Words):
        return gold == found
    if isinstance(gold, math_text.Relation) != isinstance(found, math_text.Relation):
        unwrapped = _right_side(gold), _right_side(found)
        if None not in unwrapped:
            return _same(*unwrapped)  # type: ignore[arg-type]
        as_groups = _interval(gold), _interval(found)
        if None not in as_groups:
            return _same(*as_groups)  # type: ignore[arg-type]
        return False
    if isinstance(gold, math_text.Relation) and isinstance(found, math_text.Relation):
        return _same_relation(gold, found)
    if isinstance(gold, math_text.Group) or isinstance(found, math_text.Group):
        if isinstance(gold, math_text.Group) and isinstance(found, math_text.Group):
            return _same_group(gold, found)
        return False
    if isinstance(gold, math_text.Number) and isinstance(found, math_text.Number):
        return _same_number(gold, found)
    return _same_value(gold, found)


def _right_side(answer: math_text.Answer) -> math_text.Answer | None:
    """5 of x = 5; what is no relation as it is; None for another relation."""
    if not isinstance(answer, math_text.Relation):
        return None if isinstance(answer, math_text.Group) and answer.left != "" else answer
    if answer.operator == "=" and re.fullmatch(r"[a-zA-Z](?:_\{?\w+\}?)?(?:\(\w\))?", answer.left):
        return math_text.read(answer.right)
    return None


def _interval(answer: math_text.Answer) -> math_text.Group | None:
    """(3, oo) of x > 3; a bracketed group as it is."""
    if isinstance(answer, math_text.Group):
        return answer
    if not isinstance(answer, math_text.Relation) or answer.operator == "=":
        return None
    closed = answer.operator == "<="
    if re.fullmatch("[a-zA-Z]", answer.left.strip()):
        end = math_text.read(answer.right)
        low = math_text.Formula(r"-\infty")
        return end and math_text.Group("(", (low, end), "]" if closed else ")")
    if re.fullmatch("[a-zA-Z]", answer.right.strip()):
        end = math_text.read(answer.left)
        high = math_text.Formula(r"\infty")
        return end and math_text.Group("[" if closed else "(", (end, high), ")")
    return None


def _same_number(gold: math_text.Number, found: math_text.Number) -> bool | None:
    if "%" in (gold.unit, found.unit) and gold.unit != found.unit:
        if gold.unit and found.unit:
            return False
        percent, other = (gold, found) if gold.unit else (found, gold)
        is_bare = percent.value == other.value and (percent is gold or abs(other.value) > 1)
        return is_bare or percent.value / 100 == other.value
    if found.unit.startswith("#") and not gold.unit:
        return None  # 5 million, 5 squared, 5 apples: not the number 5 for sure
    value, other = gold.value, found.value
    if gold.unit and found.unit and gold.unit != found.unit:
        measures = math_units.measure(gold.unit), math_units.measure(found.unit)
        if measures[0] is None or measures[1] is None or measures[0][0] != measures[1][0]:
            return False
        return value * measures[0][1] == other * measures[1][1]
    if value == other:
        return True
    if (gold.places is None) == (found.places is None):
        return False
    if value.denominator == 1 and gold.places is None:
        return False  # an integer is no rounding of anything
    if other.denominator == 1 and found.places is None:
        return False
    exact, decimal = (value, found) if gold.places is None else (other, gold)
    return _stands_for(decimal, exact)


def _stands_for(decimal: math_text.Number, exact: Fraction) -> bool:
    """The decimal is `exact` cut or rounded at its last place, and shows MIN_SHOWN digits."""
    if decimal.places is None:
        return False
    scale = 10**decimal.places
    shown, error = len(str(abs(int(decimal.value * scale)))), (exact - decimal.value) * scale
    is_cut = 0 <= (error if decimal.value > 0 else -error) < 1
    return shown >= MIN_SHOWN and (is_cut or abs(error) <= Fraction(1, 2))


def _same_group(gold: math_text.Group, found: math_text.Group) -> bool | None:
    if len(gold.items) != len(found.items):
        return False
    is_ordered = gold.left in "([" and gold.left != ""
    if is_ordered:
        if found.left != "" and (gold.left, gold.right) != (found.left, found.right):
            return False
        if found.left == "" and (gold.left, gold.right) != ("(", ")"):
            return False
        verdicts = [_same(a, b) for a, b in zip(gold.items, found.items, strict=True)]
        return None if None in verdicts else all(verdicts)
    if gold.left == "U" or found.left == "U":
        if gold.left != found.left:
            return False
    elif found.left not in ("", "{"):
        return False
    rest = list(found.items)
    for item in gold.items:
        match = next((i for i, other in enumerate(rest) if _same(item, other)), None)
        if match is None:
            return False
        del rest[match]
    return True


def _tree(text: str) -> Any | None:
    """The sympy tree of LaTeX, None where math-verify cannot read the whole of it."""
    found = _parsed(text)
    return found[0] if found else None


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> tuple:
    found = math_verify.parse(
        f"${text}$",
        extraction_config=[math_verify.LatexExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=None,  # type: ignore[arg-type]  # SIGALRM; see the module's docstring
    )
    if len(found) != 1 or not isinstance(found[0], sympy.Basic | sympy.MatrixBase):
        return ()
    imaginary = [s for s in found[0].free_symbols if str(s) == "i"]
    return (found[0].subs(dict.fromkeys(imaginary, sympy.I)),) if imaginary else (found[0],)


def _is_sound(formula: math_text.Formula) -> bool:
    tree = _tree(formula.text)
    return tree is not None and not tree.has(sympy.zoo, sympy.nan)


def _as_tree(answer: math_text.Answer) -> Any | None:
    if isinstance(answer, math_text.Number):
        return sympy.Rational(answer.value.numerator, answer.value.denominator)
    return _tree(answer.text) if isinstance(answer, math_text.Formula) else None


def _same_value(gold: math_text.Answer, found: math_text.Answer) -> bool | None:
    """Of two formulas, or of a formula and a number."""
    units = getattr(gold, "unit", ""), getattr(found, "unit", "")
    if all(units) and units[0] != units[1]:
        return False
    left, right = _as_tree(gold), _as_tree(found)
    if left is None or right is None:
        return None
    if isinstance(left, sympy.MatrixBase) or isinstance(right, sympy.MatrixBase):
        if not isinstance(left, sympy.MatrixBase) or not isinstance(right, sympy.MatrixBase):
            return False
        if left.shape != right.shape:
            return False
        pairs = zip(left.flat(), right.flat(), strict=True)
        return all(_agree(a, b) for a, b in pairs)
    for decimal, tree in ((gold, right), (found, left)):
        if isinstance(decimal, math_text.Number) and decimal.places is not None:
            exact = None if tree.free_symbols else _value(tree, {})
            if exact is not None and exact.is_real:
                close = Fraction(int(sympy.floor(exact * 10**30)), 10**30)
                return _stands_for(decimal, close) or bool(_agree(left, right))
    return _agree(left, right)


def _agree(left: Any, right: Any) -> bool | None:
    """Whether two trees have one value: at no point, or at every point where both have any."""
    if left == right:
        return not left.has(sympy.zoo, sympy.nan)
    names = sorted({s.name for s in left.free_symbols | right.free_symbols})
    if not names:
        a, b = _value(left, {}), _value(right, {})
        if a is None or b is None:
            return None
        if not _close(a, b):
            return False
        whole = left.doit(), right.doit()  # 2^100 and its successor agree to 30 digits
        return whole[0] == whole[1] if all(tree.is_Rational for tree in whole) else True
    num_seen = 0
    for k, _ in enumerate(_POINTS):
        at = {name: _POINTS[k] + sympy.Rational(i * (i + 2), 7) for i, name in enumerate(names)}
        a, b = _value(left, at), _value(right, at)
        if a is None or b is None:
            if (a is None) != (b is None):
                return False
            continue
        if not _close(a, b):
            return False
        num_seen += 1
    return True if num_seen >= 2 else None


def _close(a: Any, b: Any) -> bool:
    if a in (sympy.oo, -sympy.oo) or b in (sympy.oo, -sympy.oo):
        return a == b
    size = max(abs(a), abs(b))
    return bool(size < 10**-30 and a == b) or bool(abs(a - b) <= size * TOLERANCE)


def _value(tree: Any, at: dict[str, Any]) -> Any | None:
    """The number that a tree is with its variables at `at`, None where it has none."""
    try:
        # In floats throughout: exact powers of exact points would have a million digits.
        value = tree.evalf(DIGITS, subs={s: at[s.name] for s in tree.free_symbols})
    except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return None  # sympy's ways to say that an expression has no value
    if value in (sympy.oo, -sympy.oo):
        return value
    is_number = isinstance(value, sympy.Expr) and value.is_number and not value.free_symbols
    if not is_number or value.has(sympy.zoo, sympy.nan, sympy.oo):
        return None
    real, imaginary = value.as_real_imag()
    if not all(part.is_Float or part.is_Rational for part in (real, imaginary)):
        return None
    return _settled(real) + sympy.I * _settled(imaginary)


def _settled(part: Any) -> Any:
    """0 for what evalf could not tell from 0 (sin of pi, x - x): it says so by a precision of 1."""
    return sympy.Integer(0) if part.is_Float and part._prec <= 1 else part


def _same_relation(gold: math_text.Relation, found: math_text.Relation) -> bool | None:
    """Left minus right is the same up to a factor; for an inequality the factor is positive."""
    if gold.operator != found.operator:
        return False
    trees = [_tree(text) for text in (gold.left, gold.right, found.left, found.right)]
    # A side may also be read as a set (\pm 42), a matrix or a truth value: no differences of these.
    if not all(isinstance(tree, sympy.Expr) and not tree.is_Matrix for tree in trees):
        return None
    a, b = trees[0] - trees[1], trees[2] - trees[3]  # type: ignore[operator]
    names = sorted({s.name for s in a.free_symbols | b.free_symbols})
    if not names or {s.name for s in a.free_symbols} != {s.name for s in b.free_symbols}:
        return False
    ratios = []
    for point in _POINTS:
        at = {name: point + sympy.Rational(i * (i + 2), 7) for i, name in enumerate(names)}
        left, right = _value(a, at), _value(b, at)
        if left is None or right is None or right == 0:
            return None
        ratios.append(left / right)
    is_constant = all(_close(ratio, ratios[0]) for ratio in ratios)
    return is_constant and (gold.operator == "=" or bool(sympy.re(ratios[0]) > 0))
