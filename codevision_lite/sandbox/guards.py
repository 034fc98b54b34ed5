"""The hooks that compiled code calls: attribute access, calls, items, iteration, writing. (Statements: classes.py.)

Stops: reaching any attribute that ATTRIBUTES does not list for the object's exact type; calling anything but user functions, listed
library functions and listed types; writing to anything but plain containers, arrays, pixels and the code's own objects.
Does not stop: work inside one C call (the rules of the facades bound its size; the worker's SIGKILL ends it).
"""

from __future__ import annotations

import builtins
import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from types import FunctionType, GeneratorType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from codevision_lite.sandbox.array_trace import after_index, after_pixel, after_store
from codevision_lite.sandbox.facade import ATTRIBUTES, Attr, Box, Fn, Method, Module, SafeType, UserMeta, check_value, invoke, session
from codevision_lite.sandbox.lookup import attribute, missing
from codevision_lite.sandbox.stops import RefusedCall, TooLarge
from codevision_lite.sandbox.text import NESTED_BASES, account, check_tree

LISTS = (list, tuple, str, bytes, bytearray, dict, set, frozenset, range)
EXCEPTIONS = {
    name: kind for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and "Group" not in name
}  # fmt: skip
EXCEPTION_TYPES = set(EXCEPTIONS.values())  # facades add theirs (cv2.error, UnidentifiedImageError, ...)
MEMBERS = "_members_"  # where the code's own enums keep their members; no name of the code can be spelled like this
NAMED_METHODS: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()  # methods of class X(NamedTuple)


def call(f: Any, /, *args: Any, **kwargs: Any) -> Any:
    kind = type(f)
    if kind is FunctionType or kind is Fn or kind is Method or kind is SafeType:
        return f(*args, **kwargs)
    if kind is UserMeta:
        return f(*args, **kwargs)
    if kind is MethodType and type(f.__func__) is FunctionType and is_user(f.__self__):
        return f(*args, **kwargs)
    if type(kind) is UserMeta and "__call__" in dir(kind):
        return f(*args, **kwargs)
    if isinstance(f, type) and f in EXCEPTION_TYPES:
        return make_exception(f, args)
    if kind is Module:
        raise TypeError(f"'module' object is not callable: {f.name}")
    raise TypeError(f"'{kind.__name__}' object is not callable")


def is_user(obj: Any) -> bool:
    return isinstance(type(obj), UserMeta) or isinstance(obj, UserMeta)


def make_exception(kind: type[Exception], args: tuple[Any, ...]) -> Exception:
    for value in args:
        check_tree(value)
    if issubclass(kind, UnicodeError):  # their constructors take buffers and offsets
        return ValueError(*args)
    return kind(*args)


def callmethod(obj: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """obj.name(...) without making a bound object."""
    table = ATTRIBUTES.get(type(obj))
    if table is not None:
        entry = table.get(name)
        if entry is None:
            raise missing(obj, name)
        if type(entry) is not Attr:
            return invoke(entry.func, entry.rule, (obj, *args), kwargs)
    if type(obj) is Super:
        return call(super_method(obj, name), *args, **kwargs)
    return call(attribute(obj, name), *args, **kwargs)


class Super(Box):
    """super() inside a method: the methods of the code's own base classes."""

    __slots__ = ("cls", "obj")

    def __init__(self, cls: Any, obj: Any) -> None:
        self.cls, self.obj = cls, obj


def super_method(proxy: Super, name: str) -> Any:
    if not (isinstance(proxy.cls, UserMeta) and is_user(proxy.obj)):
        raise RefusedCall("super() only works in methods of your own classes")
    if name.startswith("__") and name != "__init__":
        raise missing(proxy.obj, name)
    for base in type(proxy.obj).__mro__[type(proxy.obj).__mro__.index(proxy.cls) + 1 : -1]:
        if isinstance(base, UserMeta) and name in vars(base):
            return getattr(super(proxy.cls, proxy.obj), name)
    if name == "__init__":
        return (lambda *args: Exception.__init__(proxy.obj, *args)) if isinstance(proxy.obj, Exception) else (lambda: None)
    raise AttributeError(f"'super' object has no attribute '{name}'")


def getitem(obj: Any, key: Any) -> Any:
    kind = type(obj)
    if kind is np.ndarray:
        if type(key) not in (int, slice, tuple):
            check_value(key, False)
        before_index(obj, key)
        result = obj[key]
        if type(result) is not np.ndarray or result.size <= 4:
            after_pixel(obj, key)
        return after_index(obj, key, result) if type(result) is np.ndarray else result
    if kind in LISTS or kind in READABLE or isinstance(obj, tuple):
        if kind is dict or kind in READABLE:
            check_tree(key)
        return obj[key] if type(key) is not slice else account(obj[key])
    if isinstance(obj, Box) and hasattr(kind, "read_item"):
        return obj.read_item(key)
    if type(kind) is UserMeta:
        return obj[key]
    if kind is SafeType or kind is Typing:  # list[int], Tuple[int, int]
        return obj
    if kind is UserMeta and MEMBERS in vars(obj):
        check_tree(key)
        return vars(obj)[MEMBERS][key]
    raise TypeError(f"'{kind.__name__}' object is not subscriptable")


class Typing:
    """Stands for everything from `typing`: subscripting and calling give it back."""

    def __repr__(self) -> str:
        return "<typing>"


READABLE: set[type] = {deque, OrderedDict, memoryview} - {memoryview}
WRITABLE: set[type] = {deque, OrderedDict}


def before_index(obj: np.ndarray, key: Any) -> None:
    """Account for what fancy indexing allocates; refuse fields of structured arrays."""
    if type(key) is int or type(key) is slice:
        return
    used, shapes, whole = 0, [], 1.0  # axes of obj, shapes of the index arrays, cells along the axes that slices pick
    for part in key if type(key) is tuple else (key,):
        if isinstance(part, str):
            raise RefusedCall("arrays with named fields are not available in the sandbox")
        if isinstance(part, np.ndarray) and part.dtype == np.bool_:
            shapes, used = [*shapes, (part.size,)], used + part.ndim
        elif isinstance(part, np.ndarray | list):
            shapes, used = [*shapes, np.shape(part)], used + 1
        elif isinstance(part, slice) and used < obj.ndim:
            whole, used = whole * obj.shape[used], used + 1
        elif part is not None and part is not Ellipsis:
            used += 1
    if shapes:  # index arrays are broadcast against each other
        try:
            picked = float(math.prod(np.broadcast_shapes(*shapes)))
        except ValueError:  # numpy says what is wrong
            return
        cells = picked * whole * math.prod(map(float, obj.shape[used:]))
        if cells > 10_000:
            session.budget.spend_bytes(cells * obj.dtype.itemsize, "this selection")


class Writer:
    """What `obj[key] = value` and `obj.name = value` are compiled to write through."""

    __slots__ = ("target",)

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "target", target)

    def __setitem__(self, key: Any, value: Any) -> None:
        setitem(object.__getattribute__(self, "target"), key, value)

    def __delitem__(self, key: Any) -> None:
        target = object.__getattribute__(self, "target")
        if type(target) not in (list, dict, bytearray) and type(target) not in WRITABLE:
            raise TypeError(f"'{type(target).__name__}' object doesn't support item deletion")
        check_tree(key)
        del target[key]

    def __setattr__(self, name: str, value: Any) -> None:
        setattribute(object.__getattribute__(self, "target"), name, value)

    def __delattr__(self, name: str) -> None:
        target = object.__getattribute__(self, "target")
        if not is_user(target) or name.startswith("__"):
            raise RefusedCall(f"attributes of {type(target).__name__} can not be deleted in the sandbox")
        delattr(target, name)


def setattribute(obj: Any, name: str, value: Any) -> None:
    if not is_user(obj) or name.startswith("__"):
        raise RefusedCall(f"attribute '{name}' of {type(obj).__name__} can not be set in the sandbox")
    setattr(obj, name, value)


def setitem(obj: Any, key: Any, value: Any) -> None:
    kind = type(obj)
    if kind is np.ndarray:
        if type(value) not in (int, float):
            check_value(value, False)
        check_value(key, False)
        if isinstance(key, str):
            raise RefusedCall("arrays with named fields are not available in the sandbox")
        if isinstance(value, list | tuple):
            check_tree(value)
        obj[key] = value
        after_store(obj, key, value)
    elif kind is dict or kind in WRITABLE:
        check_tree(key)
        obj[key] = value
    elif kind is list or kind is bytearray:
        if type(key) is slice:
            value = account(list(iterate(value))) if kind is list else value
            session.budget.spend_bytes(8 * len(obj))
        obj[key] = value
    elif isinstance(obj, Box) and hasattr(kind, "write_item"):
        check_value(value, False)
        obj.write_item(key, value)
    elif type(kind) is UserMeta:
        obj[key] = value
    else:
        raise TypeError(f"'{kind.__name__}' object does not support item assignment")


# -- iteration -------------------------------------------------------------------------------------------------------------


def ticking(iterator: Iterator[Any]) -> Iterator[Any]:
    """The only kind of lazy iterator that code ever holds: it looks at the clock, whoever drives it."""
    tick = session.budget.tick
    for item in iterator:
        tick()
        yield item


class BigRange(Box):
    """A range too long to be handed to C code: iterating it looks at the clock."""

    __slots__ = ("real",)

    def __init__(self, real: range) -> None:
        self.real = real

    def __iter__(self) -> Iterator[int]:
        return ticking(iter(self.real))

    def __len__(self) -> int:
        return len(self.real)

    def __contains__(self, value: Any) -> bool:
        return value in self.real if type(value) is int else False

    def __repr__(self) -> str:
        return repr(self.real)

    def read_item(self, key: Any) -> Any:
        item = self.real[key]
        return item if isinstance(item, int) else make_range(item)


def make_range(*args: Any) -> Any:
    real = args[0] if len(args) == 1 and isinstance(args[0], range) else range(*args)
    return real if abs(real.stop - real.start) // abs(real.step) <= 2_000_000 else BigRange(real)


def iterate(obj: Any) -> Any:
    """obj, where iterating it is known to be safe. Raises TypeError."""
    kind = type(obj)
    if kind in LISTS or kind is GeneratorType or kind is np.ndarray or kind in ITERABLE or kind is BigRange:
        return obj
    if type(kind) is UserMeta:
        return ticking(iter(obj))
    if kind is UserMeta and MEMBERS in vars(obj):
        return list(vars(obj)[MEMBERS].values())
    if isinstance(obj, Box) and hasattr(kind, "read_iter"):
        return obj.read_iter()
    if isinstance(obj, LISTS) or any(base in ITERABLE for base in kind.__mro__):
        return obj
    raise TypeError(f"'{kind.__name__}' object is not iterable")


HASHED = {str, bytes, range, dict, set, frozenset, OrderedDict}  # `in` compares with few elements
ITERABLE: set[type] = {deque, OrderedDict, type({}.keys()), type({}.values()), type({}.items())}


def star(obj: Any) -> Any:
    obj = iterate(obj)
    if hasattr(obj, "__len__"):
        session.budget.spend_bytes((40 if type(obj) is range else 8) * len(obj))
    return obj


def star_kwargs(obj: Any) -> Any:
    if type(obj) not in (dict, OrderedDict):
        raise TypeError("argument after ** must be a dict")
    for name in obj:
        if isinstance(name, str) and name.startswith("_"):
            raise RefusedCall(f"argument {name} is not available in the sandbox")
    return obj


def key_of(obj: Any) -> Any:
    if isinstance(obj, NESTED_BASES):
        check_tree(obj)  # hashing nested tuples that share their parts takes exponential time in one C call
    return obj


def keyed(key: Any) -> Any:
    """A key function of the code, for sorting and the like: what it returns is compared by C code."""
    return None if key is None else lambda value: key_of(call(key, value))


def contains(item: Any, box: Any) -> bool:
    kind = type(box)
    if kind is np.ndarray:
        check_value(item, False)
        return item in box
    if kind in LISTS or kind in ITERABLE:
        if isinstance(item, NESTED_BASES):
            check_tree(item)
            if kind not in HASHED:
                check_tree(box)
        return item in box
    if kind is BigRange or type(kind) is UserMeta:
        return item in box
    return item in list(iterate(box)) if kind is not GeneratorType else any(item is v or item == v for v in box)


def unpack(obj: Any) -> Any:
    obj = iterate(obj)
    if type(obj) is range and len(obj) > 10_000:
        raise TooLarge("too many values to unpack")
    return account(obj)  # `a, *b = obj` makes a list of it
