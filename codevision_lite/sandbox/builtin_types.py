"""Python's own types as code sees them (int, str, list, ...), and iterating towards a container with its memory accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from codevision_lite.sandbox.facade import Fn, Rule, SafeType, check_value, session
from codevision_lite.sandbox.guards import iterate, key_of, make_range
from codevision_lite.sandbox.stops import RefusedCall, TooLarge
from codevision_lite.sandbox.text import check_tree, to_text


def accounted(obj: Any, cell_bytes: int = 40) -> Any:
    """iterate(obj), with the memory of a copy accounted for where the length is known."""
    obj = iterate(obj)
    if hasattr(obj, "__len__"):
        n = len(obj)
        if n > 1000:
            session.budget.spend_bytes(cell_bytes * n)
            session.budget.ticks_left -= n >> 4
    return obj


def growing(obj: Any) -> Iterator[Any]:
    """Iterate towards a container: account for the cells as they come."""
    obj = accounted(obj)
    if hasattr(obj, "__len__"):
        return obj
    return _counted(obj)


def gathered(obj: Any) -> list[Any]:
    """A list of what obj gives, known to be safe for C code that compares, hashes or prints its items."""
    items = list(growing(obj))
    check_tree(items)
    return items


def _counted(obj: Any) -> Iterator[Any]:
    for n, item in enumerate(obj):
        if n % 4096 == 4095:
            session.budget.spend_bytes(4096 * 64)
        yield item


def make_str(obj: Any = "", encoding: Any = None, errors: Any = "strict") -> str:
    if isinstance(obj, bytes | bytearray) and encoding is not None:
        return bytes(obj).decode(_codec(encoding), errors)
    return to_text(obj)


def _codec(name: Any) -> str:
    if str(name).lower().replace("_", "-") not in ("utf-8", "utf8", "ascii", "latin-1", "latin1", "utf-16", "utf-32", "cp1252"):
        raise RefusedCall(f"the codec {str(name)[:40]!r} is not available in the sandbox; use utf-8")
    return str(name)


def make_int(value: Any = 0, *base: Any) -> int:
    if isinstance(value, str | bytes) and len(value) > 4000:
        raise TooLarge("the number is too long")
    return int(value, *base)


def make_bytes(kind: type) -> Callable[..., Any]:
    def make(value: Any = b"", *encoding: Any) -> Any:
        if isinstance(value, int):
            session.budget.spend_bytes(value)
            return kind(value)
        if isinstance(value, str):
            return kind(value, _codec(encoding[0] if encoding else "utf-8"))
        if isinstance(value, np.ndarray):
            session.budget.spend_bytes(value.nbytes)
            return kind(value.tobytes())
        if isinstance(value, bytes | bytearray):
            return kind(value)
        return kind(list(growing(value)))

    return make


def make_container(kind: Any) -> Callable[..., Any]:
    def make(value: Any = ()) -> Any:
        if kind in (set, frozenset):
            return kind(key_of(v) for v in growing(value))
        return kind(growing(value))

    return make


def make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    if not args:
        return dict(**kwargs)
    source = args[0]
    if isinstance(source, dict):
        session.budget.spend_bytes(100 * len(source))
        return dict(source, **kwargs)
    return dict(((key_of(k), v) for k, v in growing(source)), **kwargs)


def unary(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(value: Any, *args: Any) -> Any:
        check_value(value, False)
        if isinstance(value, np.ndarray):
            session.budget.spend_bytes(value.nbytes)
        return f(value, *args)

    return run


def from_bytes(data: Any, byteorder: str = "big", *, signed: bool = False) -> int:
    if not isinstance(data, bytes | bytearray) or len(data) > 4096:
        raise TooLarge("int.from_bytes needs at most 4096 bytes")
    return int.from_bytes(data, byteorder, signed=signed)  # type: ignore[arg-type]


def make_translation(table: Any, *more: Any) -> dict[int, Any]:
    if more:
        return str.maketrans(table, *more)
    return str.maketrans({key_of(k): v for k, v in table.items()} if isinstance(table, dict) else table)


CALLBACKS = Rule(any_value=True, callbacks=True)
TYPES: dict[str, SafeType] = {
    "int": SafeType("int", int, make_int), "float": SafeType("float", float, unary(float)), "bool": SafeType("bool", bool, bool),
    "complex": SafeType("complex", complex, complex), "str": SafeType("str", str, make_str),
    "bytes": SafeType("bytes", bytes, make_bytes(bytes)), "bytearray": SafeType("bytearray", bytearray, make_bytes(bytearray)),
    "list": SafeType("list", list, make_container(list)), "tuple": SafeType("tuple", tuple, make_container(tuple)),
    "set": SafeType("set", set, make_container(set)), "frozenset": SafeType("frozenset", frozenset, make_container(frozenset)),
    "dict": SafeType("dict", dict, make_dict), "range": SafeType("range", range, make_range),
    "slice": SafeType("slice", slice, slice), "object": SafeType("object", object),
    "staticmethod": SafeType("staticmethod", staticmethod), "classmethod": SafeType("classmethod", classmethod),
    "property": SafeType("property", property),
}  # fmt: skip
TYPES["dict"].members["fromkeys"] = Fn(
    "dict.fromkeys", lambda keys, value=None: dict.fromkeys([key_of(k) for k in growing(keys)], value), CALLBACKS
)
TYPES["int"].members["from_bytes"] = Fn("int.from_bytes", from_bytes, CALLBACKS)
TYPES["str"].members["maketrans"] = Fn("str.maketrans", make_translation, CALLBACKS)
