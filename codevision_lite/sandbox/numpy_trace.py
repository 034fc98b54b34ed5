"""What each numpy function does to the origin of pixels. Arrays are (H, W) or (H, W, C); anything else is not a picture."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from codevision_lite.sandbox.array_trace import Args, Kwargs, is_picture, keep, looked_up, lose, put, size_of, spoil, trace_of, traces_in
from codevision_lite.sandbox.checks import argument
from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.oplog import record
from codevision_lite.sandbox.trace import UNKNOWN, Trace, moved, pasted, root_of, translation, view_of


def viewed(args: Args, kwargs: Kwargs, result: Any) -> None:
    """Reshapes and views: a view is decoded from its layout when asked; flattening and its inverse are followed."""
    source = args[0] if args else None
    trace = trace_of(source)
    if not isinstance(result, np.ndarray) or trace is None or result is source or not (trace.regions or not trace.known):
        return
    if not isinstance(source, np.ndarray):
        put(result, UNKNOWN)
        return
    reordered = any(isinstance(a, str) and a != "C" for a in (*args[1:], *kwargs.values()))
    listed = None if reordered or not trace.known or trace.mark else reshaped(trace, source, result)
    if listed is not None:
        put(result, listed)
    elif np.may_share_memory(source, result) and not trace.flat:
        if trace_of(result) is None:  # a view of something that is traced only itself
            put(result, UNKNOWN)
        log_view(source, result)
    elif trace.mark and result.shape == source.shape:
        put(result, trace)
    else:
        put(result, UNKNOWN)


def reshaped(trace: Trace, source: np.ndarray, result: np.ndarray) -> Trace | None:
    """The trace of a reshape in row-major order, where it lists the pixels or makes the picture of such a list; else None."""
    if result.size != source.size or result is source:
        return None
    width, height = trace.width, trace.height
    cells = width * height
    if cells == 0 or source.size % cells:
        return None
    to_list = result.ndim == 1 or (result.ndim == 2 and result.shape[0] in (cells, result.size))
    to_picture = result.ndim in (2, 3) and result.shape[:2] == (height, width)
    if not trace.flat:
        if (source.shape[1], source.shape[0]) != (width, height) or not to_list or result.shape == source.shape:
            return None
        return replace(trace, flat=result.shape[0])
    if to_picture:
        return replace(trace, flat=0)
    return replace(trace, flat=result.shape[0]) if to_list else None


def log_view(source: np.ndarray, result: np.ndarray) -> None:
    """Name the dihedral operation that turns source into its view."""
    if source.ndim < 2 or min(source.strides[:2]) <= 0:
        root = root_of(source)
        before, after = view_of(root, source), view_of(root, result)
        if before is None or after is None:
            return
        from codevision_lite.sandbox.trace import inverse, multiply

        back = inverse(before.to_root)
        matrix = multiply(back, after.to_root) if back else None
    else:
        view = view_of(source, result)
        matrix = view.to_root if view else None
    if matrix is not None:
        record_dihedral(tuple(round(v) for v in (matrix[0], matrix[1], matrix[3], matrix[4])))


DIHEDRAL = {
    (-1, 0, 0, 1): ("flip", {"direction": "horizontal"}), (1, 0, 0, -1): ("flip", {"direction": "vertical"}),
    (0, -1, 1, 0): ("rotate", {"angle": 90, "expand": True}), (-1, 0, 0, -1): ("rotate", {"angle": 180, "expand": True}),
    (0, 1, -1, 0): ("rotate", {"angle": 270, "expand": True}), (0, 1, 1, 0): ("transpose", {"method": "transpose"}),
    (0, -1, -1, 0): ("transpose", {"method": "transverse"}),
}  # fmt: skip


def record_dihedral(linear: tuple[int, ...]) -> None:
    if linear in DIHEDRAL:
        name, arguments = DIHEDRAL[linear]
        record(name, **arguments)


def split(args: Args, kwargs: Kwargs, result: Any) -> None:
    """np.split and its kin give views, which are decoded when asked."""
    if not isinstance(args[0], np.ndarray):
        lose(args, kwargs, result)
    elif trace_of(args[0]) is not None:
        for part in result:
            if trace_of(part) is None:
                put(part, UNKNOWN)


def reduced(args: Args, kwargs: Kwargs, result: Any) -> None:
    """Over the channels the picture stays; over rows or columns it is gone."""
    if not isinstance(result, np.ndarray):
        return
    axis = argument(args, kwargs, 1, "axis")
    source = args[0] if args else None
    if isinstance(source, np.ndarray) and source.ndim == 3 and axis in (2, -1) and result.shape[:2] == source.shape[:2]:
        keep((source,), {}, result)
    elif isinstance(source, np.ndarray) and source.ndim in (4, 5) and axis == (1, 3):
        blocks(source, result)
    elif isinstance(source, list | tuple) and axis == 0:  # the mean of several pictures
        keep((list(source),), {}, result)
    else:
        lose(args, kwargs, result)


def reduced_second(args: Args, kwargs: Kwargs, result: Any) -> None:
    """np.percentile(a, q, axis): the axis is the third argument."""
    reduced((args[0], argument(args, kwargs, 2, "axis")), {}, result)


def blocks(source: np.ndarray, result: np.ndarray) -> None:
    """picture.reshape(h, b, w, b[, C]).mean(axis=(1, 3)): every block becomes one pixel."""
    root = root_of(source)
    h, by, w, bx = source.shape[:4]
    trace = session.traces.own(root)
    if trace is None:
        return
    if root.shape[:2] == (h * by, w * bx) and source.size == root.size and source.flags.c_contiguous and root.flags.c_contiguous:
        put(result, moved(trace, (float(bx), 0.0, 0.0, 0.0, float(by), 0.0, 0.0, 0.0, 1.0), w, h))
        record("resize", size=[w, h])
    else:
        put(result, UNKNOWN)


def collected(args: Args, kwargs: Kwargs, result: Any) -> None:
    """np.array: of a picture it is the picture; of a list of rows or channels it is unknown."""
    source = args[0] if args else None
    if result is source or not isinstance(result, np.ndarray):
        return
    if is_picture(source):
        trace = trace_of(source)
        if trace is not None:
            if size_of(result) == size_of(source):
                put(result, trace)
            else:
                put(result, UNKNOWN)
    elif isinstance(source, list | tuple):
        rows = row_trace(source, result)
        if rows is not None:
            put(result, rows)
        else:
            lose(args, kwargs, result)


def row_trace(rows: Any, result: np.ndarray) -> Trace | None:
    """The trace of an array made of equally spaced rows of one root array: read as if it were a view."""
    if len(rows) < 2 or not all(isinstance(r, np.ndarray) for r in rows) or result.ndim not in (2, 3):
        return None
    first = rows[0]
    root = root_of(first)
    base = session.traces.own(root)
    if base is None or not base.known or any(root_of(r) is not root or r.strides != first.strides for r in rows):
        return None
    addresses = [r.__array_interface__["data"][0] for r in rows]
    step = addresses[1] - addresses[0]
    if step == 0 or any(b - a != step for a, b in itertools.pairwise(addresses)):
        return None
    view = view_of(root, Layout(addresses[0], result.shape, (step, *first.strides), first.dtype))  # type: ignore[arg-type]
    return None if view is None else moved(base, view.to_root, view.width, view.height)


class Layout:
    """Looks like an array to view_of: an address, a shape and strides."""

    def __init__(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.strides, self.dtype, self.ndim, self.size = shape, strides, dtype, len(shape), 1
        self.__array_interface__ = {"data": (address, True)}


def parts_of(args: Args) -> list[np.ndarray]:
    return [np.asarray(a) if not isinstance(a, np.ndarray) else a for a in args[0]]


def side_trace(arrays: list[Any], result: np.ndarray, axis: int) -> None:
    """Arrays joined along y (axis 0) or x (axis 1): one piece for each."""
    if not traces_in(arrays):
        return
    trace, offset = Trace(result.shape[1], result.shape[0]), 0
    for array in arrays:
        width, height = size_of(array)
        part = trace_of(array) or Trace(width, height)
        dx, dy = (offset, 0) if axis == 1 else (0, offset)
        trace = pasted(trace, part, translation(-dx, -dy), (dx, dy, dx + width, dy + height))
        offset += width if axis == 1 else height
    put(result, trace)
    record("hstack" if axis == 1 else "vstack", parts=len(arrays))


def concatenated(args: Args, kwargs: Kwargs, result: Any) -> None:
    axis = argument(args, kwargs, 1, "axis", 0)
    arrays = list(args[0])
    if isinstance(axis, int) and axis is not None and result.ndim in (2, 3):
        axis = axis % result.ndim
        if axis < 2:
            side_trace(arrays, result, axis)
        else:
            keep((arrays,), {}, result)
    else:
        lose(args, kwargs, result)


def hstacked(args: Args, kwargs: Kwargs, result: Any) -> None:
    concatenated((args[0], 1), {}, result) if result.ndim >= 2 else lose(args, kwargs, result)


def vstacked(args: Args, kwargs: Kwargs, result: Any) -> None:
    rows = row_trace(args[0], result)
    if rows is not None:
        put(result, rows)
    elif result.ndim >= 2 and all(np.ndim(a) == result.ndim for a in args[0]):
        concatenated((args[0], 0), {}, result)
    else:
        lose(args, kwargs, result)


def channels(args: Args, kwargs: Kwargs, result: Any) -> None:
    keep((list(args[0]),), {}, result)


def stacked(args: Args, kwargs: Kwargs, result: Any) -> None:
    axis = argument(args, kwargs, 1, "axis", 0)
    if result.ndim == 3 and axis in (2, -1):
        channels(args, kwargs, result)
        return
    rows = row_trace(args[0], result) if axis == 0 else None
    put(result, rows) if rows is not None else lose(args, kwargs, result)


def repeated(args: Args, kwargs: Kwargs, result: Any) -> None:
    source, times, axis = args[0], argument(args, kwargs, 1, "repeats"), argument(args, kwargs, 2, "axis")
    trace = trace_of(source)
    if trace is None:
        return
    if not isinstance(times, int | np.integer) or axis not in (0, 1, 2, -1) or source.ndim not in (2, 3):
        put(result, UNKNOWN)
        return
    axis = axis % source.ndim
    kx, ky = (1.0 / times if axis == 1 else 1.0), (1.0 / times if axis == 0 else 1.0)
    put(result, moved(trace, (kx, 0.0, 0.0, 0.0, ky, 0.0, 0.0, 0.0, 1.0), *size_of(result)))
    if axis < 2:
        record("resize", size=list(size_of(result)))


def taken(args: Args, kwargs: Kwargs, result: Any) -> None:
    """np.take(table, picture) looks every pixel up; along an axis it picks rows."""
    indices = argument(args, kwargs, 1, "indices")
    if isinstance(indices, np.ndarray) and argument(args, kwargs, 2, "axis") is None and isinstance(result, np.ndarray):
        looked_up(indices, result)
    else:
        lose(args, kwargs, result)


def tiled(args: Args, kwargs: Kwargs, result: Any) -> None:
    source, reps = args[0], argument(args, kwargs, 1, "reps")
    trace = trace_of(source)
    if trace is None:
        return
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    if not isinstance(source, np.ndarray) or result.ndim not in (2, 3) or source.ndim not in (2, 3) or result.ndim < source.ndim:
        put(result, UNKNOWN)
        return
    width, height = size_of(source)
    columns, rows = result.shape[1] // width, result.shape[0] // height
    if (columns * width, rows * height) != size_of(result) or columns * rows > 32:
        put(result, UNKNOWN)
        return
    total = Trace(*size_of(result))
    for row in range(rows):
        for column in range(columns):
            x, y = column * width, row * height
            total = pasted(total, trace, translation(-x, -y), (x, y, x + width, y + height))
    put(result, total)


def kroned(args: Args, kwargs: Kwargs, result: Any) -> None:
    """np.kron(picture, ones((k, k[, 1]))) repeats every pixel."""
    source, block = args[0], np.asarray(args[1])
    trace = trace_of(source)
    if trace is None or not isinstance(source, np.ndarray):
        lose(args, kwargs, result)
        return
    if source.ndim != result.ndim or block.ndim != source.ndim or (block.ndim == 3 and block.shape[2] != 1):
        put(result, UNKNOWN)
        return
    kx, ky = 1.0 / block.shape[1], 1.0 / block.shape[0]
    put(result, moved(trace, (kx, 0.0, 0.0, 0.0, ky, 0.0, 0.0, 0.0, 1.0), *size_of(result)))
    record("resize", size=list(size_of(result)))


def padded(args: Args, kwargs: Kwargs, result: Any) -> None:
    """Constant, edge and similar borders are new content; wrapped and mirrored ones repeat the picture there."""
    source = args[0]
    trace = trace_of(source)
    if trace is None or not isinstance(source, np.ndarray):
        lose(args, kwargs, result)
        return
    widths = np.broadcast_to(np.asarray(argument(args, kwargs, 1, "pad_width")), (source.ndim, 2))
    (top, _), (left, _) = widths[0], widths[1]
    put(result, moved(trace, translation(-int(left), -int(top)), *size_of(result)))
    record("pad", border=[int(left), int(top), int(widths[1][1]), int(widths[0][1])])


def dotted(args: Args, kwargs: Kwargs, result: Any) -> None:
    from codevision_lite.sandbox.array_trace import after_matmul

    if isinstance(result, np.ndarray):
        after_matmul(args[0], args[1], result)


def spoiled(args: Args, kwargs: Kwargs, result: Any) -> None:
    spoil(args[0])
