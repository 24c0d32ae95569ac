"""Units of measure: their spellings, what they measure, and how many of a base unit they are."""

from fractions import Fraction

# unit -> (what it measures, how many of its base unit)
_UNITS = {
    "mm": ("length", Fraction(1, 1000)),
    "cm": ("length", Fraction(1, 100)),
    "m": ("length", Fraction(1)),
    "km": ("length", Fraction(1000)),
    "in": ("inch", Fraction(1)),
    "ft": ("inch", Fraction(12)),
    "yd": ("inch", Fraction(36)),
    "mi": ("inch", Fraction(63360)),
    "mg": ("mass", Fraction(1, 1000)),
    "g": ("mass", Fraction(1)),
    "kg": ("mass", Fraction(1000)),
    "s": ("time", Fraction(1)),
    "min": ("time", Fraction(60)),
    "h": ("time", Fraction(3600)),
    "day": ("time", Fraction(86400)),
    "ml": ("volume", Fraction(1, 1000)),
    "l": ("volume", Fraction(1)),
    "deg": ("angle", Fraction(1)),
    "cent": ("money", Fraction(1, 100)),
    "dollar": ("money", Fraction(1)),
    "km/h": ("speed", Fraction(1000, 3600)),
    "m/s": ("speed", Fraction(1)),
    "mph": ("mph", Fraction(1)),
}
_SPELLINGS = {
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "metre": "m",
    "kilometer": "km",
    "kilometre": "km",
    "inch": "in",
    "inche": "in",  # what is left of "inches"
    "foot": "ft",
    "feet": "ft",
    "yard": "yd",
    "mile": "mi",
    "gram": "g",
    "kilogram": "kg",
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "hr": "h",
    "milliliter": "ml",
    "liter": "l",
    "litre": "l",
    "degree": "deg",
    "kph": "km/h",
    "kmh": "km/h",
    "km/hr": "km/h",
    "miles per hour": "mph",
    "meters per second": "m/s",
    "kilometers per hour": "km/h",
}


def unit_of(name: str, power: str | None) -> str | None:
    """The unit's one spelling, None for what is no unit that is known."""
    name = " ".join(name.split()).strip("() .")
    for prefix, value in (("square ", "2"), ("cubic ", "3"), ("sq ", "2"), ("cu ", "3")):
        if name.startswith(prefix):
            name, power = name.removeprefix(prefix), value
    for known in (name, name.removesuffix("s"), name.lower(), name.lower().removesuffix("s")):
        known = _SPELLINGS.get(known, known)
        if known in _UNITS:
            return known + (power or "")
    return None


def measure(unit: str) -> tuple[str, Fraction] | None:
    """(dimension, factor to its base) of a unit, powers included; None for %."""
    power = int(unit[-1]) if unit[-1:] in ("2", "3") else 1
    found = _UNITS.get(unit.rstrip("23"))
    return (f"{found[0]}^{power}", found[1] ** power) if found else None
