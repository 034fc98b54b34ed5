"""re and json as code sees them: patterns run under a timeout, values are bounded before they become text."""

from __future__ import annotations

import json
import re as _re  # only for its error type and escape
from typing import Any

import regex

from codevision_lite.sandbox.facade import ATTRIBUTES, Attr, Box, Meth
from codevision_lite.sandbox.guards import EXCEPTION_TYPES, call, ticking
from codevision_lite.sandbox.stdlib_iter import functions
from codevision_lite.sandbox.stops import TooLarge
from codevision_lite.sandbox.text import check_printable

REGEX_SECONDS = 1.0


def matching(name: str) -> Any:
    real = getattr(regex, name)

    def run(pattern: Any, *args: Any, flags: Any = 0, **kwargs: Any) -> Any:
        return bounded(lambda: real(source_of(pattern), *args, flags=int(flags), timeout=REGEX_SECONDS, **kwargs), args)

    return run


def source_of(pattern: Any) -> Any:
    if isinstance(pattern, str | bytes) and len(pattern) > 2000:
        raise TooLarge("the pattern is too long")
    return pattern.inner if isinstance(pattern, Pattern) else pattern


def bounded(run: Any, args: tuple[Any, ...]) -> Any:
    if any(isinstance(a, str | bytes) and len(a) > 1_000_000 for a in args):
        raise TooLarge("the text is too long for re")
    try:
        return wrapped(run())
    except TimeoutError:
        raise TooLarge("the regular expression takes too long") from None


def wrapped(result: Any) -> Any:
    if isinstance(result, regex.Match):
        return Match(result)
    if hasattr(result, "__next__"):
        return ticking(wrapped(m) for m in result)
    return result


def substitute(pattern: Any, new: Any, text: Any, count: int = 0, flags: Any = 0) -> Any:
    replacement = (lambda m: call(new, Match(m))) if callable(new) else new
    if isinstance(new, str) and len(new) * max(1, len(text)) > 50_000_000:
        raise TooLarge("the text would be too long")
    return bounded(lambda: regex.sub(source_of(pattern), replacement, text, count=count, flags=int(flags), timeout=REGEX_SECONDS), (text,))


class Match(Box):
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def read_item(self, key: Any) -> Any:
        return self.inner[key]


class Pattern(Box):
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


def compile_pattern(pattern: Any, flags: Any = 0) -> Pattern:
    return pattern if isinstance(pattern, Pattern) else Pattern(regex.compile(source_of(pattern), int(flags)))


def make_re() -> dict[str, Any]:
    names = "match search fullmatch findall finditer split".split()
    table = functions("re", {n: matching(n) for n in names} | {"sub": substitute, "compile": compile_pattern, "escape": _re.escape})
    for flag in "IGNORECASE I MULTILINE M DOTALL S VERBOSE X ASCII A UNICODE U".split():
        table[flag] = int(getattr(regex, flag))
    table["error"] = _re.error
    EXCEPTION_TYPES.update({_re.error, regex.error})
    ATTRIBUTES[Match] = {n: Meth(lambda m, *a, n=n: getattr(m.inner, n)(*a)) for n in "group groups groupdict start end span".split()}
    ATTRIBUTES[Pattern] = {n: Meth(lambda p, *a, n=n, **k: matching(n)(p, *a, **k)) for n in names} | {
        "sub": Meth(lambda p, new, text, count=0: substitute(p, new, text, count)), "pattern": Attr(lambda p: p.inner.pattern),
    }  # fmt: skip
    return table


def dumps(
    obj: Any, *, indent: Any = None, sort_keys: bool = False, ensure_ascii: bool = True, default: Any = None, separators: Any = None
) -> str:
    check_printable(obj)
    if isinstance(indent, int) and indent > 16:
        indent = 16
    return json.dumps(
        obj,
        indent=indent,
        sort_keys=sort_keys,
        ensure_ascii=ensure_ascii,
        separators=separators,
        default=None if default is None else lambda o: call(default, o),
    )


def loads(text: Any) -> Any:
    if not isinstance(text, str | bytes) or len(text) > 1_000_000:
        raise TooLarge("json.loads needs a text of at most 1,000,000 characters")
    return json.loads(text)
