"""re and json as code sees them: patterns run under a timeout, values are bounded before they become text."""

from __future__ import annotations

import json
import math
import re as _re  # only for its error type and escape
import time
from collections.abc import Iterator
from typing import Any

import regex

from codevision_lite.sandbox.facade import ATTRIBUTES, Attr, Box, Meth, forward_inner, session
from codevision_lite.sandbox.guards import EXCEPTION_TYPES, call, ticking
from codevision_lite.sandbox.operators import MAX_LENGTH
from codevision_lite.sandbox.stdlib_iter import functions
from codevision_lite.sandbox.stops import TooLarge
from codevision_lite.sandbox.text import check_printable

REGEX_SECONDS = 1.0
COUNTED = _re.compile(r"\{(\d{0,9}),?(\d{0,9})\}")
MAX_REPEATS = 1e6  # product of all counted repeats: nested ones are compiled into as many nodes
MAX_PARTS = 1_000_000


def matching(name: str) -> Any:
    """match, search, fullmatch: one match."""
    real = getattr(regex, name)

    def run(pattern: Any, string: Any, flags: Any = 0) -> Any:
        return bounded(lambda: real(source_of(pattern), string, flags=int(flags), timeout=REGEX_SECONDS), string)

    return run


def matches(pattern: Any, text: Any, flags: Any) -> Iterator[Any]:
    """All matches; the text that they hold is accounted for (a lookahead gives the same text again and again)."""
    end = time.perf_counter() + REGEX_SECONDS
    for match in regex.finditer(source_of(pattern), text, flags=int(flags), timeout=REGEX_SECONDS):
        session.budget.tick()
        if time.perf_counter() > end:
            raise TimeoutError
        yield match


def held(parts: Any) -> Any:
    size = sum(len(p) for p in parts if p is not None)
    if size > 1000:
        session.budget.spend_bytes(size)
    return parts


def find_all(pattern: Any, string: Any, flags: Any = 0) -> Any:
    def run() -> list[Any]:
        found = []
        for m in matches(pattern, string, flags):
            groups = held(m.groups("" if isinstance(string, str) else b""))
            found.append(held((m.group(),))[0] if not groups else groups[0] if len(groups) == 1 else groups)
        return found

    return bounded(run, string)


def find_each(pattern: Any, string: Any, flags: Any = 0) -> Any:
    return ticking(Match(m) for m in bounded(lambda: list(matches(pattern, string, flags)), string))


def split(pattern: Any, string: Any, maxsplit: int = 0, flags: Any = 0) -> Any:
    def run() -> list[Any]:
        parts: list[Any] = []
        for n, part in enumerate(regex.splititer(source_of(pattern), string, maxsplit, flags=int(flags), timeout=REGEX_SECONDS)):
            session.budget.tick()
            parts.append(held((part,))[0])
            if n > MAX_PARTS:
                raise TooLarge("too many parts")
        return parts

    return bounded(run, string)


def source_of(pattern: Any) -> Any:
    if isinstance(pattern, str | bytes):
        counts = COUNTED.findall(pattern if isinstance(pattern, str) else pattern.decode("latin-1"))
        if len(pattern) > 2000 or math.prod(max(1.0, *(float(n or 0) for n in c)) for c in counts) > MAX_REPEATS:
            raise TooLarge("the pattern is too long")
    return pattern.inner if isinstance(pattern, Pattern) else pattern


def bounded(run: Any, text: Any) -> Any:
    if not isinstance(text, str | bytes):
        raise TypeError("expected a string")
    if len(text) > 1_000_000:
        raise TooLarge("the text is too long for re")
    try:
        result = run()
    except TimeoutError:
        raise TooLarge("the regular expression takes too long") from None
    return Match(result) if isinstance(result, regex.Match) else result


def substitute_n(pattern: Any, repl: Any, string: Any, count: int = 0, flags: Any = 0) -> Any:
    def run() -> Any:
        parts, size, at, n = [], 0, 0, 0
        for m in matches(pattern, string, flags):
            if count and n >= count:
                break
            new = call(repl, Match(m)) if callable(repl) else held((m.expand(repl),))[0]
            size += len(new)
            if size > MAX_LENGTH:
                raise TooLarge(f"a text of more than {MAX_LENGTH:,} characters is too long")
            parts += [string[at : m.start()], new]
            at, n = m.end(), n + 1
        parts.append(string[at:])
        return string[:0].join(parts), n

    return bounded(run, string)


def substitute(pattern: Any, repl: Any, string: Any, count: int = 0, flags: Any = 0) -> Any:
    return substitute_n(pattern, repl, string, count, flags)[0]


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
    by_pattern = {n: matching(n) for n in ("match", "search", "fullmatch")} | {
        "findall": find_all, "finditer": find_each, "split": split, "sub": substitute, "subn": substitute_n,
    }  # fmt: skip
    table = functions("re", by_pattern | {"compile": compile_pattern, "escape": lambda text: _re.escape(text[:100_000])})
    for flag in "IGNORECASE I MULTILINE M DOTALL S VERBOSE X ASCII A UNICODE U".split():
        table[flag] = int(getattr(regex, flag))
    table["error"] = _re.error
    EXCEPTION_TYPES.update({_re.error, regex.error})
    ATTRIBUTES[Match] = {n: Meth(forward_inner(n)) for n in "group groups groupdict start end span".split()}
    ATTRIBUTES[Pattern] = {n: Meth(f) for n, f in by_pattern.items()} | {"pattern": Attr(lambda p: p.inner.pattern)}
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
