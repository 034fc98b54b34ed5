"""The objects through which code reaches the libraries, and the one function through which every library call passes.

A facade module is a table name -> member; a member is data, a function with a Rule, or a type. Raw modules, raw functions and raw
classes of the libraries never reach the code. Does not hold the tables: pil_facade.py, numpy_facade.py, cv2_facade.py, stdlib_facade.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, GeneratorType, MethodType
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.records import Op
from codevision_lite.sandbox.budget import Budget
from codevision_lite.sandbox.stops import RefusedAttribute, RefusedCall
from codevision_lite.sandbox.trace import Registry


class Session(threading.local):
    """What the run in progress on this thread owns; replaced as a whole by inline.execute."""

    budget: Budget
    traces: Registry
    ops: list[Op]
    outputs: list[Any]  # pictures that were saved or shown
    sources: list[Image.Image]
    index: int
    ops_limit: int
    encoded: dict[int, Any]  # hash of an encoded picture -> its trace
    files: dict[str, Image.Image]  # what the code saved, by its path
    pixels: Any  # pixels.PixelRule
    last: Any  # value of the program's last expression
    seed: int
    np_random: Any  # the run's own random generators, made when asked for
    random: Any
    quiet: int  # > 0 while an operation that is logged as a whole runs its parts


session = Session()


@dataclass(frozen=True, slots=True)
class Rule:
    """How one library callable is treated. Every function gets the call's (args, kwargs), methods with self as args[0]."""

    check: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None  # before the call: sizes and modes; raises Refused
    trace: Callable[[tuple[Any, ...], dict[str, Any], Any], None] | None = None  # after the call: gives the result its Trace
    callbacks: bool = False  # user functions may be passed
    any_value: bool = False  # arguments are not looked at (print, len, isinstance, list.append, ...)


PLAIN = Rule(any_value=True)


class Fn:
    """A library function as the code sees it: callable, without attributes."""

    __slots__ = ("func", "name", "rule")

    def __init__(self, name: str, func: Callable[..., Any], rule: Rule = PLAIN) -> None:
        self.name, self.func, self.rule = name, func, rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs and not args and not self.rule.any_value:
            args, kwargs = first_by_position(kwargs)
        return invoke(self.func, self.rule, args, kwargs)

    def __repr__(self) -> str:
        return f"<function {self.name}>"


# The names that library functions give to their first argument: passed by name it is moved to its place, where checks and traces look.
FIRST_NAMES = ("src", "src1", "img", "image", "image1", "im1", "im", "obj", "object", "fp", "a", "m", "arr", "array", "x", "images", "data")


def first_by_position(kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for name in FIRST_NAMES:
        if name in kwargs:
            return (kwargs[name],), {k: v for k, v in kwargs.items() if k != name}
    return (), kwargs


class Method:
    """A bound method as the code sees it when it is not called at once."""

    __slots__ = ("func", "name", "owner", "rule")

    def __init__(self, owner: Any, name: str, func: Callable[..., Any], rule: Rule) -> None:
        self.owner, self.name, self.func, self.rule = owner, name, func, rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return invoke(self.func, self.rule, (self.owner, *args), kwargs)

    def __repr__(self) -> str:
        return f"<method {self.name}>"


def forward(name: str) -> Callable[..., Any]:
    """A method that calls the object's own method `name`. (A default argument would not do: the code could pass another name.)"""
    return lambda obj, *args, **kwargs: getattr(obj, name)(*args, **kwargs)


def forward_inner(name: str) -> Callable[..., Any]:
    """The same for a stand-in whose library object is in `.inner`."""
    return lambda obj, *args, **kwargs: getattr(obj.inner, name)(*args, **kwargs)


class Module:
    """A facade of one module. `hint`: said when a member is missing."""

    __slots__ = ("hint", "members", "name")

    def __init__(self, name: str, members: dict[str, Any], hint: str = "") -> None:
        self.name, self.members, self.hint = name, members, hint

    def get(self, name: str) -> Any:
        try:
            return self.members[name]
        except KeyError:
            hint = f" ({self.hint})" if self.hint else ""
            raise RefusedAttribute(f"{self.name}.{name} is not available in the sandbox{hint}") from None

    def __repr__(self) -> str:
        return f"<module {self.name!r}>"


SAFE_TYPES: dict[Any, Any] = {}  # a real class -> how code sees it; type(x) gives the same object as the name does


class SafeType:
    """A class of a library or of Python as the code sees it: callable, usable in isinstance, with the listed members only.

    `shared` False: made during a run (a namedtuple), to be forgotten with it.
    """

    __slots__ = ("make", "members", "name", "real", "rule")

    def __init__(self, name: str, real: Any, make: Callable[..., Any] | None = None, rule: Rule = PLAIN,
                 members: dict[str, Any] | None = None, shared: bool = True) -> None:  # fmt: skip
        self.name, self.real, self.make, self.rule, self.members = name, real, make, rule, members or {}
        if shared:
            SAFE_TYPES.setdefault(real, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.make is None:
            raise RefusedCall(f"{self.name}() can not be called in the sandbox")
        return invoke(self.make, self.rule, args, kwargs)

    def __repr__(self) -> str:
        return f"<class '{self.name}'>"

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, np.dtype):  # arr.dtype == np.uint8
            return isinstance(self.real, type) and self.real is not object and other == self.real
        return isinstance(other, SafeType) and self.real == other.real

    def __hash__(self) -> int:
        return hash(self.name)


class UserMeta(type):
    """The metaclass of classes that the code defines; made only by guards.make_class."""


class Box:
    """Base of our own stand-ins for library objects (draw, pixels, files, ...): the code sees only what ATTRIBUTES lists."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True)
class Attr:
    """A readable attribute: `get(obj)` makes the value."""

    get: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Meth:
    """A callable attribute: `func(obj, ...)` under its rule."""

    func: Callable[..., Any]
    rule: Rule = PLAIN


ATTRIBUTES: dict[type, dict[str, Attr | Meth]] = {}  # exact type -> what may be reached; an unlisted type has no attributes
SCALARS = frozenset({int, float, bool, str, bytes, type(None), complex, slice, type(Ellipsis), np.bool_,
                     *(t for ts in (np.sctypes if hasattr(np, "sctypes") else {}).values() for t in ts)})  # fmt: skip
SCALARS |= frozenset(np.dtype(c).type for c in "bBhHiIlLqQefdgFDG")
CONTAINERS = (list, tuple, set, frozenset, dict)
CALLABLE = (FunctionType, MethodType, Fn, Method)
USER_ARGUMENT = "objects of your own classes can not be passed to library functions; pass numbers, lists, arrays or pictures"
FUNCTION_ARGUMENT = "a function can not be passed to this library function"
MAX_DEPTH = 6


def check_value(value: Any, callbacks: bool, depth: int = 0) -> None:
    """Raise RefusedCall for what must not reach a library function: user objects, functions, generators, modules."""
    kind = type(value)
    if kind in SCALARS or isinstance(value, np.ndarray | Image.Image | Box | SafeType | range | np.dtype | bytearray):
        return
    if isinstance(value, CONTAINERS):
        kinds = set(map(type, value))
        if not kinds <= SCALARS:
            if depth >= MAX_DEPTH:
                raise RefusedCall("an argument is nested too deeply")
            tick = session.budget.tick
            for item in value:
                tick()
                check_value(item, callbacks, depth + 1)
        if isinstance(value, dict):
            for item in value.values():
                check_value(item, callbacks, depth + 1)
        return
    if isinstance(value, CALLABLE):
        if not callbacks:
            raise RefusedCall(FUNCTION_ARGUMENT)
        return
    if isinstance(kind, UserMeta) or isinstance(value, UserMeta):
        raise RefusedCall(USER_ARGUMENT)
    if isinstance(value, Module):
        raise RefusedCall(f"the module {value.name} can not be passed to a library function")
    if kind in ATTRIBUTES or kind in PASSIVE:
        return
    if kind is GeneratorType:
        raise RefusedCall("a generator can not be passed to this function; pass a list")
    raise RefusedCall(f"a {kind.__name__} can not be passed to this function")


CELL_BYTES = {str: 1, bytes: 1, bytearray: 1, list: 24, tuple: 8, dict: 100, set: 60, frozenset: 60, deque: 8}
UNACCOUNTED = 10_000  # cells of a text or container below which nobody counts
PASSIVE: set[type] = set()  # types without attributes that may be passed (filters, iterators of ours, ...)


def invoke(func: Callable[..., Any], rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one library callable under its rule: look at the clock, check, call, trace, log."""
    budget = session.budget
    budget.ticks_left -= 8  # a library call costs about as much as a few loop steps
    if budget.ticks_left <= 0:
        budget.look()
    if rule.any_value:
        result = func(*args, **kwargs)
        cell = CELL_BYTES.get(type(result))
        if cell is not None and len(result) > UNACCOUNTED:
            budget.spend_bytes(cell * len(result))
        return result
    for value in args:
        check_value(value, rule.callbacks)
    for value in kwargs.values():
        check_value(value, rule.callbacks)
    if any(type(a) is SafeType for a in args):
        args = tuple(unwrap(a) for a in args)
    if kwargs:
        kwargs = {k: unwrap(v) for k, v in kwargs.items()}
    if rule.check is not None:
        rule.check(args, kwargs)
    result = func(*args, **kwargs)
    if holds_objects(result):
        raise RefusedCall("arrays of Python objects are not available in the sandbox")
    if rule.trace is not None:
        rule.trace(*without_target(args, kwargs, result), result)
    return result


def holds_objects(result: Any) -> bool:
    if type(result) is np.ndarray:
        return result.dtype.hasobject
    return type(result) in (tuple, list) and len(result) <= 64 and any(type(r) is np.ndarray and r.dtype.hasobject for r in result)


def without_target(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments without an array that was passed only to be overwritten (out=, dst=, a positional dst)."""
    if kwargs and ("out" in kwargs or "dst" in kwargs):
        target = kwargs.get("out", kwargs.get("dst"))
        kwargs = {k: v for k, v in kwargs.items() if k not in ("out", "dst")}
        if isinstance(target, np.ndarray) and (not args or target is not args[0]):
            session.traces.spoil(target)
    if type(result) is np.ndarray and any(a is result for a in args[1:]):
        if not (args and args[0] is result):
            session.traces.spoil(result)
        args = (args[0], *(None if a is result else a for a in args[1:]))
    return args, kwargs


def unwrap(value: Any) -> Any:
    return value.real if type(value) is SafeType else value
