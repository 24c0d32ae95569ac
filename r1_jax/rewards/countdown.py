"""The accuracy reward of Countdown: reach the target from the given numbers, each used once.

The text comes from a policy that is paid for fooling this file. So: our own tokenizer and
recursive descent, never eval; a fixed alphabet; limits on length, depth and digits before any
arithmetic; exact fractions, whose size those limits bound. Nothing here raises or runs long.

    sum     = product (("+" | "-") product)*
    product = atom (("*" | "/") atom)*
    atom    = number | "(" sum ")"

A number is ASCII digits without sign, point, exponent, separator or leading zero. The answer is
the expression and nothing else: a trailing "= 22" is UNPARSED, because the question asks for an
expression and a second "=" clause is room to state a result that the expression does not have.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from r1_jax.rewards import verdict as verdicts

MAX_CHARS = 256  # characters in an expression
MAX_DEPTH = 16  # nested parentheses
MAX_DIGITS = 9  # of one number

_BLANK = " \t\r\n"
_SYMBOLS = "+-*/()"
_DIGITS = "0123456789"  # str.isdigit() also accepts digits of other scripts


class _ParseError(Exception):
    """The text is not an expression; never leaves this file."""


class _Node(NamedTuple):
    """A number (operator "") or a left-associative operation on two nodes."""

    operator: str
    number: int = 0
    left: "_Node | None" = None
    right: "_Node | None" = None


def verdict(answer: str | None, numbers: Sequence[int], target: int) -> verdicts.Verdict:
    """RIGHT if the expression uses each of `numbers` exactly once and equals `target` exactly.

    UNPARSED: no answer, or not an expression of the grammar above. WRONG: an expression that uses
    other numbers, has another value, or divides by zero (it was read; it has no value, so not the
    target's). BAD_REFERENCE: `numbers` is empty or holds something that no expression can contain
    (negative, too long, not an int), or the target is not an int. Never raises.
    """
    if not numbers or not all(_is_int(n) and 0 <= n < 10**MAX_DIGITS for n in numbers):
        return verdicts.BAD_REFERENCE
    if not _is_int(target):
        return verdicts.BAD_REFERENCE
    node = _parse(answer)
    if node is None:
        return verdicts.UNPARSED
    if sorted(_numbers(node)) != sorted(numbers):
        return verdicts.WRONG
    return verdicts.RIGHT if _value(node) == target else verdicts.WRONG


def canonical(expression: str | None) -> str | None:
    """One spelling for all expressions that differ only in order and parentheses, else None.

    Chains of + - and chains of * / are flattened and their operands sorted, so 3*(5+7), (7+5)*3
    and 7+5 in any parentheses agree, and 9-(5-3) is 3+9-5. The result parses to the same value
    from the same numbers and is its own canonical form. None, which does not vote: not an
    expression, or one that divides by zero.
    """
    node = _parse(expression)
    if node is None or _value(node) is None:
        return None
    return _spelling(node)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _parse(text: str | None) -> _Node | None:
    if text is None or len(text) > MAX_CHARS:
        return None
    try:
        tokens = list(_tokens(text))
        node, position = _sum(tokens, 0, 0)
    except _ParseError:
        return None
    return node if position == len(tokens) else None


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        start = position
        position += 1
        if text[start] in _BLANK:
            continue
        if text[start] in _DIGITS:
            while position < len(text) and text[position] in _DIGITS:
                position += 1
            if position - start > MAX_DIGITS or (text[start] == "0" and position - start > 1):
                raise _ParseError
        elif text[start] not in _SYMBOLS:
            raise _ParseError
        yield text[start:position]


def _sum(tokens: list[str], position: int, depth: int) -> tuple[_Node, int]:
    left, position = _product(tokens, position, depth)
    while position < len(tokens) and tokens[position] in "+-":
        operator = tokens[position]
        right, position = _product(tokens, position + 1, depth)
        left = _Node(operator, 0, left, right)
    return left, position


def _product(tokens: list[str], position: int, depth: int) -> tuple[_Node, int]:
    left, position = _atom(tokens, position, depth)
    while position < len(tokens) and tokens[position] in "*/":
        operator = tokens[position]
        right, position = _atom(tokens, position + 1, depth)
        left = _Node(operator, 0, left, right)
    return left, position


def _atom(tokens: list[str], position: int, depth: int) -> tuple[_Node, int]:
    if position == len(tokens):
        raise _ParseError
    if tokens[position][0] in _DIGITS:
        return _Node("", int(tokens[position])), position + 1
    if tokens[position] != "(" or depth == MAX_DEPTH:
        raise _ParseError
    node, position = _sum(tokens, position + 1, depth + 1)
    if position == len(tokens) or tokens[position] != ")":
        raise _ParseError
    return node, position + 1


def _numbers(node: _Node) -> list[int]:
    if node.left is None or node.right is None:
        return [node.number]
    return _numbers(node.left) + _numbers(node.right)


def _value(node: _Node) -> Fraction | None:
    """The exact value; None where something is divided by zero."""
    if node.left is None or node.right is None:
        return Fraction(node.number)
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None or (node.operator == "/" and right == 0):
        return None
    if node.operator == "+":
        return left + right
    if node.operator == "-":
        return left - right
    return left * right if node.operator == "*" else left / right


def _chain(node: _Node, same: str, opposite: str, is_flipped: bool) -> list[tuple[bool, _Node]]:
    """The operands of a chain of `same` and `opposite`, each with whether it is taken inversely."""
    if node.left is None or node.right is None or node.operator not in (same, opposite):
        return [(is_flipped, node)]
    right_flipped = is_flipped != (node.operator == opposite)
    return _chain(node.left, same, opposite, is_flipped) + _chain(
        node.right, same, opposite, right_flipped
    )


def _spelling(node: _Node) -> str:
    if node.operator == "":
        return str(node.number)
    is_sum = node.operator in "+-"
    same, opposite = ("+", "-") if is_sum else ("*", "/")
    operands = []
    for is_flipped, operand in _chain(node, same, opposite, False):
        spelled = _spelling(operand)
        if not is_sum and operand.operator in ("+", "-"):
            spelled = f"({spelled})"
        operands.append((is_flipped, len(spelled), spelled))
    # The leftmost operand of a chain is never inverse, so after sorting the first one is not.
    operands.sort()
    return "".join((opposite if flipped else same) + text for flipped, _, text in operands)[1:]
