"""What classes of the code are built with: dataclasses, enum, NamedTuple, abc, total_ordering, cached_property, contextlib.

Stops: bases and decorators that would reach a library class; every class that comes out is a UserMeta class or a listed type.
Does not have metaclasses, __slots__, IntEnum or inheritance from library types.
"""

from __future__ import annotations

from types import FunctionType, GeneratorType
from typing import Any

from codevision_lite.sandbox.builtin_types import TYPES
from codevision_lite.sandbox.classes import Special, caught
from codevision_lite.sandbox.facade import ATTRIBUTES, Box, Fn, Meth, Rule, UserMeta, session
from codevision_lite.sandbox.guards import MEMBERS, NAMED_METHODS, Typing, call, is_user
from codevision_lite.sandbox.stdlib_iter import ANY, functions, make_namedtuple
from codevision_lite.sandbox.stops import RefusedCall
from codevision_lite.sandbox.text import check_tree, to_repr

ABSENT = object()
FIELDS = "_fields_"  # no name of the code can be spelled like this


# -- dataclasses -----------------------------------------------------------------------------------------------------------


class Field(Box):
    """dataclasses.field(...)."""

    __slots__ = ("default", "factory", "init", "shown")

    def __init__(self, default: Any = ABSENT, factory: Any = None, init: bool = True, shown: bool = True) -> None:
        self.default, self.factory, self.init, self.shown = default, factory, init, shown

    def value(self) -> Any:
        return call(self.factory) if self.factory is not None else self.default


def field(*, default: Any = ABSENT, default_factory: Any = None, init: bool = True, repr: bool = True, **options: Any) -> Field:
    return Field(default, default_factory, bool(init), bool(repr))


def dataclass(cls: Any = None, **options: Any) -> Any:
    """@dataclass for the code's own classes: __init__, __repr__, __eq__ and, where asked for, order and frozen."""
    if cls is None:
        return Fn("dataclass", lambda c: dataclass(c, **options), ANY)
    if type(cls) is not UserMeta:
        raise RefusedCall("dataclass needs a class of your own")
    fields = fields_of(cls)
    setattr(cls, FIELDS, fields)
    for name, one in fields.items():
        if one.factory is None and one.default is not ABSENT:
            setattr(cls, name, one.default)
        elif isinstance(vars(cls).get(name), Field):
            delattr(cls, name)
    own = vars(cls)
    if "__init__" not in own:
        cls.__init__ = initialiser(cls, fields, bool(options.get("frozen")))
    if "__repr__" not in own:
        shown = {n: f for n, f in fields.items() if f.shown}
        cls.__repr__ = lambda self: f"{cls.__name__}({', '.join(named(shown, cells(self, shown)))})"
    if "__eq__" not in own:
        cls.__eq__ = lambda self, other: type(self) is type(other) and cells(self, fields) == cells(other, fields)
    if options.get("order"):
        cls.__lt__ = lambda self, other: cells(self, fields) < cells(other, fields)
        total_ordering(cls)
    if options.get("frozen"):
        cls.__setattr__ = refuse_assignment
        cls.__hash__ = lambda self: hash(cells(self, fields))
    return cls


def named(names: Any, values: Any) -> list[str]:
    return [f"{n}={to_repr(v)}" for n, v in zip(names, values, strict=True)]


def fields_of(cls: Any) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for kind in reversed(cls.__mro__[:-1]):
        fields |= vars(kind).get(FIELDS, {})
        for name in vars(kind).get("__annotations__", {}):
            given = vars(kind).get(name, ABSENT)
            fields[name] = given if isinstance(given, Field) else Field(given)
    return fields


def cells(obj: Any, fields: dict[str, Field]) -> tuple[Any, ...]:
    """The values of the fields, known to be safe to compare, hash and print."""
    session.budget.tick()
    values = tuple(getattr(obj, n) for n in fields)
    check_tree(values)
    return values


def initialiser(cls: Any, fields: dict[str, Field], frozen: bool) -> Any:
    names = [n for n, f in fields.items() if f.init]

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__}() takes {len(names)} arguments but {len(args)} were given")
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise TypeError(f"{cls.__name__}() got an unexpected argument '{name}'")
            values[name] = value
        for name, one in fields.items():
            value = values.get(name, ABSENT)
            if value is ABSENT:
                value = one.value()
            if value is ABSENT and one.init:
                raise TypeError(f"{cls.__name__}() misses the argument '{name}'")
            if value is not ABSENT:
                object.__setattr__(self, name, value)
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    return init


def refuse_assignment(self: Any, name: str, value: Any) -> None:
    raise AttributeError(f"cannot assign to field '{name}'")


def names_of(obj: Any) -> dict[str, Field]:
    found = getattr(obj if type(obj) is UserMeta else type(obj), FIELDS, None) if is_user(obj) else None
    if found is None:
        raise TypeError("a dataclass is needed")
    return found


def asdict(obj: Any) -> dict[str, Any]:
    return {n: plain(getattr(obj, n), asdict) for n in names_of(obj)}


def astuple(obj: Any) -> tuple[Any, ...]:
    return tuple(plain(getattr(obj, n), astuple) for n in names_of(obj))


def plain(value: Any, convert: Any) -> Any:
    session.budget.tick()
    if is_user(value) and hasattr(type(value), FIELDS):
        return convert(value)
    if type(value) in (list, tuple, dict):
        check_tree(value)
        if type(value) is dict:
            return {k: plain(v, convert) for k, v in value.items()}
        return type(value)(plain(v, convert) for v in value)
    return value


def replace(obj: Any, /, **changes: Any) -> Any:
    return call(type(obj), **{n: getattr(obj, n) for n, f in names_of(obj).items() if f.init} | changes)


def total_ordering(cls: Any) -> Any:
    if type(cls) is not UserMeta or "__lt__" not in vars(cls):
        raise RefusedCall("total_ordering needs a class of your own with __lt__")
    ordering = {
        "__gt__": lambda self, other: not (self < other or self == other),
        "__le__": lambda self, other: self < other or self == other,
        "__ge__": lambda self, other: not self < other,
    }
    for name, f in ordering.items():
        if name not in vars(cls):
            setattr(cls, name, f)
    return cls


def cached_property(f: Any) -> Any:
    if not isinstance(f, FunctionType):
        raise TypeError("cached_property decorates a method")
    key = f"_cached_{f.__name__}"

    def get(self: Any) -> Any:
        if key not in vars(self):
            vars(self)[key] = call(f, self)
        return vars(self)[key]

    return property(get)


# -- enum, NamedTuple, SimpleNamespace ---------------------------------------------------------------------------------------


AUTO = Typing()  # enum.auto(): a value of its own kind, replaced when the class is made


def make_enum(name: str, namespace: dict[str, Any]) -> Any:
    """class X(Enum): every constant becomes a member with .name and .value; X(value), X['NAME'] and iteration find it."""
    kept = (FunctionType, staticmethod, classmethod, property)
    constants = {k: v for k, v in namespace.items() if not k.startswith("_") and not isinstance(v, kept)}
    rest = {k: v for k, v in namespace.items() if k not in constants}
    members: dict[str, Any] = {}

    def find(cls: Any, value: Any) -> Any:
        check_tree(value)
        for member in members.values():
            if type(member.value) is type(value) and member.value == value:
                return member
        raise ValueError(f"{to_repr(value)[:100]} is not a valid {name}")

    looks = {"__repr__": lambda self: f"<{name}.{self.name}: {to_repr(self.value)}>", "__str__": lambda self: f"{name}.{self.name}"}
    cls = UserMeta(name, (), {**looks, **rest, MEMBERS: members, "__new__": find})
    for key, value in constants.items():
        member = object.__new__(cls)
        member.name, member.value = key, len(members) + 1 if value is AUTO else value
        members[key] = member
        setattr(cls, key, member)
    return cls


def make_named(name: str, namespace: dict[str, Any]) -> Any:
    """class X(NamedTuple): a namedtuple of the annotated names, with the methods and properties of the body."""
    fields = list(namespace.get("__annotations__", {}))
    defaults = [namespace[f] for f in fields if f in namespace]
    made = make_namedtuple(name, fields, defaults=defaults)
    NAMED_METHODS[made.real] = {k: v for k, v in namespace.items() if isinstance(v, FunctionType | property) and k not in fields}
    return made


def make_simple_namespace(**values: Any) -> Any:
    """A new class each time: nothing that code may write to is shared between runs."""
    def text(self: Any) -> str:
        session.budget.tick()
        return f"namespace({', '.join(named(vars(self), vars(self).values()))})"

    made = UserMeta("SimpleNamespace", (), {"__repr__": text, "__module__": "code"})()
    vars(made).update(values)
    return made


# -- contextlib ------------------------------------------------------------------------------------------------------------


class Managed(Box):
    """What a @contextmanager function returns."""

    __slots__ = ("steps",)
    entered = True

    def __init__(self, steps: Any) -> None:
        if type(steps) is not GeneratorType:
            raise TypeError("contextmanager needs a function that yields once")
        self.steps = steps

    def __enter__(self) -> Any:
        return next(self.steps)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        try:
            next(self.steps) if error is None else self.steps.throw(error)
        except StopIteration:
            return error is not None
        except Exception as e:
            if e is error:
                return False
            raise
        raise RuntimeError("the generator didn't stop")


class Suppress(Box):
    """contextlib.suppress(*kinds)."""

    __slots__ = ("kinds",)
    entered = True

    def __init__(self, *kinds: Any) -> None:
        self.kinds = caught(kinds)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return isinstance(error, self.kinds)


class Context(Box):
    """contextlib.nullcontext(value)."""

    __slots__ = ("value",)
    entered = True

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __enter__(self) -> Any:
        return self.value

    def __exit__(self, *error: Any) -> bool:
        return False


def context_manager(f: Any) -> Fn:
    return Fn("contextmanager", lambda *args, **kwargs: Managed(call(f, *args, **kwargs)), ANY)


def modules() -> dict[str, dict[str, Any]]:
    """Members of the modules dataclasses, enum, abc, contextlib and types; `typing` and `functools` take theirs from here."""
    ATTRIBUTES[property] = {  # only inside a class body is there such an object
        "setter": Meth(lambda p, f: property(p.fget, f, p.fdel), Rule(any_value=True)),
        "deleter": Meth(lambda p, f: property(p.fget, p.fset, f), Rule(any_value=True)),
    }
    plain_base = Special("ABC")
    same = lambda f: f  # noqa: E731
    table = {"dataclass": dataclass, "field": field, "asdict": asdict, "astuple": astuple, "replace": replace,
             "is_dataclass": lambda o: is_user(o) and hasattr(o, FIELDS)}  # fmt: skip
    return {
        "dataclasses": functions("dataclasses", table),
        "enum": {"Enum": Special("Enum", make_enum), "unique": Fn("unique", same, ANY), "auto": Fn("auto", lambda: AUTO, ANY)},
        "abc": {"ABC": plain_base, "abstractmethod": Fn("abstractmethod", same, ANY)},
        "contextlib": functions("contextlib", {"contextmanager": context_manager, "suppress": Suppress, "nullcontext": Context}),
        "types": {"SimpleNamespace": Fn("SimpleNamespace", make_simple_namespace, ANY)},
    }


TYPING_BASES = {
    "NamedTuple": Special("NamedTuple", make_named), "Protocol": Special("Protocol"), "Generic": Special("Generic"),
    "TypedDict": Special("TypedDict", lambda name, namespace: TYPES["dict"]),
}  # fmt: skip
