"""numpy arrays that are made: dtypes, sizes, creation, conversion from and to pictures, each with its size known before the call.

Does not hold functions of arrays (numpy_join.py, numpy_facade.py) nor the traces (numpy_trace.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox.checks import argument, numbers_in
from codevision_lite.sandbox.facade import Box, SafeType, session
from codevision_lite.sandbox.guards import BigRange
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import RefusedCall, TooLarge
from codevision_lite.sandbox.text import check_tree

STEPS_PER_CELL = 300.0  # of the slower elementwise functions (power, floor_divide, sin), in 0.1 ns; measured


def check_dtype(dtype: Any) -> int:
    """The item size in bytes. Raises RefusedCall for objects, fields and long strings."""
    if dtype is None:
        return 8
    if isinstance(dtype, SafeType):
        dtype = dtype.real
    if isinstance(dtype, list | tuple | dict) or (isinstance(dtype, str) and len(dtype) > 12):
        raise RefusedCall("only plain number types are available as dtype in the sandbox")
    real = np.dtype(dtype)
    if real.hasobject or real.names is not None or real.itemsize > 256 or real.kind in "VmM":
        raise RefusedCall(f"dtype {str(real)[:20]} is not available in the sandbox; use number types such as np.uint8")
    return real.itemsize


def make_dtype(value: Any) -> np.dtype:
    check_dtype(value)
    return np.dtype(value)


class NumberInfo(Box):
    __slots__ = ("info",)

    def __init__(self, info: Any) -> None:
        self.info = info


def iinfo(kind: Any) -> NumberInfo:
    return NumberInfo(np.iinfo(kind))


def finfo(kind: Any = float) -> NumberInfo:
    return NumberInfo(np.finfo(kind))


def cells(shape: Any) -> float:
    shape = shape if isinstance(shape, list | tuple | np.ndarray) else (shape,)
    if len(shape) > 32:
        raise TooLarge("too many dimensions")
    return math.prod(max(0.0, float(n)) for n in shape)


def spend_cells(shape: Any, dtype: Any = None) -> None:
    session.budget.spend_bytes(cells(shape) * check_dtype(dtype), "this array")


def elementwise_check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Inputs broadcast against each other; the result has 8 bytes a cell."""
    if "dtype" in kwargs:
        check_dtype(kwargs["dtype"])
    if "kind" in kwargs:  # np.isin(kind="table") makes a table of the whole range of values
        raise RefusedCall("the argument 'kind' is not available in the sandbox")
    values = (*args, *kwargs.values()) if kwargs else args
    for a in values:
        if isinstance(a, list | tuple):
            check_tree(a)
    shapes = [a.shape if isinstance(a, np.ndarray) else np.shape(a) for a in values if isinstance(a, np.ndarray | list | tuple)]
    if not shapes:
        return
    if len(set(shapes)) == 1:
        n = float(math.prod(shapes[0]))
    else:
        try:
            n = float(math.prod(np.broadcast_shapes(*shapes)))
        except ValueError:
            n = float(sum(math.prod(s) for s in shapes))
    if n > 100_000:
        session.budget.spend_bytes(8.0 * n, "this array")
        spend_work(STEPS_PER_CELL * n, "this computation")


def slow_check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """np.i0, np.isin: ten times slower than the rest."""
    elementwise_check(args, kwargs)
    spend_work(10 * STEPS_PER_CELL * sum(float(a.size) for a in args if isinstance(a, np.ndarray)), "this computation")


def scrambling_check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Sorting, counting, splitting: the inputs' size, and no large numbers."""
    elementwise_check((), kwargs)
    total = sum(a.size for a in args if isinstance(a, np.ndarray)) + sum(check_tree(a) for a in args if isinstance(a, list | tuple))
    session.budget.spend_bytes(16.0 * total)
    spend_work(500.0 * total * (6 if kwargs.get("axis") is not None else 1), "this")
    for a in (*args[1:], *kwargs.values()):
        if not isinstance(a, np.ndarray) and numbers_in(a) > 1e8:
            raise TooLarge("a number in the arguments is too large (at most 1e8)")


def few(index: int, name: str, limit: int) -> Any:
    """scrambling_check, and an argument that says how often or how many."""

    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        scrambling_check(args, kwargs)
        value = argument(args, kwargs, index, name, 0)
        if not isinstance(value, np.ndarray) and numbers_in(value) > limit:
            raise TooLarge(f"{name} is too large (at most {limit:,})")

    return check


def resized(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """np.resize"""
    spend_cells(argument(args, kwargs, 1, "new_shape", 1))


def covariance(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """np.cov and np.corrcoef: a square of the number of rows (or of columns)."""
    scrambling_check(args, kwargs)
    n = float(max((max(np.shape(a), default=1) for a in args), default=1))
    session.budget.spend_bytes(8.0 * n * n, "this matrix")
    spend_work(n * n * sum(float(np.size(a)) for a in args) / max(1.0, n), "this matrix")


SECTIONS = few(1, "indices_or_sections", 100_000)
SCRAMBLING_CHECKS = {
    "diff": few(1, "n", 100), "resize": resized, "cov": covariance, "corrcoef": covariance,
    "histogram_bin_edges": few(1, "bins", 1_000_000), **dict.fromkeys(("split", "array_split", "hsplit", "vsplit"), SECTIONS),
}  # fmt: skip


# -- creation --------------------------------------------------------------------------------------------------------------


def created(f: Any) -> Any:
    def run(shape: Any, dtype: Any = float, order: Any = "C") -> np.ndarray:
        spend_cells(shape, dtype)
        return f(shape, dtype)

    return run


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> np.ndarray:
    fill_value = pictures_as_arrays(fill_value)
    spend_cells(shape, dtype)
    return np.full(shape, fill_value, dtype)


def like(f: Any) -> Any:
    def run(a: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        if kwargs.pop("subok", None) is not None or "shape" in kwargs:
            spend_cells(kwargs.get("shape", 1))
        array = pictures_as_arrays(a)
        array = array if isinstance(array, np.ndarray) else np.asarray(array)
        dtype = kwargs.get("dtype", args[-1] if args and isinstance(args[-1], type | np.dtype | str) and f is not np.full_like else None)
        session.budget.spend_bytes(array.size * (check_dtype(dtype) if dtype is not None else array.itemsize))
        return f(array, *args, **kwargs)

    return run


def array(obj: Any, dtype: Any = None, **kwargs: Any) -> np.ndarray:
    """np.array / asarray: pictures, lists and arrays; always a copy that the code may write to."""
    size = check_dtype(dtype)
    for name in kwargs:
        if name not in ("copy", "order", "ndmin", "subok", "like"):
            raise TypeError(f"array() got an unexpected argument {name!r}")
    if isinstance(obj, Image.Image):
        session.budget.spend_bytes(obj.width * obj.height * 4 * max(1, size if dtype is not None else 1))
        result = np.asarray(obj)
        return result.astype(dtype) if dtype is not None and result.dtype != np.dtype(dtype) else result.copy()
    if isinstance(obj, range | BigRange):
        session.budget.spend_bytes(8 * len(obj))
        return np.array(obj if isinstance(obj, range) else obj.real, dtype)
    if isinstance(obj, list | tuple):
        session.budget.spend_bytes(float(list_cells(obj)) * 8, "this array")
        obj = [pictures_as_arrays(o) for o in obj] if any(isinstance(o, Image.Image) for o in obj) else obj
    elif isinstance(obj, set | dict | str | bytes) or obj is None:
        raise RefusedCall(f"an array of a {type(obj).__name__} is not available in the sandbox; pass a list of numbers")
    elif isinstance(obj, np.ndarray):
        session.budget.spend_bytes(obj.size * size)
    result = np.array(obj, dtype, ndmin=kwargs.get("ndmin", 0))
    if result.dtype.kind in "OVmM":
        raise RefusedCall("arrays of Python objects are not available in the sandbox; all rows need the same length")
    return result


def list_cells(obj: Any) -> float:
    """Cells of the array that a nested list makes (strings count by their length)."""
    check_tree(obj)
    n = 0.0
    longest = 0
    stack = [obj]
    while stack:
        for item in stack.pop():
            if isinstance(item, list | tuple):
                stack.append(item)
            elif isinstance(item, np.ndarray):
                n += item.size
            else:
                n += 1
                if isinstance(item, str | bytes):
                    longest = max(longest, len(item))
    return n * max(1, longest / 2)


def pictures_as_arrays(obj: Any) -> Any:
    return np.asarray(obj) if isinstance(obj, Image.Image) else obj


def asarray(obj: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> np.ndarray:
    if isinstance(obj, np.ndarray) and (dtype is None or obj.dtype == np.dtype(dtype)):
        return obj
    return array(obj, dtype)


def ascontiguousarray(obj: Any, dtype: Any = None) -> np.ndarray:
    if isinstance(obj, np.ndarray) and obj.flags.c_contiguous and dtype is None:
        return obj
    return np.ascontiguousarray(array(obj, dtype))


def arange(*args: Any, dtype: Any = None) -> np.ndarray:
    start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args[:2], args[2] if len(args) > 2 else 1)
    spend_cells(max(0.0, (float(stop) - float(start)) / float(step)) if step else 0, dtype)
    return np.arange(*args[:3], dtype=dtype if dtype is not None else (args[3] if len(args) > 3 else None))


def spaced(f: Any) -> Any:
    def run(start: Any, stop: Any, num: Any = 50, *args: Any, **kwargs: Any) -> Any:
        check_dtype(kwargs.get("dtype"))
        width = max(np.size(start), np.size(stop))
        spend_cells(float(num) * width)
        return f(start, stop, int(num), *args, **kwargs)

    return run


def square(f: Any) -> Any:
    def run(n: Any, m: Any = None, *args: Any, **kwargs: Any) -> Any:
        check_dtype(kwargs.get("dtype"))
        m = kwargs.pop("M", m)
        spend_cells((n, n if m is None else m))
        return f(n, m, *args, **kwargs) if m is not None else f(n, *args, **kwargs)

    return run


def diag(v: Any, k: int = 0) -> np.ndarray:
    v = np.asarray(v)
    if v.ndim == 1:
        spend_cells((v.size + abs(k), v.size + abs(k)))
    return np.diag(v, k)


def meshgrid(*arrays: Any, **kwargs: Any) -> Any:
    arrays = tuple(np.asarray(a) for a in arrays)
    session.budget.spend_bytes(8.0 * len(arrays) * math.prod(float(a.size) for a in arrays))
    return np.meshgrid(*arrays, **kwargs)


def indices(dimensions: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    spend_cells((len(dimensions), *dimensions))
    return np.indices(dimensions, *args, **kwargs)


def fromarray_input(array: Any) -> np.ndarray:
    """An array as Image.fromarray takes it: float pictures in [0, 1] are scaled, other numbers are clipped to 8 bits."""
    if isinstance(array, Image.Image):
        return np.asarray(array)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"Image.fromarray needs an array, got {type(array).__name__}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise ValueError(f"an array of shape {array.shape} is not an image; use (H, W), (H, W, 3) or (H, W, 4)")
    session.budget.spend_pixels(array.shape[1], array.shape[0])
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        values = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        if values.size and values.min() >= 0.0 and values.max() <= 1.0:
            values = values * 255.0
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if array.dtype.kind in "iu":
        return np.clip(array, 0, 255).astype(np.uint8)
    raise TypeError(f"an array of dtype {array.dtype} is not an image; convert with .astype(np.uint8)")
