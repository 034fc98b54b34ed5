"""Plain values (as YAML gives them) to typed dataclasses: what config.py builds recipes with.

Every problem is raised as Problem with the dotted key; config.py adds the file and the line.
"""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from codevision_lite.errors import UserError

R = TypeVar("R")


@dataclass(frozen=True)
class FromCommandLine:
    """The text of an override's value: how it reads depends on the type that is wanted."""

    text: str
    override: str  # the whole key=value, for messages


class Problem(Exception):
    """A value that doesn't fit: the dotted `key`, and the `override` (the whole key=value) if the command line gave it."""

    def __init__(self, key: str, message: str, override: str = ""):
        super().__init__(f"{key}: {message}" if key and not override else message)
        self.key = key
        self.override = override


def build(cls: type[R], tree: dict[str, Any], key: str = "") -> R:
    """An instance of the dataclass `cls` from a mapping; what the mapping leaves out keeps its default."""
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    for name in tree:
        if name not in names:
            raise Problem(_dotted(key, str(name)), f"unknown key; {_nearest_key(str(name), cls)}")
    values = {name: convert(value, hints[name], _dotted(key, name)) for name, value in tree.items()}
    missing = [f.name for f in fields(cls) if f.name not in values and _is_required(f)]
    if missing:
        raise Problem(_dotted(key, missing[0]), f"missing; it has no default ({_describe(hints[missing[0]])})")
    try:
        return cls(**values)
    except (ValueError, UserError) as e:  # its own checks
        raise Problem(key, str(e)) from e


def convert(value: Any, kind: Any, key: str) -> Any:
    """`value` as the type `kind`, or Problem."""
    if isinstance(value, FromCommandLine):
        try:
            return convert(_read_text(value.text, kind), kind, key)
        except Problem as e:
            raise Problem(key, str(e).removeprefix(f"{key}: "), value.override) from e
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, key)
    if is_dataclass(kind):
        if value is not None and not isinstance(value, dict):
            raise _wrong(value, kind, key)
        return build(kind, value or {}, key)  # None: a section whose every line is commented out
    if origin is tuple:
        return _convert_tuple(value, kind, key)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(value, kind, key)
        return {convert(k, arguments[0], key): convert(v, arguments[1], _dotted(key, str(k))) for k, v in value.items()}
    if origin is Literal:
        if any(value == a and type(value) is type(a) for a in arguments):
            return value
        raise Problem(key, f"{_describe(kind)} is expected, got {value!r}; {_nearest(str(value), list(map(str, arguments)))}")
    return _convert_scalar(value, kind, key)


def set_override(tree: dict[str, Any], override: str, cls: type) -> None:
    """Put one `a.b.c=value` into the tree. A mapping that the tree doesn't set starts from its default."""
    dotted, sign, text = override.partition("=")
    names = dotted.strip().split(".")
    if not sign or not all(names):
        raise Problem("", "an override is key=value, such as sft.steps=3", override)
    kind: Any = cls
    for i, name in enumerate(names):
        key = ".".join(names[: i + 1])
        default: Any = MISSING
        if is_dataclass(kind):
            field = {f.name: f for f in fields(kind)}.get(name)
            if field is None:
                raise Problem(key, f"unknown key {name}; {_nearest_key(name, kind)}", override)
            default, kind = _default(field), _container(get_type_hints(kind)[name])
        elif get_origin(kind) is dict:
            kind = _container(get_args(kind)[1])
        else:
            raise Problem(key, f"{'.'.join(names[:i])} is {_describe(kind)} and has no keys", override)
        if i == len(names) - 1:
            tree[name] = FromCommandLine(text.strip(), override)
        else:
            if not isinstance(tree.get(name), dict):  # a missing or empty section; a dict's default is completed, not replaced
                tree[name] = dict(default) if isinstance(default, dict) and name not in tree else {}
            tree = tree[name]


def _convert_union(value: Any, kinds: tuple[Any, ...], key: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    problems = []
    others = [k for k in kinds if k is not types.NoneType]
    for kind in others:
        try:
            return convert(value, kind, key)
        except Problem as e:
            problems.append(e)
    raise problems[0] if len(others) == 1 else _wrong(value, Union[kinds], key)  # noqa: UP007 - the kinds are known only here


def _convert_tuple(value: Any, kind: Any, key: str) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(value, list | tuple):
        raise _wrong(value, kind, key)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise Problem(key, f"{_describe(kind)} is expected, got {len(value)} values")
    return tuple(convert(v, k, f"{key}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True)))


def _convert_scalar(value: Any, kind: Any, key: str) -> Any:
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            value = float(value)  # YAML reads 1e-4, which has no dot, as text
        except (ValueError, OverflowError) as e:
            raise _wrong(value, kind, key) from e
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise _wrong(value, kind, key)
    return value


def _read_text(text: str, kind: Any) -> Any:
    """The text of an override as YAML; left as it is where text is wanted, and `a,b` is a list where one is wanted."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if types.NoneType in kinds and text in ("null", "~", "None", "none", ""):
        return None
    if any(k in (str, Path) or (get_origin(k) is Literal and text in get_args(k)) for k in kinds):
        return text
    if any(get_origin(k) is tuple for k in kinds) and not text.startswith("["):
        text = f"[{text}]"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # the type check says what was expected


def _container(kind: Any) -> Any:
    """The dataclass or dict in `X | None`, for a path that leads into it; anything else as it is."""
    inside = [k for k in get_args(kind) if is_dataclass(k) or get_origin(k) is dict]
    return inside[0] if get_origin(kind) in (Union, types.UnionType) and len(inside) == 1 else kind


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _wrong(value: Any, kind: Any, key: str) -> Problem:
    return Problem(key, f"{_describe(kind)} is expected, got {value!r}" + (" (text)" if isinstance(value, str) else ""))


def _describe(kind: Any) -> str:
    """The type in a user's words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(k) for k in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each value {_describe(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)} values"
    if origin is dict or is_dataclass(kind):
        return "a section (key: value lines)"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path", types.NoneType: "null"}
    return words.get(kind, str(kind))


def _nearest(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"


def _nearest_key(name: str, cls: type) -> str:
    """The name in `cls` that was probably meant; or the same name in one of its sections, where the section was forgotten."""
    hints = get_type_hints(cls)
    sections = [(n, _container(k)) for n, k in hints.items() if is_dataclass(_container(k))]
    inside = [f"{n}.{name}" for n, k in sections if name in {f.name for f in fields(k)}]
    return f"did you mean {' or '.join(inside)}?" if inside else _nearest(name, list(hints))


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
