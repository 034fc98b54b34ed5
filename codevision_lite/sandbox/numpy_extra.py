"""numpy functions that image code uses now and then: select, choose, einsum, windows, index helpers, array2string, fromiter.

Each has its size known before the call. Does not hold the everyday functions (numpy_facade.py, numpy_join.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from codevision_lite.sandbox.array_trace import blank, keep, lose, spoil
from codevision_lite.sandbox.builtin_types import growing
from codevision_lite.sandbox.checks import small
from codevision_lite.sandbox.facade import Fn, Rule, session, unwrap
from codevision_lite.sandbox.guards import call, ticking
from codevision_lite.sandbox.numpy_make import array, check_dtype, elementwise_check, pictures_as_arrays, spend_cells
from codevision_lite.sandbox.operators import check_broadcast, spend_work
from codevision_lite.sandbox.stops import RefusedCall, TooLarge

MAX_SHOWN = 100_000  # cells of an array that is written out in full


def select_check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    parts = [v for values in args[:2] for v in (values if isinstance(values, list | tuple) else [values])]
    elementwise_check(tuple(pictures_as_arrays(v) for v in parts), {})


def select(condlist: Any, choicelist: Any, default: Any = 0) -> np.ndarray:
    return np.select(list(condlist), list(choicelist), default)


def choose(a: Any, choices: Any, mode: str = "raise") -> np.ndarray:
    return np.choose(a, list(choices), mode=mode)


def einsum(subscripts: Any, *operands: Any) -> Any:
    """np.einsum with letters; the work is the product of the sizes of all letters."""
    if not isinstance(subscripts, str) or "." in subscripts or len(subscripts) > 200:
        raise RefusedCall("np.einsum needs subscripts of letters, such as 'ij,jk->ik', in the sandbox")
    arrays, sizes = [np.asarray(o) for o in operands], {}
    for term, a in zip(subscripts.split("->")[0].replace(" ", "").split(","), arrays, strict=False):
        sizes |= dict(zip(term, a.shape, strict=False))
    work = math.prod(map(float, sizes.values()))
    spend_work(work, "this sum")
    wanted = subscripts.partition("->")[2].strip()
    session.budget.spend_bytes(8.0 * math.prod(float(sizes.get(c, 1)) for c in (wanted if "->" in subscripts else sizes)), "this array")
    return np.einsum(subscripts, *arrays)


def product(f: Any) -> Any:
    """inner, vdot, correlate: as much work as a matrix product."""

    def run(a: Any, b: Any, *more: Any) -> Any:
        a, b = np.asarray(a), np.asarray(b)
        if max(a.ndim, b.ndim) > 2 and f is not np.vdot:
            raise RefusedCall("this product of arrays of more than two axes is not available in the sandbox; use @ or reshape")
        if f is np.inner and a.ndim and b.ndim:
            check_broadcast("@", a, b.T)
        elif f is np.correlate:
            spend_work(2.0 * a.size * b.size, "this correlation")
        return f(a, b, *more)

    return run


def array2string(a: Any, **options: Any) -> str:
    a = np.asarray(a)
    if a.size > MAX_SHOWN:
        options.pop("threshold", None)
    allowed = ("max_line_width", "precision", "suppress_small", "separator", "prefix", "floatmode", "threshold", "edgeitems")
    small(MAX_SHOWN, 0)((), {k: v for k, v in options.items() if k != "threshold"})
    return np.array2string(a, **{k: v for k, v in options.items() if k in allowed})


def digits(f: Any) -> Any:
    def run(number: Any, *args: Any, **kwargs: Any) -> str:
        small(1000, 0)(args, kwargs)
        return f(int(number), *args, **kwargs)

    return run


def from_iterable(iterable: Any, dtype: Any = float, count: int = -1) -> np.ndarray:
    dtype = unwrap(dtype)
    check_dtype(dtype)
    items = list(growing(iterable))
    return array(items if count < 0 else items[:count], dtype)


def from_function(f: Any, shape: Any, **options: Any) -> Any:
    spend_cells((len(shape), *shape))
    return array(call(f, *np.indices(shape, dtype=float if options.get("dtype") is None else options["dtype"])))


def windows(f: Any) -> Any:
    def run(n: Any, *args: Any) -> np.ndarray:
        spend_cells(n)
        return f(n, *args)

    return run


def triangle(f: Any) -> Any:
    """tril_indices, triu_indices, diag_indices of an n x n array."""

    def run(n: int, *args: Any) -> Any:
        spend_cells((2, n, args[1] if len(args) > 1 and isinstance(args[1], int) else n))
        return f(n, *args)

    return run


def diagonal_array(v: Any, k: int = 0) -> np.ndarray:
    n = np.size(v) + abs(k)
    spend_cells((n, n))
    return np.diagflat(v, k)


def block(arrays: Any) -> np.ndarray:
    def cells(part: Any) -> float:
        return sum(map(cells, part)) if isinstance(part, list) else float(np.size(part))

    session.budget.spend_bytes(8.0 * cells(arrays), "this array")
    return np.block(arrays)


def each_index(*shape: Any) -> Iterator[Any]:
    return ticking(iter(np.ndindex(*shape)))


def each_cell(a: Any) -> Iterator[Any]:
    return ticking(iter(np.ndenumerate(np.asarray(a))))


def in_place(f: Any) -> Any:
    """putmask, place, put, fill_diagonal: what they write is not followed."""

    def run(a: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(a, np.ndarray):
            raise TypeError("an array is needed")
        spoil(a)
        f(a, *args, **kwargs)

    return run


def put(a: np.ndarray, indices: Any, values: Any, mode: Any = "raise") -> None:
    if mode not in ("raise", "wrap", "clip"):  # numpy 2.4 forgets its own error about any other
        raise ValueError(f"mode {str(mode)[:20]!r} is not raise, wrap or clip")
    np.put(a, indices, values, mode)


def fill_diagonal(a: np.ndarray, value: Any, wrap: bool = False) -> None:
    np.fill_diagonal(a, value, bool(wrap))


def broadcast_arrays(*arrays: Any) -> list[np.ndarray]:
    elementwise_check(arrays, {})
    shape = np.broadcast_shapes(*[np.shape(a) for a in arrays])
    spend_cells((len(arrays), *shape))
    return [np.array(a) for a in np.broadcast_arrays(*arrays)]


def astype(a: np.ndarray, dtype: Any) -> np.ndarray:
    session.budget.spend_bytes(a.size * check_dtype(dtype), "this array")
    return a.astype(dtype)


def checked_shape(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if any(isinstance(a, int | float) and abs(a) > 1e9 for a in args):
        raise TooLarge("a number in the arguments is too large")


LOST, NEW = Rule(trace=lose), Rule(check=checked_shape, trace=blank)
FUNCTIONS: dict[str, tuple[Any, Rule]] = {
    "select": (select, Rule(check=select_check, trace=keep)), "choose": (choose, Rule(check=select_check, trace=keep)),
    "einsum": (einsum, LOST), "inner": (product(np.inner), LOST), "vdot": (product(np.vdot), LOST),
    "correlate": (product(np.correlate), LOST), "array2string": (array2string, Rule()), "base_repr": (digits(np.base_repr), Rule()),
    "binary_repr": (digits(np.binary_repr), Rule()), "fromiter": (from_iterable, Rule(any_value=True)),
    "fromfunction": (from_function, Rule(callbacks=True, trace=lose)),
    **{n: (windows(getattr(np, n)), NEW) for n in "hanning hamming blackman bartlett kaiser".split()},
    **{n: (triangle(getattr(np, n)), NEW) for n in "tril_indices triu_indices diag_indices".split()},
    "diagflat": (diagonal_array, LOST), "block": (block, LOST), "ndindex": (each_index, Rule()), "ndenumerate": (each_cell, Rule()),
    **{n: (in_place(f), Rule()) for n, f in {"putmask": np.putmask, "place": np.place, "put": put, "fill_diagonal": fill_diagonal}.items()},
    "broadcast_arrays": (broadcast_arrays, LOST), "astype": (astype, Rule(trace=keep)),
}  # fmt: skip


def functions() -> dict[str, Fn]:
    return {n: Fn(f"np.{n}", f, rule) for n, (f, rule) in FUNCTIONS.items()}
