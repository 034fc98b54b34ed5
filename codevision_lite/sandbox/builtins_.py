"""The builtins that code sees. Everything lazy is a ticking generator; everything that grows is accounted for.

Not here, on purpose: open, exec, eval, compile, globals, locals, vars, dir, input, __import__, memoryview, breakpoint, delattr, id.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import numpy as np

from codevision_lite.sandbox.array_trace import keep
from codevision_lite.sandbox.builtin_types import CALLBACKS, TYPES, accounted, gathered, growing, unary
from codevision_lite.sandbox.facade import SAFE_TYPES, Fn, Method, Module, SafeType, UserMeta, session
from codevision_lite.sandbox.guards import (
    EXCEPTION_TYPES,
    EXCEPTIONS,
    BigRange,
    call,
    is_user,
    iterate,
    key_of,
    keyed,
    setattribute,
    ticking,
)
from codevision_lite.sandbox.lookup import attribute
from codevision_lite.sandbox.operators import binary
from codevision_lite.sandbox.stops import RefusedAttribute, RefusedCall, RefusedName, TooLarge
from codevision_lite.sandbox.text import check_tree, formatted, to_repr, to_text
from codevision_lite.sandbox.virtual import Buffer

ABSENT = {
    "open": "files do not exist in the sandbox; the picture is in `image`",
    "exec": "write the code itself", "eval": "write the expression itself, or use json.loads / ast-free parsing",
    "compile": "write the code itself", "globals": "use your own dict", "locals": "use your own dict", "vars": "use your own dict",
    "dir": "", "input": "there is nobody to ask; use the picture in `image`", "__import__": "use an import statement",
    "memoryview": "use bytes or an array", "breakpoint": "", "delattr": "", "id": "", "help": "", "exit": "let the code end",
    "quit": "let the code end",
}  # fmt: skip


def print_(*values: Any, sep: Any = " ", end: Any = "\n", file: Any = None, flush: Any = None) -> None:
    separator, write = " " if sep is None else to_text(sep), session.budget.write
    if type(file) is Buffer:
        write = file.write
    for i, value in enumerate(values):
        write((separator if i else "") + to_text(value))
    write("\n" if end is None else to_text(end))


def enumerate_(obj: Any, start: int = 0) -> Iterator[Any]:
    return ticking(enumerate(iterate(obj), start))


def zip_(*objs: Any, strict: bool = False) -> Iterator[Any]:
    return ticking(zip(*[iterate(o) for o in objs], strict=strict))


def map_(f: Any, *objs: Any) -> Iterator[Any]:
    return ticking(call(f, *items) for items in zip(*[iterate(o) for o in objs], strict=False))


def filter_(f: Any, obj: Any) -> Iterator[Any]:
    return ticking(item for item in iterate(obj) if (item if f is None else call(f, item)))


def reversed_(obj: Any) -> Iterator[Any]:
    return ticking(reversed(obj.real if type(obj) is BigRange else iterate(obj)))


def iter_(obj: Any, *sentinel: Any) -> Iterator[Any]:
    if sentinel:
        return ticking(iter(lambda: call(obj), sentinel[0]))
    return ticking(iter(iterate(obj)))


def next_(obj: Any, *default: Any) -> Any:
    if not (hasattr(type(obj), "__next__") or is_user(obj)):
        raise TypeError(f"'{type(obj).__name__}' object is not an iterator")
    return next(obj, *default)


def sorted_(obj: Any, *, key: Any = None, reverse: bool = False) -> list[Any]:
    items = gathered(obj)
    session.budget.ticks_left -= len(items) >> 2
    return sorted(items, key=keyed(key), reverse=bool(reverse))


def extreme(pick: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, key: Any = None, **default: Any) -> Any:
        items = growing(args[0]) if len(args) == 1 else args
        if key is None:  # else only what it returns is compared
            items = (key_of(v) for v in items)
        return pick(items, key=keyed(key), **default)

    return run


def sum_(obj: Any, start: Any = 0) -> Any:
    obj = accounted(obj, 0)
    plain = isinstance(obj, range) or (isinstance(obj, list | tuple) and set(map(type, obj)) <= {int, float, bool})
    if plain and isinstance(start, int | float):
        return sum(obj, start)
    total = start
    for item in obj:
        session.budget.tick()
        total = binary("+", total, item)
    return total


def pow_(base: Any, exponent: Any, *modulus: Any) -> Any:
    if modulus:
        if any(isinstance(v, int) and v.bit_length() > 4096 for v in (base, exponent, *modulus)):
            raise TooLarge("the numbers are too large for pow()")
        return pow(base, exponent, *modulus)
    return binary("**", base, exponent)


def round_(value: Any, *digits: Any) -> Any:
    if digits and isinstance(digits[0], int) and abs(digits[0]) > 1000:
        raise TooLarge("round() to so many digits is not possible")
    if isinstance(value, np.ndarray):
        return np.round(value, *digits)
    return round(value, *digits)


def divmod_(a: Any, b: Any) -> Any:
    return binary("//", a, b), binary("%", a, b)


def hash_(obj: Any) -> int:
    check_tree(obj)
    return hash(obj)


def len_(obj: Any) -> int:
    return len(obj)


def isinstance_(obj: Any, kinds: Any) -> bool:
    return any(_is_a(obj, k) for k in (kinds if isinstance(kinds, tuple) else (kinds,)))


def _is_a(obj: Any, kind: Any) -> bool:
    if type(kind) is SafeType:
        if kind.real is range and type(obj) is BigRange:
            return True
        return isinstance(obj, kind.real)
    if isinstance(kind, UserMeta):
        return isinstance(obj, kind)
    if isinstance(kind, type) and kind in EXCEPTION_TYPES:
        return isinstance(obj, kind)
    raise TypeError("isinstance() arg 2 must be a type, or a tuple of types")


def issubclass_(cls: Any, kinds: Any) -> bool:
    def real(k: Any) -> Any:
        if not isinstance(k, type | SafeType):
            raise TypeError("issubclass() arguments must be classes or a tuple of classes")
        return k.real if type(k) is SafeType else k

    return issubclass(real(cls), tuple(real(k) for k in (kinds if isinstance(kinds, tuple) else (kinds,))))


def type_(obj: Any, *more: Any) -> Any:
    """A view of the class of obj, never the class. Making classes by type() is refused."""
    if more:
        raise RefusedCall("type() with three arguments is not available in the sandbox")
    kind = type(obj)
    if isinstance(kind, UserMeta):
        return kind
    if kind in (SafeType, UserMeta, Module, Fn, Method):
        raise RefusedCall("type() of a class, function or module is not available in the sandbox")
    if kind in EXCEPTION_TYPES:
        return kind
    return SAFE_TYPES[kind] if kind in SAFE_TYPES else SafeType(kind.__name__, kind, shared=False)


def callable_(obj: Any) -> bool:
    return isinstance(obj, FunctionType | Fn | Method | SafeType | type) or (is_user(obj) and callable(obj))


def getattr_(obj: Any, name: Any, *default: Any) -> Any:
    if type(name) is not str or name.startswith("_"):
        raise RefusedAttribute(f"attribute {str(name)[:40]!r} is not available in the sandbox")
    try:
        return attribute(obj, name)
    except AttributeError:
        if default:
            return default[0]
        raise


def hasattr_(obj: Any, name: Any) -> bool:
    try:
        getattr_(obj, name)
    except AttributeError:
        return False
    return True


def setattr_(obj: Any, name: Any, value: Any) -> None:
    if type(name) is not str or name.startswith("_"):
        raise RefusedAttribute(f"attribute {str(name)[:40]!r} is not available in the sandbox")
    setattribute(obj, name, value)


def abs_(value: Any) -> Any:
    if is_user(value):
        return abs(value)
    result = unary(abs)(value)
    if isinstance(value, np.ndarray):
        keep((value,), {}, result)
    return result


def functions() -> dict[str, Any]:
    table: dict[str, Callable[..., Any]] = {
        "print": print_, "len": len_, "abs": abs_, "round": round_, "divmod": divmod_, "pow": pow_, "sum": sum_,
        "min": extreme(min), "max": extreme(max), "any": lambda o: any(accounted(o, 0)), "all": lambda o: all(accounted(o, 0)),
        "sorted": sorted_, "reversed": reversed_, "enumerate": enumerate_, "zip": zip_, "map": map_, "filter": filter_,
        "iter": iter_, "next": next_, "isinstance": isinstance_, "issubclass": issubclass_, "type": type_, "callable": callable_,
        "getattr": getattr_, "hasattr": hasattr_, "setattr": setattr_, "hash": hash_, "repr": to_repr, "ascii": to_repr,
        "chr": chr, "ord": ord, "bin": unary(bin), "hex": unary(hex), "oct": unary(oct),
        "format": lambda value, spec="": formatted(value, -1, spec),
    }  # fmt: skip
    return {name: Fn(name, f, CALLBACKS) for name, f in table.items()}


def absent(name: str) -> Any:
    """Raise for a builtin that Python has and the sandbox has not."""
    advice = ABSENT[name]
    raise RefusedName(f"{name}() is not available in the sandbox" + (f": {advice}" if advice else ""))


def make_builtins() -> dict[str, Any]:
    """The namespace of builtins: functions, types, exceptions and constants."""
    safe_exceptions = dict(EXCEPTIONS)
    safe_exceptions["BaseException"] = safe_exceptions["SystemExit"] = safe_exceptions["KeyboardInterrupt"] = Exception
    missing_ones = {name: Fn(name, _raiser(name), CALLBACKS) for name in ABSENT}
    return {
        **missing_ones,
        **functions(),
        **TYPES,
        **safe_exceptions,
        "Ellipsis": ...,
        "NotImplemented": NotImplemented,
        "__build_class__": builtins.__build_class__,
    }  # the class statement needs it; the name itself is refused by the compiler


def _raiser(name: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: absent(name)
