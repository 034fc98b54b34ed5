"""The hooks of statements: except, with, decorators, class definitions and super().

Stops: catching limits, entering library objects as context managers, classes with library bases
(exceptions apart) or metaclasses.
"""

from __future__ import annotations

from typing import Any

from codevision_lite.sandbox.facade import Box, SafeType, UserMeta
from codevision_lite.sandbox.guards import EXCEPTIONS, MEMBERS, Typing, call, is_user
from codevision_lite.sandbox.stops import LimitReached, RefusedCall


def caught(kinds: Any) -> Any:
    """The classes of an except clause: exceptions only, never the limits."""
    for kind in kinds if type(kinds) is tuple else (kinds,):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError("catching classes that do not inherit from Exception is not allowed")
        if issubclass(kind, LimitReached):
            raise RefusedCall("limits can not be caught")
    return kinds


class Entered:
    """A with-statement over an object that may stand in one."""

    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __enter__(self) -> Any:
        if is_user(self.inner):
            return self.inner.__enter__()
        return self.inner.__enter__() if hasattr(self.inner, "entered") else self.inner

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        """Tell the object of an exception, which it may swallow; of a limit nothing is told, and it can not be swallowed."""
        if error is not None and not isinstance(error, Exception):
            return False
        swallowed = False
        if is_user(self.inner) or hasattr(self.inner, "entered"):
            swallowed = bool(self.inner.__exit__(kind, error, None))
        return swallowed and error is not None


def enter(obj: Any) -> Entered:
    if is_user(obj) or isinstance(obj, Box) or type(obj) in WITHABLE:
        return Entered(obj)
    raise TypeError(f"'{type(obj).__name__}' object does not support the context manager protocol")


WITHABLE: set[type] = set()


def decorator(f: Any) -> Any:
    if type(f) is SafeType and f.real in (staticmethod, classmethod, property):
        return f.real
    return lambda target: call(f, target)


class Special(Box):
    """A base that says how the class is made (Enum, NamedTuple), or nothing (ABC, Protocol)."""

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Any = None) -> None:
        self.name, self.make = name, make

    def __repr__(self) -> str:
        return f"<class '{self.name}'>"

    def read_item(self, key: Any) -> Any:
        return self  # Protocol[T]


# Exceptions that the code's own may inherit from: not those that hold more than their arguments.
EXTENDABLE = {kind for kind in EXCEPTIONS.values() if not issubclass(kind, UnicodeError | SyntaxError | OSError)}


def make_class(name: str, bases: tuple[Any, ...], namespace: dict[str, Any]) -> Any:
    namespace = {k: v for k, v in namespace.items() if k not in ("__module__", "__slots__")} | {"__module__": "code"}
    real: list[Any] = []
    for base in bases:
        if type(base) is Special and base.make is not None:
            if len(bases) > 1:
                raise RefusedCall(f"a class can not inherit from {base.name} and another class in the sandbox")
            return base.make(name, namespace)
        if (type(base) is UserMeta and MEMBERS not in vars(base)) or (isinstance(base, type) and base in EXTENDABLE):
            real.append(base)
        elif not (type(base) in (Special, Typing) or (type(base) is SafeType and base.real is object)):
            raise RefusedCall("classes can only inherit from your own classes and from exceptions in the sandbox")
    return UserMeta(name, tuple(real), namespace)
