"""Is a short free-form answer right? Judge-free rules over text, numbers, options, lists and yes/no.

Built for rewards: a wrong answer that is accepted teaches more than a right one that is missed, so nothing is searched
for inside the prediction - no last number, no option letter somewhere, no substring - and a prediction that names
several candidates is wrong. The official scoring of each public benchmark lives with that benchmark (bench/), not here.
Judges: judge.py.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from codevision_lite.errors import UserError
from codevision_lite.reward.quantities import parse_quantity, same_quantity

RULES = ("auto", "exact", "text", "number", "choice", "list", "yes_no", "anls", "contains")

_MAX_CHARS = 2000  # of a prediction: an answer is shorter, and comparing must stay cheap
_LONG_TEXT = 16  # characters: from here on a reference is a transcription, where one misread letter is not a wrong answer
_LONG_ANLS = 0.85
_PROSE_WORDS = 4  # an item of a list is shorter
_KEPT_MARKS = frozenset("%@#*+")  # punctuation that carries meaning: 5 %, C#, C++
_ARTICLES = frozenset(("a", "an", "the"))
_YES, _NO = frozenset(("yes", "true", "correct", "yeah", "yep")), frozenset(("no", "false", "incorrect", "nope"))
_NO_ANSWER = frozenset(("idea", "clue", "answer", "information", "text", "way", "one"))  # "no idea" is no "no"
_WRAPPERS = (
    re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL | re.IGNORECASE),
    re.compile(r"\\boxed\{(.*)\}", re.DOTALL),
)
_LEAD_IN = re.compile(
    r"(?:(?:so|thus|therefore|hence)[, ]\s*)?"
    r"(?:(?:the |my )?(?:final |correct |right )?answer\s*(?:is\b\s*:?|:|=|\s[-–—]\s)\s*"
    r"|[a-z]?\s*=\s*"
    r"|i (?:can )?(?:see|read)\b\s*:?\s*"
    r"|(?:it|this|that)(?:'s| is| says| reads)\b\s*:?\s*"
    r"|there (?:is|are)\s+"
    r"|(?:the|this|that) (?:[\w'-]+ ){1,5}?(?:is|are|says?|reads?|shows?)\b\s*:?\s*)",
    re.IGNORECASE,
)
_INITIALS = re.compile(r"\b[^\W\d_](?:\.[^\W\d_])+\b\.?")  # U.S.A., p.m.
_MARKER = re.compile(r"(?:[-*•]|\d{1,2}[.)])\s+")  # what starts a line of a list
_LATEX = (
    (re.compile(r"\\d?frac\{(-?\d+)\}\{(\d+)\}"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[()]"), ""),
)
_LETTER = re.compile(r"(?:(?:option|choice|answer)\s*)?\(?([A-Z])\)?[.):]*", re.IGNORECASE)
_LETTER_TEXT = re.compile(r"(?:(?:option|choice)\s*)?\(?([A-Z])(?:\)|\.|:|\s[-–])\s*(\S.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Score:
    """How right an answer is, in [0, 1], and which rule said so."""

    value: float
    reason: str


def match(
    prediction: str | None,
    answers: Sequence[str] | str,
    *,
    rule: str = "auto",
    choices: Sequence[str] = (),
    tolerance: float = 0.0,
) -> Score:
    """Compare a prediction with every reference and give the best score, in [0, 1].

    "auto" reads each reference and takes the first that fits: equal text; yes/no; a quantity (equal value, or within
    `tolerance` relative to the reference: 0.05 = 5 %); an option (`choices`: the options' texts, A first; a reference
    is a letter or a text); a list (numbers in order, words in any order); a long text by ANLS. All but long texts give
    0 or 1. The other rules force one reading: "exact" (characters), "text" (normalised), "number", "choice", "list",
    "yes_no", "anls" (graded, 0 below 0.5), "contains" (whole words of the reference occur in the prediction; favours
    long predictions). Raises UserError for an unknown rule.

    >>> match("The answer is 1,200 km.", ["1200 km"]).value
    1.0
    """
    if rule not in RULES:
        raise UserError(f"unknown answer rule {rule!r}; use one of {', '.join(RULES)}")
    references = (answers,) if isinstance(answers, str) else answers
    if prediction is None or not prediction.strip():
        return Score(0.0, "no answer")
    best = Score(0.0, "no reference")
    texts = _candidates(prediction[:_MAX_CHARS])
    for reference in references:
        for text in texts:
            score = _compare(text, str(reference).strip(), rule, tuple(choices), tolerance)
            if score.value > best.value or best.reason == "no reference":
                best = score
            if best.value >= 1.0:
                return best
    return best


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """Fold case, width, punctuation, articles and spaces; a text of nothing but those stays as it is ("?", "A")."""
    text = unicodedata.normalize("NFKC", text).casefold().strip()
    text = _INITIALS.sub(lambda found: found[0].replace(".", ""), text)
    text = text.replace("'", "").replace("’", "").replace("&", " and ")
    spaced = "".join(c if c in _KEPT_MARKS or not unicodedata.category(c).startswith("P") else " " for c in text)
    words = spaced.split()
    kept = [w for w in words if w not in _ARTICLES]
    return " ".join(kept if any(len(w) > 1 for w in kept) else words) or text  # in "A B", A is no article


def anls(prediction: str, reference: str, threshold: float = 0.5) -> float:
    """Normalised Levenshtein similarity in [0, 1]; 0 unless the distance is below `threshold` of the longer.

    Source: the ANLS metric of ST-VQA and DocVQA; case is folded, nothing else.
    """
    a, b = prediction.casefold().strip(), reference.casefold().strip()
    longest = max(len(a), len(b))
    if longest == 0:
        return 1.0
    distance = levenshtein(a, b) / longest
    return 1.0 - distance if distance < threshold else 0.0


def levenshtein(a: str, b: str) -> int:
    """Number of inserted, deleted and replaced characters."""
    if a == b:
        return 0
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def _candidates(prediction: str) -> list[str]:
    """The prediction without its wrapping, and without a lead-in such as "The answer is" where it has one."""
    text = unicodedata.normalize("NFKC", prediction).replace("’", "'").strip()
    for wrapper in _WRAPPERS:
        if found := wrapper.search(text):
            text = found[1].strip()
    text = _unwrap(text)
    lead = _LEAD_IN.match(text)
    rest = _unwrap(text[lead.end() :]) if lead else ""
    return [text, rest] if rest else [text]


def _unwrap(text: str) -> str:
    text = text.replace("**", "").replace("\\%", "%").replace("\\$", "$").strip()
    if "\\" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text).strip()
    for left, right in (('"', '"'), ("“", "”"), ("'", "'"), ("`", "`"), ("$", "$"), ("*", "*")):
        if len(text) > 2 and text[0] == left and text.rstrip(".")[-1] == right:
            text = text.rstrip(".")[1:-1].strip()
    return text[:-1] if len(text) > 1 and text[-1] == "." else text


def _compare(text: str, reference: str, rule: str, choices: tuple[str, ...], tolerance: float) -> Score:
    if rule == "auto":
        return _auto(text, reference, choices, tolerance)
    if rule == "exact":
        return _verdict(text == reference, "same characters", "other characters")
    if rule == "text":
        return _verdict(normalise(text) == normalise(reference), "same text", "other text")
    if rule == "number":
        return _number(text, reference, tolerance)
    if rule == "choice":
        return _choice(text, reference, choices)
    if rule == "list":
        return _list(text, _parts(reference) or [reference], tolerance)
    if rule == "yes_no":
        return _yes_no(text, reference)
    if rule == "anls":
        value = anls(text, reference)
        return Score(value, f"ANLS {value:.2f}")
    inside = f" {normalise(reference)} " in f" {normalise(text)} "
    return _verdict(inside, "contains the reference", "does not contain the reference")


def _auto(text: str, reference: str, choices: tuple[str, ...], tolerance: float) -> Score:
    if text.casefold() == reference.casefold() and not choices:
        return Score(1.0, "same text")
    if choices:
        return _choice(text, reference, choices)
    if reference.casefold() in _YES | _NO:
        return _yes_no(text, reference)
    quantity = parse_quantity(reference)
    if quantity is not None and quantity.known:
        return _number(text, reference, tolerance)
    if normalise(text) == normalise(reference):
        return Score(1.0, "same text")
    if quantity is not None:  # "7 Eleven" may be a name: its word must be there
        given = parse_quantity(text)
        return _verdict(given is not None and given == quantity, "same number", "other text")
    if len(reference) == 1 and reference.isalpha():
        return _choice(text, reference, ())
    if (parts := _parts(reference)) and not _is_prose(parts):
        return _list(text, parts, tolerance)
    if len(reference) >= _LONG_TEXT:
        return _long_text(text, reference)
    return Score(0.0, "other text")


def _number(text: str, reference: str, tolerance: float) -> Score:
    expected, given = parse_quantity(reference), parse_quantity(text)
    if expected is None or given is None:
        return Score(0.0, "not one number")
    return _verdict(same_quantity(given, expected, tolerance), "same number", "other number")


def _yes_no(text: str, reference: str) -> Score:
    words = normalise(text).split()
    if not words or len(words) > 12 or words[0] not in _YES | _NO:
        return Score(0.0, "not yes or no")
    said_yes = words[0] in _YES
    if words[1:2] and words[1] in _NO_ANSWER:
        return Score(0.0, "not yes or no")
    if any(w in (_NO if said_yes else _YES) for w in words[1:]):
        return Score(0.0, "both yes and no")
    return _verdict(said_yes == (reference.casefold() in _YES), "same yes/no", "the opposite")


def _choice(text: str, reference: str, choices: tuple[str, ...]) -> Score:
    expected, given = _option(reference, choices), _option(text, choices)
    if given is None:
        return Score(0.0, "no single option named")
    return _verdict(given == expected, "same option", "other option")


def _option(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter of the option that a text names, by letter, by text or by both when they agree; None where it is not clear."""
    names = [normalise(choice) for choice in choices]
    letters = [chr(ord("A") + k) for k in range(len(names))]
    plain = normalise(text)
    if names.count(plain) == 1:  # before letters: options may be letters themselves
        return letters[names.index(plain)]
    if found := _LETTER.fullmatch(text.strip()):
        letter, rest = found[1].upper(), ""
    elif found := _LETTER_TEXT.fullmatch(text.strip()):
        letter, rest = found[1].upper(), normalise(found[2])
    else:
        return None
    if (letters and letter not in letters) or (len(rest) == 1 and rest.upper() != letter):
        return None  # "A. B" names two
    contradicts = bool(rest) and rest in names and names.index(rest) != letters.index(letter)
    return None if contradicts else letter


def _list(text: str, expected: list[str], tolerance: float) -> Score:
    given = _parts(text) or [text]
    if len(given) != len(expected):
        return Score(0.0, f"{len(given)} items, {len(expected)} expected")
    if all(parse_quantity(item) is not None for item in expected):
        same = all(_item(g, e, tolerance) for g, e in zip(given, expected, strict=True))
        return _verdict(same, "same list", "other list, or another order")
    left = list(given)
    for item in expected:
        hit = next((g for g in left if _item(g, item, tolerance)), None)
        if hit is None:
            return Score(0.0, f"{item!r} is missing")
        left.remove(hit)
    return Score(1.0, "same items")


def _item(given: str, expected: str, tolerance: float) -> bool:
    if (quantity := parse_quantity(expected)) is not None and quantity.known:
        return _number(given, expected, tolerance).value == 1.0
    return normalise(given) == normalise(expected)


def _parts(text: str) -> list[str]:
    """The items of a list as Python, JSON or people write it; empty where the text is not a list of at least two."""
    text = text.strip()
    if text[:1] in "[(" and text[-1:] in "])":
        try:
            items = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            text = text[1:-1]
        else:
            return [str(item) for item in items] if isinstance(items, list | tuple) and len(items) > 1 else []
    separator = r"\s*[;\n]\s*" if re.search(r"[;\n]", text) else r"\s*,\s+(?:and\s+)?|\s*,(?!\d{3}(?!\d))\s*|\s+and\s+"
    items = [item.strip() for item in re.split(separator, text)]
    if "\n" in text:
        items = [_MARKER.sub("", item, count=1) if _MARKER.match(item) else item for item in items]
    return items if len(items) > 1 and all(items) else []


def _is_prose(parts: list[str]) -> bool:
    """Whether commas and "and" stand in a sentence rather than between the items of a list."""
    return any(len(part.split()) >= _PROSE_WORDS for part in parts)


def _long_text(text: str, reference: str) -> Score:
    """A transcription: small misreadings cost a little, but every digit must be right."""
    a, b = normalise(text), normalise(reference)
    if [c for c in a if c.isdigit()] != [c for c in b if c.isdigit()] or not 0.7 < len(a) / len(b) < 1.4:
        return Score(0.0, "other text")
    value = anls(a, b)
    return Score(value, f"long text, ANLS {value:.2f}") if value >= _LONG_ANLS else Score(0.0, f"other text (ANLS {value:.2f})")


def _verdict(right: bool, yes: str, no: str) -> Score:
    return Score(1.0, yes) if right else Score(0.0, no)
