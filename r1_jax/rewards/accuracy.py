"""The accuracy reward of tasks whose answer is one number or one short string."""

import re
from fractions import Fraction

from r1_jax.rewards import verdict

MAX_CHARS = 256  # of an answer that may still be read as a number
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def _number(text: str) -> Fraction | None:
    """A plain decimal number in ASCII digits, exactly, else None. No exponent: 1e9 is not one."""
    if len(text) > MAX_CHARS or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text)


def exact(answer: str | None, reference: str) -> verdict.Verdict:
    """RIGHT if the answer is the reference: as numbers where the reference is one, else as strings.

    White space around either is ignored; 7, +7, 07 and 7.0 are the same number. Where the
    reference is a number, an answer that is not a plain number is UNPARSED rather than WRONG.
    An empty reference is BAD_REFERENCE, so that an empty answer can never be right. Never raises.
    """
    reference = reference.strip()
    if not reference:
        return verdict.BAD_REFERENCE
    if answer is None or not answer.strip():
        return verdict.UNPARSED
    answer = answer.strip()
    expected = _number(reference)
    if expected is None:
        return verdict.RIGHT if answer == reference else verdict.WRONG
    found = _number(answer)
    if found is None:
        return verdict.UNPARSED
    return verdict.RIGHT if found == expected else verdict.WRONG
