"""Turning values into text, with bounds: print, str, repr, format strings, % formatting, f-strings.

Stops: field access in format strings ({0.__class__}), widths and precisions of gigabytes, the exponential text of nested lists that
share their parts. Does not translate or shorten ordinary text.
"""

from __future__ import annotations

import re
import string
from collections import deque
from typing import Any

import numpy as np

from codevision_lite.sandbox.facade import CELL_BYTES, UNACCOUNTED, session
from codevision_lite.sandbox.stops import Refused, TooLarge

MAX_NODES = 3_000_000  # cells of a nested value that may be compared, hashed or printed; a megapixel listed as tuples
MAX_SHARED = 400_000  # containers inside; what doubles at every level passes this in 19 steps
MAX_TEXT = 20_000_000  # characters of one text
MAX_WIDTH = 10_000
WIDE = re.compile(r"\d{5,}")


def check_tree(value: Any) -> int:
    """Count the cells of nested containers, shared ones as often as they are met. Raises TooLarge beyond MAX_NODES."""
    if not isinstance(value, NESTED_BASES):
        return 1
    count, stack, inside = 0, [value], 0
    while stack:
        cells = cells_of(stack.pop())
        count += len(cells) + 1
        kinds = set(map(type, cells))
        if any(issubclass(k, NESTED_BASES) for k in kinds):
            children = [c for c in cells if isinstance(c, NESTED_BASES)]
            inside += len(children)
            stack += children
        if count > MAX_NODES or inside > MAX_SHARED:
            raise TooLarge("the value is too large, nested too deeply, or shares too many parts")
    if count > 1000:
        session.budget.ticks_left -= count >> 4
    return count


# Everything whose text, comparison or hash is made of that of its parts, in one C call.
VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
NESTED_BASES = (list, tuple, dict, set, frozenset, deque, slice, BaseException, *VIEWS)
exception_args = vars(BaseException)["args"].__get__  # the real ones, whatever a class of the code calls `args`


def cells_of(item: Any) -> Any:
    """The parts of a nested value, as something with a length."""
    if isinstance(item, dict):
        return (*item, *item.values())
    if isinstance(item, slice):
        return (item.start, item.stop, item.step)
    return exception_args(item) if isinstance(item, BaseException) else tuple(item) if isinstance(item, VIEWS) else item


def account(made: Any) -> Any:
    """Account for the memory of a text or container that was made."""
    cell = CELL_BYTES.get(type(made))
    if cell is not None and len(made) > UNACCOUNTED:
        session.budget.spend_bytes(cell * len(made))
    return made


def size_of(value: Any) -> int:
    """Characters that the text of a value has at most, roughly."""
    if isinstance(value, str | bytes):
        return 4 * len(value)
    if not isinstance(value, NESTED_BASES):
        return 32
    total, stack = 16 * check_tree(value), [value]
    while stack:
        for cell in cells_of(stack.pop()):
            if isinstance(cell, str | bytes):
                total += 4 * len(cell)
            elif isinstance(cell, NESTED_BASES):
                stack.append(cell)
    return total


def to_text(value: Any) -> str:
    """str(value) with bounds."""
    if type(value) is str:
        return value
    check_printable(value)
    return str(value)


def to_repr(value: Any) -> str:
    check_printable(value)
    return repr(value)


def check_printable(value: Any) -> None:
    if isinstance(value, NESTED_BASES):
        session.budget.spend_bytes(size_of(value))
    elif isinstance(value, int) and value.bit_length() > 14_000:  # Python itself stops at 4,300 digits
        raise TooLarge("the number is too long to be printed")


def check_spec(spec: str) -> str:
    if WIDE.search(spec):
        raise TooLarge(f"format width {spec[:20]!r} is too large")
    return spec


def formatted(value: Any, conversion: int = -1, spec: str = "") -> str:
    """One f-string field."""
    if conversion == 114:
        value = to_repr(value)
    elif conversion == 115:
        value = to_text(value)
    elif conversion == 97:
        check_printable(value)
        value = ascii(value)
    if not spec:
        return account(to_text(value))
    check_spec(spec)
    check_printable(value)
    if not isinstance(value, str | int | float | complex | np.generic):
        return format(to_text(value), spec) if not hasattr(type(value), "strftime") else format(value, spec)
    return format(value, spec)


class Formatter(string.Formatter):
    """str.format without attribute access; items of lists and dicts are allowed."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        if "." in field_name or "__" in field_name:
            raise Refused("attributes can not be used in format strings in the sandbox; use an f-string")
        first, rest = _split_field(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            if is_attribute or not isinstance(value, list | tuple | dict | str | np.ndarray):
                raise Refused("attributes can not be used in format strings in the sandbox; use an f-string")
            value = value[key]
        return value, first

    def format_field(self, value: Any, format_spec: str) -> str:
        return formatted(value, -1, format_spec)

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        return value if conversion is None else formatted(value, ord(conversion))


def _split_field(name: str) -> Any:
    import _string

    return _string.formatter_field_name_split(name)


_formatter = Formatter()


def check_fields(template: str, sign: str, values: Any) -> None:
    """Fields times the longest value bounds the text."""
    longest = max((size_of(v) for v in values), default=0)
    if len(template) > 100_000 or template.count(sign) * longest > MAX_TEXT:
        raise TooLarge("the formatted text would be too long")


def format_method(template: str, *args: Any, **kwargs: Any) -> str:
    check_fields(template, "{", (*args, *kwargs.values()))
    return account(_formatter.vformat(template, args, kwargs))


def format_map(template: str, mapping: Any) -> str:
    if type(mapping) is not dict:
        raise TypeError("format_map() needs a dict")
    check_fields(template, "{", mapping.values())
    return account(_formatter.vformat(template, (), mapping))


def percent(template: Any, values: Any) -> Any:
    """template % values."""
    text = template if isinstance(template, str) else template.decode("latin-1")
    check_spec(text)
    if "*" in text:
        for value in values if isinstance(values, tuple) else (values,):
            if isinstance(value, int) and abs(value) > MAX_WIDTH:
                raise TooLarge("format width is too large")
    listed = values if isinstance(values, tuple) else values.values() if isinstance(values, dict) else (values,)
    for value in listed:
        check_printable(value)
    check_fields(text, "%", listed)
    return template % values
