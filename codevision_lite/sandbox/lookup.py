"""Looking up an attribute as the code may see it: the table of the exact type, the code's own classes, exceptions, namedtuples.

Stops: every attribute that no table lists. Does not call anything but the getters of the tables and properties of the code's classes.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from codevision_lite.sandbox.facade import ATTRIBUTES, PLAIN, SCALARS, Attr, Fn, Method, Module, SafeType, UserMeta
from codevision_lite.sandbox.stops import RefusedAttribute


def attribute(obj: Any, name: str) -> Any:
    """The attribute `name` of obj as the code may see it. Raises RefusedAttribute, AttributeError."""
    kind = type(obj)
    table = ATTRIBUTES.get(kind)
    if table is not None:
        entry = table.get(name)
        if entry is not None:
            return entry.get(obj) if type(entry) is Attr else Method(obj, name, entry.func, entry.rule)
        raise missing(obj, name)
    if kind is Module:
        return obj.get(name)
    if kind is SafeType:
        if name == "__name__":
            return obj.real.__name__
        if name in obj.members:
            return obj.members[name]
        raise missing(obj, name)
    if isinstance(kind, UserMeta) or isinstance(obj, UserMeta):
        return user_attribute(obj, name)
    if name == "__name__" and isinstance(obj, FunctionType | type):
        return obj.__name__
    if isinstance(obj, Exception):
        return exception_attribute(obj, name)
    if isinstance(obj, tuple) and hasattr(kind, "_fields"):  # our namedtuples
        if name in kind._fields:
            return getattr(obj, name)
        if name in ("_u__replace", "_u__asdict"):
            return Method(obj, name[3:], getattr(kind, name[3:]), PLAIN)
        return named_method(obj, name)
    for base in kind.__mro__[1:]:  # subclasses of listed library types (np.float64 of float, OrderedDict of dict)
        if base in ATTRIBUTES and name in ATTRIBUTES[base]:
            entry = ATTRIBUTES[base][name]
            return entry.get(obj) if type(entry) is Attr else Method(obj, name, entry.func, entry.rule)
    raise missing(obj, name)


def named_method(obj: Any, name: str) -> Any:
    """A method or property of a class X(NamedTuple) of the code."""
    from codevision_lite.sandbox.guards import NAMED_METHODS, call

    found = NAMED_METHODS.get(type(obj), {}).get(name)
    if found is None or name.startswith("__"):
        raise missing(obj, name)
    if isinstance(found, property):
        return call(found.fget, obj)
    return Fn(name, lambda *args, **kwargs: call(found, obj, *args, **kwargs))


def user_attribute(obj: Any, name: str) -> Any:
    if name.startswith("__") and name != "__name__":
        raise RefusedAttribute(f"{name} is not available in the sandbox")
    if isinstance(obj, UserMeta) and name != "__name__" and not any(name in vars(k) for k in obj.__mro__ if isinstance(k, UserMeta)):
        raise AttributeError(f"class '{obj.__name__}' has no attribute '{name}'")  # getattr would find type's own methods
    if name == "__name__" and not isinstance(obj, UserMeta):
        raise missing(obj, name)
    if isinstance(obj, Exception) and name not in vars(obj) and not any(name in vars(k) for k in type(obj).__mro__ if type(k) is UserMeta):
        return exception_attribute(obj, name)
    return getattr(obj, name)


def exception_attribute(obj: Exception, name: str) -> Any:
    if name == "args":
        return tuple(a if type(a) in SCALARS else str(a)[:200] for a in obj.args)
    raise missing(obj, name)


def missing(obj: Any, name: str) -> Exception:
    kind = obj.name if type(obj) is SafeType else type(obj).__name__
    if not name.startswith("_") and not hasattr(type(obj), name) and type(obj) is not SafeType:
        return AttributeError(f"'{kind}' object has no attribute '{name}'")
    return RefusedAttribute(f"'{name}' of {kind} is not available in the sandbox")
