"""The operator hooks: arithmetic, comparison and in-place forms, with size checks before and traces after.

Stops: integers and sequences that grow without bound, broadcasts that allocate more than the limit, user objects inside array
arithmetic. Does not stop slow but bounded arithmetic; the clock is looked at between operations.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox.array_trace import after_arithmetic, after_matmul
from codevision_lite.sandbox.facade import check_value, session
from codevision_lite.sandbox.guards import getitem, is_user, iterate, setattribute, setitem
from codevision_lite.sandbox.lookup import attribute
from codevision_lite.sandbox.stops import RefusedCall, TooLarge
from codevision_lite.sandbox.text import NESTED_BASES, VIEWS, check_tree, percent

BINARY = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod,
    "**": operator.pow, "<<": operator.lshift, ">>": operator.rshift, "|": operator.or_, "^": operator.xor, "&": operator.and_,
    "@": operator.matmul,
}  # fmt: skip
INPLACE = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "//=": operator.ifloordiv,
    "%=": operator.imod, "**=": operator.ipow, "<<=": operator.ilshift, ">>=": operator.irshift, "|=": operator.ior,
    "^=": operator.ixor, "&=": operator.iand, "@=": operator.imatmul,
}  # fmt: skip
COMPARE = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
UNARY = {"-": operator.neg, "+": operator.pos, "~": operator.invert}
NUMBERS = frozenset({int, float, bool, complex})
GROWING = frozenset({"*", "**", "<<", "*=", "**=", "<<="})
STEPS_PER_SECOND = 1e10  # costs are given in steps of 0.1 ns of one core of 2024
MAX_BITS = 100_000
MAX_LENGTH = 10_000_000
SEQUENCES = (str, bytes, bytearray, list, tuple, deque)
HASHING = (dict, *VIEWS)
CONTAINERS = (list, tuple, set, frozenset, deque, *HASHING)


def binary(op: str, a: Any, b: Any) -> Any:
    if type(a) in NUMBERS and type(b) in NUMBERS:
        if op in GROWING:
            check_growth(op, a, b)
        return BINARY[op](a, b)
    check_operands(op, a, b)
    if op == "%" and isinstance(a, str | bytes):
        return percent(a, b)
    result = BINARY[op](a, b)
    return trace_result(op, a, b, result)


def trace_result(op: str, a: Any, b: Any, result: Any) -> Any:
    if type(result) is np.ndarray:
        if result.dtype.hasobject:
            raise RefusedCall("arrays of Python objects are not available in the sandbox")
        if op[0] == "@":
            after_matmul(a, b, result)
        else:
            after_arithmetic(op, (a, b), result)
    return result


def inplace(op: str, a: Any, b: Any) -> Any:
    if type(a) in NUMBERS and type(b) in NUMBERS:
        if op in GROWING:
            check_growth(op, a, b)
        return INPLACE[op](a, b)
    check_operands(op[:-1], a, b)
    if op == "%=" and isinstance(a, str | bytes):
        return percent(a, b)
    if type(a) is list and op == "+=":
        b = list(iterate(b))
        session.budget.spend_bytes(8 * (len(a) + len(b)))
    result = INPLACE[op](a, b)
    return trace_result(op[:-1], a, b, result)


def inplace_item(op: str, obj: Any, key: Any, value: Any) -> None:
    setitem(obj, key, inplace(op, getitem(obj, key), value))


def inplace_attr(op: str, obj: Any, name: str, value: Any) -> None:
    setattribute(obj, name, inplace(op, attribute(obj, name), value))


def check_growth(op: str, a: Any, b: Any) -> None:
    """Integers: the number of bits of the result."""
    if type(a) is float or type(b) is float or type(a) is complex or type(b) is complex:
        return
    a, b = abs(int(a)), int(b)
    if op[0:2] == "**":
        bits = a.bit_length() * max(b, 0) if a > 1 else 0
    elif op[0] == "*":
        bits = a.bit_length() + abs(b).bit_length()
    else:
        bits = a.bit_length() + max(b, 0)
    if bits > MAX_BITS:
        raise TooLarge("the number would be too large")


def check_operands(op: str, a: Any, b: Any) -> None:
    """Sizes and kinds of operands that are not both plain numbers."""
    budget = session.budget
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        check_value(a, False)
        check_value(b, False)
        check_broadcast(op, a, b)
        budget.ticks_left -= 8
        return
    if isinstance(a, Image.Image) or isinstance(b, Image.Image):
        raise TypeError("pictures have no arithmetic; use np.array(image) or ImageChops")
    if is_user(a) or is_user(b):
        return
    if isinstance(a, Fraction) or isinstance(b, Fraction):
        check_fraction(op, a, b)
        return
    if op == "*" and (isinstance(a, SEQUENCES) or isinstance(b, SEQUENCES)):
        length = len(a) * max(0, int(b)) if isinstance(a, SEQUENCES) else len(b) * max(0, int(a))
        if length > MAX_LENGTH:
            raise TooLarge(f"a sequence of {length:,} elements is too long")
        budget.spend_bytes(8 * length)
    elif isinstance(a, SEQUENCES) and isinstance(b, SEQUENCES) and op == "+":
        if len(a) + len(b) > MAX_LENGTH:
            raise TooLarge(f"a sequence of {len(a) + len(b):,} elements is too long")
        budget.spend_bytes((1 if isinstance(a, str | bytes) else 8) * (len(a) + len(b)))
    elif isinstance(a, CONTAINERS) and isinstance(b, CONTAINERS):
        if isinstance(a, HASHING) or isinstance(b, HASHING):  # items are hashed, counts are compared
            check_tree(a)
            check_tree(b)
        budget.spend_bytes(32 * (len(a) + len(b)))
    elif op in GROWING and isinstance(a, int) and isinstance(b, int):
        check_growth(op, a, b)


def check_fraction(op: str, a: Any, b: Any) -> None:
    bits = sum(v.numerator.bit_length() + v.denominator.bit_length() for v in (a, b) if isinstance(v, Fraction | int))
    if bits > 10_000 or (op == "**" and not (isinstance(b, int | float) and abs(b) <= 1000)):
        raise TooLarge("the fraction would be too large")


def check_broadcast(op: str, a: Any, b: Any) -> None:
    shape_a, shape_b = np.shape(a) if not isinstance(a, np.ndarray) else a.shape, np.shape(b) if not isinstance(b, np.ndarray) else b.shape
    if op == "@":
        rows, inner, cols = (
            (shape_a[-2] if len(shape_a) > 1 else 1),
            shape_a[-1] if shape_a else 1,
            (shape_b[-1] if len(shape_b) > 1 else 1),
        )
        try:
            batch = math.prod(map(float, np.broadcast_shapes(shape_a[:-2], shape_b[:-2])))
        except ValueError:
            return  # numpy says what is wrong
        session.budget.spend_bytes(8.0 * batch * rows * cols, "this array")
        spend_work(batch * rows * inner * cols, "this matrix product")
        return
    if shape_a == shape_b:
        cells = float(np.prod(shape_a, dtype=float))
    else:
        try:
            cells = float(np.prod(np.broadcast_shapes(shape_a, shape_b), dtype=float))
        except ValueError:
            return  # numpy says what is wrong
    if cells > 1_000_000:
        session.budget.spend_bytes(8.0 * cells, "this array")
        if op == "**":
            spend_work(1000.0 * cells, "this power")


def spend_work(steps: float, what: str) -> None:
    """Refuse a native call that would not end in the time that is left; `steps` of 0.1 ns, estimated."""
    budget = session.budget
    if steps > STEPS_PER_SECOND * max(0.0, budget.seconds_left()):
        needed = steps / STEPS_PER_SECOND
        raise TooLarge(f"{what} is too large: it would take about {needed:.2g} s; use smaller pictures and arrays")
    budget.ticks_left -= int(steps / 1e5)


def compare(op: str, a: Any, b: Any) -> Any:
    if type(a) in NUMBERS and type(b) in NUMBERS:
        return COMPARE[op](a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        check_operands(op, a, b)
        result = COMPARE[op](a, b)
        if type(result) is np.ndarray:
            after_arithmetic(op, (a, b), result)
        return result
    if isinstance(a, NESTED_BASES) or isinstance(b, NESTED_BASES):
        check_tree(a)
        check_tree(b)
    return COMPARE[op](a, b)


def unary(op: str, a: Any) -> Any:
    if type(a) in NUMBERS:
        return UNARY[op](a)
    if isinstance(a, np.ndarray):
        session.budget.spend_bytes(a.nbytes)
    elif isinstance(a, Image.Image):
        raise TypeError(f"bad operand type for unary {op}: 'Image'; use ImageOps.invert or np.array(image)")
    result = UNARY[op](a)
    if type(result) is np.ndarray:
        after_arithmetic(op, (a,), result)
    return result


def chained(a: Any) -> Any:
    """An operand of a chained comparison: arrays can not stand in one (their truth value is ambiguous anyway)."""
    if isinstance(a, np.ndarray) and a.size != 1:
        raise ValueError("The truth value of an array with more than one element is ambiguous. Use & between two comparisons")
    check_tree(a)
    return a
