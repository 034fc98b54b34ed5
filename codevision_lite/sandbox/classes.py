"""The hooks of statements: except, with, decorators, class definitions and super().

Stops: catching limits, entering library objects as context managers, classes with library bases or metaclasses.
"""

from __future__ import annotations

from typing import Any

from codevision_lite.sandbox.facade import Box, SafeType, UserMeta
from codevision_lite.sandbox.guards import call, is_user
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

    def __exit__(self, *error: Any) -> Any:
        if is_user(self.inner):
            return self.inner.__exit__(None, None, None)
        if hasattr(self.inner, "entered"):
            self.inner.__exit__(None, None, None)
        return False


def enter(obj: Any) -> Entered:
    if is_user(obj) or isinstance(obj, Box) or type(obj) in WITHABLE:
        return Entered(obj)
    raise TypeError(f"'{type(obj).__name__}' object does not support the context manager protocol")


WITHABLE: set[type] = set()


def decorator(f: Any) -> Any:
    if type(f) is SafeType and f.real in (staticmethod, classmethod, property):
        return f.real
    return lambda target: call(f, target)


def make_class(name: str, bases: tuple[Any, ...], namespace: dict[str, Any]) -> Any:
    for base in bases:
        if not isinstance(base, UserMeta) and not (type(base) is SafeType and base.real is object):
            raise RefusedCall("classes can only inherit from your own classes in the sandbox")
    namespace = {k: v for k, v in namespace.items() if k not in ("__module__", "__slots__")}
    return UserMeta(name, tuple(b for b in bases if isinstance(b, UserMeta)), {**namespace, "__module__": "code"})
