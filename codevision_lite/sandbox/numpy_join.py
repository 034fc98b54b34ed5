"""numpy functions that join, repeat or compute, each with its size known before the call, and the table of all special functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codevision_lite.sandbox import numpy_trace as nt
from codevision_lite.sandbox.array_trace import after_store, blank, keep, lose
from codevision_lite.sandbox.checks import numbers_in
from codevision_lite.sandbox.facade import Box, Fn, Rule, session
from codevision_lite.sandbox.guards import call
from codevision_lite.sandbox.numpy_make import (
    arange,
    array,
    asarray,
    ascontiguousarray,
    cells,
    check_dtype,
    created,
    diag,
    elementwise_check,
    full,
    indices,
    like,
    meshgrid,
    pictures_as_arrays,
    spaced,
    spend_cells,
    square,
)
from codevision_lite.sandbox.operators import check_broadcast, spend_work
from codevision_lite.sandbox.stops import RefusedCall, TooLarge


def joined(f: Any) -> Any:
    def run(arrays: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        arrays = [pictures_as_arrays(a) for a in arrays]
        session.budget.spend_bytes(float(sum(np.asarray(a).nbytes for a in arrays)), "this array")
        return f(arrays, *args, **kwargs)

    return run


def append(arr: Any, values: Any, axis: Any = None) -> np.ndarray:
    arr, values = np.asarray(arr), np.asarray(values)
    session.budget.spend_bytes(float(arr.nbytes + values.nbytes))
    return np.append(arr, values, axis)


def repeat(a: Any, repeats: Any, axis: Any = None) -> np.ndarray:
    a = np.asarray(a)
    times = float(np.sum(repeats)) / max(1, np.size(repeats)) if np.size(repeats) > 1 else float(np.max(repeats))
    session.budget.spend_bytes(a.nbytes * max(1.0, times), "this array")
    return np.repeat(a, repeats, axis)


def tile(a: Any, reps: Any) -> np.ndarray:
    a = np.asarray(a)
    session.budget.spend_bytes(a.nbytes * cells(reps), "this array")
    return np.tile(a, reps)


def kron(a: Any, b: Any) -> np.ndarray:
    a, b = np.asarray(a), np.asarray(b)
    session.budget.spend_bytes(8.0 * a.size * b.size, "this array")
    return np.kron(a, b)


def pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> np.ndarray:
    a = np.asarray(array)
    if not isinstance(mode, str):
        raise RefusedCall("np.pad needs a mode by name")
    widths = np.broadcast_to(np.asarray(pad_width), (a.ndim, 2))
    session.budget.spend_bytes(math.prod(float(n + w.sum()) for n, w in zip(a.shape, widths, strict=True)) * a.itemsize, "this array")
    return np.pad(a, pad_width, mode, **kwargs)


def take(a: Any, indices: Any, axis: Any = None, **kwargs: Any) -> np.ndarray:
    a = np.asarray(a)
    row = a.size / max(1, a.shape[axis] if axis is not None and a.ndim else 1) if axis is not None else 1
    session.budget.spend_bytes(float(np.size(indices)) * row * a.itemsize, "this array")
    return np.take(a, indices, axis, mode=kwargs.get("mode", "raise"))


def dot(a: Any, b: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim and b.ndim:
        inner = max(1.0, float(a.shape[-1]))
        session.budget.spend_bytes(8.0 * a.size * b.size / inner**2, "this array")
        spend_work(float(a.size) * b.size / inner, "this product")
    return np.dot(a, b)


def matmul(a: Any, b: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    check_broadcast("@", a, b)
    return np.matmul(a, b)


def outer(a: Any, b: Any) -> np.ndarray:
    session.budget.spend_bytes(8.0 * np.size(a) * np.size(b), "this array")
    return np.outer(a, b)


def broadcast_to(a: Any, shape: Any) -> np.ndarray:
    spend_cells(shape)
    return np.array(np.broadcast_to(a, shape))


def reshape(a: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    return np.reshape(a, *args, **kwargs)


def histogram(a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    if not isinstance(bins, np.ndarray | list | tuple) and numbers_in(bins) > 1e6:
        raise TooLarge("too many bins")
    if isinstance(bins, str):
        bins = 50
    elementwise_check((a,), {})
    return np.histogram(a, bins, range, density=density, weights=weights)


def histogram2d(x: Any, y: Any, bins: Any = 10, **kwargs: Any) -> Any:
    each = bins if isinstance(bins, list | tuple) and len(bins) == 2 else (bins, bins)
    if max(np.size(b) if np.ndim(b) else numbers_in(b) for b in each) > 3000:
        raise TooLarge("too many bins")
    return np.histogram2d(x, y, bins, **kwargs)


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> np.ndarray:
    x = np.asarray(x)
    if (x.size and float(x.max()) > 2e7) or minlength > 2e7:
        raise TooLarge("too many bins")
    return np.bincount(x, weights, minlength)


def polyfit(x: Any, y: Any, deg: int, **kwargs: Any) -> Any:
    if deg > 50:
        raise TooLarge("the degree is too high (at most 50)")
    return np.polyfit(x, y, deg, **{k: v for k, v in kwargs.items() if k in ("w", "rcond")})


def roots(f: Any) -> Any:
    def run(p: Any) -> Any:
        if np.size(p) > 500:
            raise TooLarge("the polynomial is too long (at most 500 coefficients)")
        return f(p)

    return run


def percentile(f: Any) -> Any:
    def run(a: Any, q: Any, axis: Any = None, *args: Any, **kwargs: Any) -> Any:
        if np.size(q) > 1000:
            raise TooLarge("too many percentiles (at most 1000)")
        kept = 1.0 if axis is None or not np.ndim(a) else np.size(a) / max(1, min(np.shape(a)))
        session.budget.spend_bytes(8.0 * np.size(q) * kept, "these percentiles")
        return f(a, q, axis, *args, **kwargs)

    return run


def convolve(a: Any, v: Any, mode: str = "full") -> np.ndarray:
    spend_work(2.0 * np.size(a) * np.size(v), "this convolution")
    return np.convolve(a, v, mode)


def copyto(dst: Any, src: Any, *args: Any, **kwargs: Any) -> None:
    np.copyto(dst, src, *args, **kwargs)
    after_store(dst, slice(None), src)


def frombuffer(data: Any, dtype: Any = float, count: int = -1, offset: int = 0) -> np.ndarray:
    check_dtype(dtype)
    if not isinstance(data, bytes | bytearray):
        raise RefusedCall("np.frombuffer needs bytes in the sandbox")
    return np.frombuffer(bytes(data), dtype, count, offset).copy()


def piecewise_apply(f: Any, axis: int, array: Any, *args: Any) -> np.ndarray:
    array, first = np.asarray(array), True

    def run(row: np.ndarray) -> Any:
        nonlocal first
        result = call(f, row, *args)
        if first:  # numpy makes room for as many results as there are rows
            first = False
            session.budget.spend_bytes(8.0 * np.size(result) * array.size / max(1, row.size), "this array")
        return result

    return np.apply_along_axis(run, axis, array)


def vectorize(f: Any, **kwargs: Any) -> Any:
    def run(*arrays: Any) -> Any:
        out = np.vectorize(lambda *v: call(f, *v))(*arrays)
        return _no_objects(out)

    return Fn("vectorized", run, Rule(check=elementwise_check, trace=keep))


def _no_objects(result: Any) -> Any:
    if isinstance(result, np.ndarray) and result.dtype.hasobject:
        raise RefusedCall("arrays of Python objects are not available in the sandbox")
    return result


class Grid(Box):
    """np.mgrid and np.ogrid."""

    __slots__ = ("grid",)

    def __init__(self, grid: Any) -> None:
        self.grid = grid

    def read_item(self, key: Any) -> Any:
        total = 1.0
        for s in key if isinstance(key, tuple) else (key,):
            if isinstance(s, slice):
                step = s.step if s.step is not None else 1
                total *= abs(step) if isinstance(step, complex) else max(0.0, (float(s.stop) - float(s.start or 0)) / float(step))
        session.budget.spend_bytes(8.0 * total * max(2, len(key) if isinstance(key, tuple) else 1), "this grid")
        return self.grid[key]


class Slices(Box):
    """np.s_ and np.index_exp."""

    __slots__ = ("always_tuple",)

    def __init__(self, always_tuple: bool) -> None:
        self.always_tuple = always_tuple

    def read_item(self, key: Any) -> Any:
        return (key,) if self.always_tuple and type(key) is not tuple else key


class Joiner(Grid):
    """np.r_ and np.c_."""

    def read_item(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        for s in parts:
            if isinstance(s, str):
                raise RefusedCall("strings in np.r_ are not available in the sandbox")
            if isinstance(s, slice):
                Grid.read_item(Grid(np.ogrid), s)
        return _no_objects(self.grid[key])


NEW = Rule(trace=blank)
FUNCTIONS: dict[str, tuple[Any, Rule]] = {
    "zeros": (created(np.zeros), NEW), "ones": (created(np.ones), NEW), "empty": (created(np.zeros), NEW), "full": (full, NEW),
    "zeros_like": (like(np.zeros_like), NEW), "ones_like": (like(np.ones_like), NEW), "empty_like": (like(np.zeros_like), NEW),
    "full_like": (like(np.full_like), NEW), "array": (array, Rule(trace=nt.collected)), "asarray": (asarray, Rule(trace=nt.collected)),
    "asanyarray": (asarray, Rule(trace=nt.collected)), "ascontiguousarray": (ascontiguousarray, Rule(trace=nt.collected)),
    "asfortranarray": (ascontiguousarray, Rule(trace=nt.collected)), "copy": (array, Rule(trace=nt.collected)),
    "arange": (arange, NEW), "linspace": (spaced(np.linspace), NEW), "logspace": (spaced(np.logspace), NEW),
    "geomspace": (spaced(np.geomspace), NEW),
    "eye": (square(np.eye), NEW), "identity": (square(np.identity), NEW), "tri": (square(np.tri), NEW), "diag": (diag, Rule(trace=lose)),
    "meshgrid": (meshgrid, Rule()), "indices": (indices, Rule()), "frombuffer": (frombuffer, Rule()),
    "concatenate": (joined(np.concatenate), Rule(trace=nt.concatenated)), "hstack": (joined(np.hstack), Rule(trace=nt.hstacked)),
    "vstack": (joined(np.vstack), Rule(trace=nt.vstacked)), "dstack": (joined(np.dstack), Rule(trace=nt.channels)),
    "stack": (joined(np.stack), Rule(trace=nt.stacked)), "column_stack": (joined(np.column_stack), Rule(trace=lose)),
    "append": (append, Rule(trace=lose)), "repeat": (repeat, Rule(trace=nt.repeated)), "tile": (tile, Rule(trace=nt.tiled)),
    "kron": (kron, Rule(trace=nt.kroned)), "pad": (pad, Rule(trace=nt.padded)), "take": (take, Rule(trace=nt.taken)),
    "dot": (dot, Rule(trace=nt.dotted)), "matmul": (matmul, Rule(trace=nt.dotted)), "outer": (outer, Rule(trace=lose)),
    "broadcast_to": (broadcast_to, Rule(trace=lose)), "reshape": (reshape, Rule(trace=nt.viewed)), "histogram": (histogram, Rule()),
    "roots": (roots(np.roots), Rule()), "poly": (roots(np.poly), Rule()),
    **{n: (percentile(getattr(np, n)), Rule(check=elementwise_check, trace=nt.reduced_second))
       for n in ("percentile", "quantile", "nanpercentile", "nanquantile")},
    "histogram2d": (histogram2d, Rule()), "bincount": (bincount, Rule()), "polyfit": (polyfit, Rule()),
    "convolve": (convolve, Rule(trace=lose)),
    "copyto": (copyto, Rule()), "vectorize": (vectorize, Rule(callbacks=True)),
    "apply_along_axis": (piecewise_apply, Rule(callbacks=True, trace=lose)),
}  # fmt: skip
