"""Numbers as people write them: separators, percent, currency, magnitudes, units, fractions and number words.

Reads one whole text as one quantity, or not at all: a number that merely occurs in a text is not a quantity, so nothing
here can turn the last number of a sentence into an answer. Does not do dates, times of day, ranges or arithmetic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

# unit -> (dimension, factor to the dimension's base unit); lower case
_UNITS = {
    "mm": ("length", 1e-3), "cm": ("length", 1e-2), "m": ("length", 1.0), "km": ("length", 1e3),
    "mg": ("mass", 1e-6), "g": ("mass", 1e-3), "kg": ("mass", 1.0), "t": ("mass", 1e3),
    "ms": ("time", 1e-3), "s": ("time", 1.0), "sec": ("time", 1.0), "second": ("time", 1.0), "min": ("time", 60.0),
    "minute": ("time", 60.0), "h": ("time", 3600.0), "hr": ("time", 3600.0), "hour": ("time", 3600.0),
    "ml": ("volume", 1e-3), "l": ("volume", 1.0), "liter": ("volume", 1.0), "litre": ("volume", 1.0),
    "millimeter": ("length", 1e-3), "centimeter": ("length", 1e-2), "meter": ("length", 1.0), "kilometer": ("length", 1e3),
    "metre": ("length", 1.0), "kilometre": ("length", 1e3), "gram": ("mass", 1e-3), "kilogram": ("mass", 1.0),
    "in": ("inch", 1.0), "inch": ("inch", 1.0), "inches": ("inch", 1.0), "ft": ("inch", 12.0), "feet": ("inch", 12.0),
    "foot": ("inch", 12.0), "mi": ("mile", 1.0), "mile": ("mile", 1.0), "lb": ("pound", 1.0), "pound": ("pound", 1.0),
    "%": ("percent", 1.0), "percent": ("percent", 1.0), "per cent": ("percent", 1.0),
    "°": ("degree", 1.0), "degree": ("degree", 1.0), "°c": ("celsius", 1.0), "°f": ("fahrenheit", 1.0),
    "px": ("pixel", 1.0), "pixel": ("pixel", 1.0), "year": ("year", 1.0), "day": ("day", 1.0),
    "$": ("usd", 1.0), "usd": ("usd", 1.0), "dollar": ("usd", 1.0), "cent": ("usd", 0.01), "€": ("eur", 1.0), "eur": ("eur", 1.0),
    "euro": ("eur", 1.0), "£": ("gbp", 1.0), "gbp": ("gbp", 1.0), "¥": ("yen", 1.0), "yen": ("yen", 1.0), "jpy": ("yen", 1.0),
}  # fmt: skip
_MAGNITUDES = {
    "k": 1e3, "thousand": 1e3, "M": 1e6, "mn": 1e6, "million": 1e6, "B": 1e9, "bn": 1e9, "billion": 1e9, "trillion": 1e12,
}  # fmt: skip
_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_WORDS = {word: value for value, word in enumerate(_SMALL)} | _TENS
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
# an answer that leaves a way out is not an answer
_HEDGES = frozenset(["or", "and", "to", "not", "but", "maybe", "perhaps", "if", "minus", "plus", "than", "another", "possibly"])
_NUMBER = re.compile(
    r"(?:(?:about|approximately|approx\.?|around|roughly|nearly|exactly|a total of|~)\s*)?"
    r"(?P<sign>[-+]?)\s*(?P<currency>(?:US)?\$|[€£¥]|(?:USD|EUR|GBP)\s)?\s*(?P<late_sign>[-+]?)"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:[ '’]\d{3})+(?![\d/])(?:\.\d+)?|\d+[.,]\d+|\d+\.?|\.\d+)"
    r"(?P<exponent>[eE][-+]?\d{1,2})?"
    r"(?:\s*(?P<magnitude>thousand|million|billion|trillion|bn|mn|[kMB])(?![\w/]))?(?P<gap>\s*)(?P<unit>[^\d]*)",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"(?P<sign>-?)(?:(?P<whole>\d{1,6})\s+)?(?P<top>\d{1,6})\s*/\s*(?P<bottom>\d{1,6})")


@dataclass(frozen=True)
class Quantity:
    """A number with what was written around it."""

    value: float  # as written, after the magnitude: 5 for "5 km"
    dimension: str = ""  # "" where no unit was written; the unit's own words where it is not in the table
    factor: float = 1.0  # to the base unit of the dimension
    known: bool = True  # the unit is in the table, or there is none
    year_like: bool = False  # a bare whole number of four digits, 1000 to 2199: compared exactly whatever the tolerance


@lru_cache(maxsize=8192)
def parse_quantity(text: str) -> Quantity | None:
    """Read a whole text as one quantity; None where it is anything else, also a code with leading zeros or a range.

    >>> parse_quantity("$1.2 million").value, parse_quantity("room 5")
    (1200000.0, None)
    """
    text = " ".join(text.replace("−", "-").replace("⁄", "/").split()).strip().rstrip(".!")
    if not text or len(text) > 60:  # longer than any number with its unit
        return None
    if fraction := _FRACTION.fullmatch(text):
        return _from_fraction(fraction)
    match = _NUMBER.fullmatch(text)
    return _from_digits(match) if match else _from_words(text)


def same_quantity(predicted: Quantity, reference: Quantity, tolerance: float = 0.0) -> bool:
    """Compare two quantities; `tolerance` is relative to the reference (0.05 = 5 %), and 0 asks for equal numbers.

    A unit that one side left out is forgiven; two units must agree, after conversion within a dimension. Years are
    exact.
    """
    p, r = predicted, reference
    if p.dimension and r.dimension:
        pounds = {p.dimension, r.dimension} == {"pound", "gbp"}  # the word does not say of which kind
        return (pounds or p.dimension == r.dimension) and _close(p.value * p.factor, r.value * r.factor, tolerance)
    if r.year_like and not p.dimension:
        return p.value == r.value
    if _close(p.value, r.value, tolerance):
        return True
    # a share may be written as a fraction: 12.5 % = 0.125. Not for whole references: "1" is a count
    if p.dimension == "percent" and not r.dimension and r.value != round(r.value):
        return _close(p.value / 100, r.value, tolerance)
    return r.dimension == "percent" and not p.dimension and _close(p.value * 100, r.value, tolerance)


def _close(a: float, b: float, tolerance: float) -> bool:
    if tolerance == 0.0 and a.is_integer() and b.is_integer():
        return a == b
    return abs(a - b) <= max(tolerance, 1e-9) * abs(b)  # 1e-9: rounding of conversions


def _from_fraction(match: re.Match) -> Quantity | None:
    bottom = int(match["bottom"])
    if bottom == 0:
        return None
    value = int(match["whole"] or 0) + int(match["top"]) / bottom
    return Quantity(-value if match["sign"] else value)


def _from_digits(match: re.Match) -> Quantity | None:
    digits = match["digits"]
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return None  # 007 is a code, not seven
    if len(digits) > 15:  # beyond what a float holds exactly; also a code
        return None
    if match["sign"] and match["late_sign"]:
        return None
    grouped = re.fullmatch(r"\d{1,3}([, '’]\d{3})+(\.\d+)?", digits)
    value = float(re.sub("[, '’]", "", digits) if grouped else digits.replace(",", "."))
    value = float(f"{value!r}{match['exponent'] or ''}") if match["exponent"] else value
    magnitude, unit = match["magnitude"], match["unit"].strip()
    if magnitude:
        factor = _MAGNITUDES.get(magnitude) or _MAGNITUDES.get(magnitude.lower())
        if factor is None or magnitude in ("m", "b"):  # "5 m" is metres
            factor, unit = 1.0, f"{magnitude} {unit}".strip()
        value *= factor
    if match["sign"] == "-" or match["late_sign"] == "-":
        value = -value
    quantity = _with_unit(value, (match["currency"] or "").replace("US$", "$"), unit, bare=digits if not magnitude else "")
    glued = bool(unit) and not match["gap"] and not magnitude
    decade = unit == "s" and _is_year(digits)
    return None if quantity and glued and (decade or not quantity.known) else quantity  # "5th", "5a", "2020s" are no counts


def _from_words(text: str) -> Quantity | None:
    """ "twenty-one", "one hundred and five", "a thousand miles"."""
    words = text.lower().replace("-", " ").split()
    if words[:1] == ["a"] and words[1:2] and (words[1] == "hundred" or words[1] in _SCALES):
        words[0] = "one"
    total, current, last, n = 0, None, "", 0
    for n, word in enumerate(words):
        if word in _WORDS and (current is None or last in ("hundred", "and") or (last in _TENS and 0 < _WORDS[word] < 10)):
            current = (current or 0) + _WORDS[word]
        elif word == "hundred" and current is not None and 0 < current < 10:
            current *= 100
        elif word in _SCALES and current:
            total, current = total + current * _SCALES[word], None
        elif word == "and" and (last == "hundred" or last in _SCALES) and words[n + 1 : n + 2] and words[n + 1] in _WORDS:
            pass
        else:
            break
        last = word
    else:
        n = len(words)
    rest = words[n:]
    if n == 0 or any(word in _WORDS or word in _SCALES or word == "hundred" for word in rest):
        return None
    return _with_unit(float(total + (current or 0)), "", " ".join(rest), bare="")


def _with_unit(value: float, currency: str, unit: str, bare: str) -> Quantity | None:
    unit = unit.strip(" .,!").lower()
    words = unit.split()
    if len(words) > 3 or _HEDGES.intersection(words) or re.search(r"[;:,/()?+<>=-]", unit):
        return None
    if currency and unit and unit not in _UNITS:
        unit = ""  # "$5 each"
    name = currency.strip().lower() or unit
    if not name:
        return Quantity(value, year_like=_is_year(bare))
    dimension, factor = _UNITS.get(name) or _UNITS.get(name.removesuffix("s")) or (name.removesuffix("s"), None)
    return Quantity(value, dimension, known=False) if factor is None else Quantity(value, dimension, factor)


def _is_year(digits: str) -> bool:
    return len(digits) == 4 and digits.isdigit() and 1000 <= int(digits) < 2200
