"""Which attributes of Python's own types code may use, with the ones that can grow or loop replaced by bounded versions."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from codevision_lite.sandbox.builtin_types import _codec, gathered, growing
from codevision_lite.sandbox.facade import ATTRIBUTES, Attr, Meth, session
from codevision_lite.sandbox.guards import key_of, keyed
from codevision_lite.sandbox.operators import MAX_LENGTH
from codevision_lite.sandbox.stops import TooLarge
from codevision_lite.sandbox.text import NESTED_BASES, check_tree, format_map, format_method

STR = (
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric "
    "isprintable isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip "
    "split splitlines startswith strip swapcase title upper"
).split()
BYTES = "count endswith find hex index lower replace rfind split startswith strip upper".split()


def listed(kind: type, names: list[str] | str) -> dict[str, Attr | Meth]:
    return {n: Meth(getattr(kind, n)) for n in (names.split() if isinstance(names, str) else names)}


def padded(kind: type, name: str) -> Meth:
    real = getattr(kind, name)

    def run(text: Any, width: int, *fill: Any) -> Any:
        if width > MAX_LENGTH:
            raise TooLarge(f"a text of {width:,} characters is too long")
        return real(text, width, *fill)

    return Meth(run)


def replace(text: Any, old: Any, new: Any, count: int = -1) -> Any:
    hits = text.count(old) if count < 0 else min(count, text.count(old))
    if len(text) + hits * len(new) > MAX_LENGTH:
        raise TooLarge("the text would be too long")
    return text.replace(old, new, count)


def join(separator: Any, parts: Any) -> Any:
    items = list(growing(parts))
    length = sum(len(p) for p in items if isinstance(p, str | bytes)) + len(separator) * len(items)
    if length > MAX_LENGTH:
        raise TooLarge(f"a text of {length:,} characters is too long")
    return separator.join(items)


def encode(text: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    return text.encode(_codec(encoding), _errors(errors))


def decode(data: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
    return data.decode(_codec(encoding), _errors(errors))


def _errors(errors: str) -> str:
    return errors if errors in ("strict", "ignore", "replace") else "strict"


def expandtabs(text: str, size: int = 8) -> str:
    if abs(size) > 1000 or len(text) + abs(size) * text.count("\t") > MAX_LENGTH:
        raise TooLarge("the text would be too long")
    return text.expandtabs(size)


def translate(text: str, table: dict[int, Any]) -> str:
    longest = max((len(v) for v in table.values() if isinstance(v, str)), default=1)
    if len(text) * max(1, longest) > MAX_LENGTH:
        raise TooLarge("the text would be too long")
    return text.translate(dict(table))


def checked(real: Callable[..., Any]) -> Meth:
    """A method that compares or hashes its argument."""

    def run(obj: Any, value: Any, *more: Any) -> Any:
        if isinstance(value, NESTED_BASES):
            check_tree(value)
            if isinstance(obj, list | tuple | deque):
                check_tree(obj)
        return real(obj, value, *more)

    return Meth(run)


def extending(real: Callable[..., Any]) -> Meth:
    """A method that takes one iterable."""

    def run(obj: Any, *others: Any) -> Any:
        return real(obj, *[list(growing(o)) for o in others])

    return Meth(run)


def hashing(real: Callable[..., Any]) -> Meth:
    """A method of a set that takes iterables, whose items it hashes."""

    def run(obj: Any, *others: Any) -> Any:
        return real(obj, *[gathered(o) for o in others])

    return Meth(run)


def sort(items: list[Any], *, key: Any = None, reverse: bool = False) -> None:
    session.budget.ticks_left -= len(items) >> 2
    check_tree(items)
    items.sort(key=keyed(key), reverse=bool(reverse))


def update(target: dict[Any, Any], *args: Any, **kwargs: Any) -> None:
    for source in args:
        pairs = dict(source) if isinstance(source, dict) else {key_of(k): v for k, v in growing(source)}
        target.update(pairs)
    target.update(kwargs)


def to_bytes(value: int, length: int = 1, byteorder: str = "big", *, signed: bool = False) -> bytes:
    if length > 4096:
        raise TooLarge("the number would take too many bytes")
    return value.to_bytes(length, byteorder, signed=signed)  # type: ignore[arg-type]


def view(name: str) -> Meth:
    real = getattr(dict, name)
    return Meth(lambda d: real(d))


def install() -> None:
    """Fill ATTRIBUTES with the tables of Python's own types."""
    text = listed(str, STR) | {n: padded(str, n) for n in ("center", "ljust", "rjust", "zfill")}
    text |= {"join": Meth(join), "replace": Meth(replace), "format": Meth(format_method), "format_map": Meth(format_map)}
    ATTRIBUTES[str] = text | {"encode": Meth(encode), "expandtabs": Meth(expandtabs), "translate": Meth(translate)}
    ATTRIBUTES[bytes] = listed(bytes, BYTES) | {"join": Meth(join), "decode": Meth(decode), "replace": Meth(replace)}
    ATTRIBUTES[bytearray] = ATTRIBUTES[bytes] | listed(bytearray, "append clear copy pop reverse") | {"extend": extending(bytearray.extend)}
    ATTRIBUTES[int] = listed(int, "bit_length bit_count conjugate") | {
        "to_bytes": Meth(to_bytes),
        "real": Attr(lambda v: v),
        "imag": Attr(lambda v: 0),
    }
    ATTRIBUTES[bool] = ATTRIBUTES[int]
    ATTRIBUTES[float] = listed(float, "is_integer conjugate as_integer_ratio hex") | {
        "real": Attr(lambda v: v),
        "imag": Attr(lambda v: 0.0),
    }
    ATTRIBUTES[complex] = listed(complex, "conjugate") | {"real": Attr(lambda v: v.real), "imag": Attr(lambda v: v.imag)}
    ATTRIBUTES[list] = listed(list, "append clear copy insert pop reverse") | {
        "extend": extending(list.extend), "sort": Meth(sort), "index": checked(list.index), "count": checked(list.count),
        "remove": checked(list.remove),
    }  # fmt: skip
    ATTRIBUTES[tuple] = {"index": checked(tuple.index), "count": checked(tuple.count)}
    ATTRIBUTES[dict] = listed(dict, "clear copy popitem") | {
        "get": checked(dict.get), "pop": checked(dict.pop), "setdefault": Meth(lambda d, k, v=None: d.setdefault(key_of(k), v)),
        "update": Meth(update), "keys": view("keys"), "values": view("values"), "items": view("items"),
    }  # fmt: skip
    sets = "difference intersection issubset issuperset symmetric_difference union isdisjoint".split()
    ATTRIBUTES[set] = {n: hashing(getattr(set, n)) for n in sets} | listed(set, "clear copy pop") | {
        n: hashing(getattr(set, n)) for n in ("update", "difference_update", "intersection_update", "symmetric_difference_update")
    } | {n: checked(getattr(set, n)) for n in ("add", "discard", "remove")}  # fmt: skip
    ATTRIBUTES[frozenset] = {n: hashing(getattr(frozenset, n)) for n in sets} | listed(frozenset, "copy")
    ATTRIBUTES[slice] = {n: Attr(lambda s, n=n: getattr(s, n)) for n in ("start", "stop", "step")}
    ATTRIBUTES[range] = {n: Attr(lambda r, n=n: getattr(r, n)) for n in ("start", "stop", "step")} | listed(range, "index count")
    ATTRIBUTES[deque] = listed(deque, "append appendleft clear copy pop popleft reverse rotate") | {
        "extend": extending(deque.extend), "extendleft": extending(deque.extendleft), "index": checked(deque.index),
        "maxlen": Attr(lambda d: d.maxlen),
    }  # fmt: skip
    ATTRIBUTES[OrderedDict] = ATTRIBUTES[dict] | {"move_to_end": checked(OrderedDict.move_to_end)}
    ATTRIBUTES.update({type(view): {} for view in ({}.keys(), {}.values(), {}.items())})


install()
