"""Traces of pictures and arrays through the operations that any library shares: keep, lose, move, index, store, arithmetic.

Every function sets a Trace only where it is sure; a result that was computed from a traced input in a way that is not known here
gets UNKNOWN, so that it can not pass for new content later.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.oplog import record
from codevision_lite.sandbox.trace import UNKNOWN, Matrix, Trace, merged, moved, pasted, root_of, translation, view_of

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
SMALL = 16  # cells of an array that is a statistic (a mean colour, a size), not a picture


def is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray | Image.Image)


def size_of(value: Any) -> tuple[int, int]:
    """(W, H) of a picture or array; (0, 0) for an array that is no picture."""
    if isinstance(value, Image.Image):
        return value.size
    return (value.shape[1], value.shape[0]) if value.ndim in (2, 3) else (0, 0)


def trace_of(value: Any) -> Trace | None:
    """The trace of a picture or array; None: it shows no source, as far as we know."""
    return session.traces.of(value) if isinstance(value, np.ndarray | Image.Image) else None


def traces_in(values: Iterable[Any], depth: int = 0) -> list[Trace]:
    """The traces of all pictures among the values, also inside lists."""
    found = []
    for value in values:
        if isinstance(value, np.ndarray | Image.Image):
            trace = session.traces.of(value)
            if trace is not None:
                found.append(trace)
        elif isinstance(value, list | tuple) and depth < 3 and value and not isinstance(value[0], int | float | str):
            found += traces_in(value, depth + 1)
    return found


def put(value: Any, trace: Trace) -> None:
    """Register the trace of a result; statistics of a few cells stay without."""
    if isinstance(value, Image.Image) or (isinstance(value, np.ndarray) and (trace.known or value.size > SMALL)):
        session.traces.put(value, trace)


def results_of(result: Any) -> list[Any]:
    """The pictures in what a library call returned."""
    if is_picture(result):
        return [result]
    return [r for r in result if is_picture(r)] if isinstance(result, list | tuple) else []


def combined(traces: list[Trace], output: Any) -> Trace:
    """The trace of a cell by cell combination, for pictures and for flattened ones."""
    if not any(t.flat for t in traces):
        return merged(traces, *size_of(output))
    shown = [t for t in traces if t.regions or not t.known]
    if not isinstance(output, np.ndarray) or output.ndim not in (1, 2) or any(t != shown[0] for t in shown):
        return UNKNOWN
    return shown[0] if shown and shown[0].flat == output.shape[0] else UNKNOWN


def keep(args: Args, kwargs: Kwargs, result: Any) -> None:
    """Pixel by pixel: a result of the inputs' size keeps their trace, any other is lost."""
    outputs = results_of(result)
    if not outputs:
        return
    traces = traces_in(args) + traces_in(kwargs.values())
    if not traces:
        return
    for output in outputs:
        trace = combined(traces, output)
        if not any(output is a for a in args):
            put(output, trace)
        elif trace != session.traces.of(output):  # in place, and not what it was
            session.traces.spoil(output)


def lose(args: Args, kwargs: Kwargs, result: Any) -> None:
    """The result depends on the inputs in a way that is not followed."""
    outputs = results_of(result)
    if outputs:
        traces = traces_in(args) + traces_in(kwargs.values())
        if any(t.regions or not t.known for t in traces):
            for output in outputs:
                put(output, UNKNOWN)


def blank(args: Args, kwargs: Kwargs, result: Any) -> None:
    """New content: shows no source."""
    for output in results_of(result):
        put(output, Trace(*size_of(output)))


def move(result: Any, source: Any, to_old: Matrix | None) -> None:
    """The result shows `source` through to_old (corner points of the result -> of the source); None: lost."""
    trace = trace_of(source)
    if trace is None or (trace.known and not trace.regions):
        return
    if to_old is None or trace.flat or (trace.known and (trace.width, trace.height) != known_size(source, result, trace)):
        put(result, UNKNOWN)
    else:
        put(result, moved(trace, to_old, *size_of(result)))


def known_size(source: Any, result: Any, trace: Trace) -> tuple[int, int]:
    """The size that the trace of `source` must have (an in-place result already has its new size)."""
    return (trace.width, trace.height) if source is result else size_of(source)


def mover(make: Callable[[Args, Kwargs, Any], Matrix | None]) -> Callable[[Args, Kwargs, Any], None]:
    """A trace function from one that computes the map of a call whose first argument is the picture."""

    def trace(args: Args, kwargs: Kwargs, result: Any) -> None:
        if is_picture(result) and args:
            move(result, args[0], make(args, kwargs, result))

    return trace


def spoil(value: Any) -> None:
    """The picture was changed in place in a way that is not followed."""
    if isinstance(value, Image.Image):
        session.traces.put(value, UNKNOWN)
    else:
        session.traces.spoil(value)


# -- arrays ----------------------------------------------------------------------------------------------------------------


def after_index(obj: np.ndarray, key: Any, result: np.ndarray) -> np.ndarray:
    """Log crops and flips made by slicing; mark what fancy indexing took out of a traced array."""
    if not session.traces.rows:
        return result
    trace = session.traces.of(obj)
    shown = trace is not None and (bool(trace.regions) or not trace.known)
    if isinstance(key, np.ndarray) and key.dtype.kind in "iu" and not (shown and trace is not None and trace.known):
        return looked_up(key, result)
    if trace is None or not shown:
        return result
    if not np.may_share_memory(obj, result):
        put(result, selected(trace, obj, key, result))
    elif obj.ndim >= 2 and result.ndim >= 2 and (result.shape[:2] != obj.shape[:2] or result.strides[:2] != obj.strides[:2]):
        log_slice(obj, result)
    return result


def looked_up(key: np.ndarray, result: np.ndarray) -> np.ndarray:
    """table[picture]: every pixel became its entry, wherever the table came from."""
    trace = session.traces.of(key)
    if trace is not None and (trace.regions or not trace.known):
        put(result, combined([trace], result) if result.shape[: key.ndim] == key.shape else UNKNOWN)
    return result


def selected(trace: Trace, obj: np.ndarray, key: Any, result: np.ndarray) -> Trace:
    """Pixels picked by masks or index arrays: known only as "what this selection picks"."""
    as_slices = slices_of(key, obj.ndim)
    if as_slices is not None:  # arr[:, :, [2, 1, 0]], arr[[5, 6, 7]], arr[np.ix_(...)]: what a slice would have shown
        shown = session.traces.of(obj[as_slices]) or UNKNOWN
        return shown if shown.known and not shown.flat and (shown.width, shown.height) == size_of(result) else UNKNOWN
    mark = selection_mark(key)
    if mark is None or not trace.known or trace.flat or not result.shape:
        return UNKNOWN
    return replace(trace, flat=result.shape[0], mark=mark)


def slices_of(key: Any, n_axes: int) -> tuple[Any, ...] | None:
    """A key of slices that picks the same rows and columns as index lists in even steps; channels may be picked in any order."""
    parts = list(key) if type(key) is tuple else [key]
    if any(p is Ellipsis for p in parts):
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (n_axes - len(parts) + 1)
    lists = [i for i, p in enumerate(parts) if isinstance(p, np.ndarray | list)]
    if len(lists) == 2 and lists == [0, 1]:
        a, b = np.asarray(parts[0]), np.asarray(parts[1])
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != 1 or b.shape[0] != 1:
            return None
        parts[0], parts[1] = a.ravel(), b.ravel()
    elif len(lists) != 1:
        return None
    for i in lists:
        index = np.asarray(parts[i])
        if index.ndim != 1 or index.dtype.kind not in "iu" or not index.size:
            return None
        parts[i] = slice(None) if i == 2 else even_slice(index)
        if parts[i] is None:
            return None
    return tuple(parts)


def even_slice(index: np.ndarray) -> slice | None:
    """The slice that picks these indices, where they go in even steps."""
    steps = np.diff(index.astype(np.int64))
    step = int(steps[0]) if steps.size else 1
    if step == 0 or (steps != step).any() or int(index.min()) < 0:
        return None
    stop = int(index[-1]) + (1 if step > 0 else -1)
    return slice(int(index[0]), stop if stop >= 0 else None, step)


def selection_mark(key: Any) -> int | None:
    """A number for the content of a key that holds index arrays; None where it holds none."""
    parts = key if type(key) is tuple else (key,)
    if not any(isinstance(p, np.ndarray | list) for p in parts):
        return None
    marks = [zlib.crc32(np.ascontiguousarray(p).tobytes()) if isinstance(p, np.ndarray | list) else repr(p) for p in parts]
    return hash(tuple(marks)) or 1


def log_slice(obj: np.ndarray, result: np.ndarray) -> None:
    view = view_of(obj, result) if min(obj.strides[:2]) > 0 else None
    if view is None:
        return
    m = view.to_root
    if m[0] and m[4]:
        box = sorted((m[2], m[2] + m[0] * view.width)) + sorted((m[5], m[5] + m[4] * view.height))
        if (box[1] - box[0], box[3] - box[2]) != (obj.shape[1], obj.shape[0]):
            record("crop", box=[int(box[0]), int(box[2]), int(box[1]), int(box[3])])
        for negative, direction in ((m[0] < 0, "horizontal"), (m[4] < 0, "vertical")):
            if negative:
                record("flip", direction=direction)
        if max(abs(m[0]), abs(m[4])) > 1:
            record("resize", size=[view.width, view.height])


def after_store(obj: np.ndarray, key: Any, value: Any) -> None:
    """obj[key] = value was done: paste the trace of the value, or spoil the target."""
    root = root_of(obj)
    base = session.traces.own(root)
    if watch_pixel(obj, key, base):
        return
    patch = trace_of(value)
    if patch is None:
        if (
            base is not None
            and isinstance(value, np.ndarray)
            and value.ndim >= 2
            and 2 * value.size > root.size
            and (base.regions or not base.known)
        ):
            session.traces.spoil(obj)
        return
    if root.ndim not in (2, 3) or root.size == 0:
        return
    old = base if base is not None else Trace(root.shape[1], root.shape[0])
    new = stored(root, obj, key, value, old, patch)
    if new != old:
        session.traces.put(root, new)
        if root is not obj and session.traces.own(obj) is not None:
            session.traces.spoil(obj)


def watch_pixel(obj: np.ndarray, key: Any, base: Trace | None) -> bool:
    """obj[y, x] = ...: one pixel, judged by pixels.py."""
    if type(key) is not tuple or len(key) < 2 or not is_place(key):
        return False
    if base is not None and base.regions:
        session.pixels.written(obj, obj.shape[0] * obj.shape[1], (key[1], key[0]))
    return True


def is_place(key: tuple[Any, ...]) -> bool:
    return isinstance(key[0], int | np.integer) and isinstance(key[1], int | np.integer)


def after_pixel(obj: np.ndarray, key: Any) -> None:
    """obj[y, x] was read."""
    rows = session.traces.rows
    if type(key) is tuple and len(key) >= 2 and (id(obj) in rows or id(obj.base) in rows) and is_place(key):
        session.pixels.read(obj, (key[1], key[0]))


def stored(root: np.ndarray, obj: np.ndarray, key: Any, value: np.ndarray, base: Trace, patch: Trace) -> Trace:
    """The trace of the root array after a region of it was overwritten by traced content."""
    if not patch.known:
        return UNKNOWN
    if not patch.regions:
        return base
    if not base.known or base.flat:
        return UNKNOWN
    if patch.flat:  # picked by a selection: fine where it goes back through the same selection
        same = patch.mark == selection_mark(key) and obj is root and replace(patch, flat=0, mark=0) == base
        return base if same else UNKNOWN
    target = obj[key]
    if not isinstance(target, np.ndarray) or not np.may_share_memory(target, root):
        return UNKNOWN
    view = view_of(root, target)
    if view is None or not view.plain or (patch.width, patch.height) != (view.width, view.height):
        return UNKNOWN
    left, top = view.to_root[2], view.to_root[5]
    box = (left, top, left + view.width, top + view.height)
    new = pasted(base, patch, translation(-left, -top), box)
    channels = root.shape[2] if root.ndim == 3 else 1
    whole = (target.shape[2] if target.ndim == 3 else 1) == channels
    if not whole and base.regions and new != base:  # one channel was replaced by another place of the picture
        return UNKNOWN
    return new


ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "//": "divide", "**": "power"}


def after_arithmetic(op: str, inputs: tuple[Any, ...], result: np.ndarray) -> None:
    if not session.traces.rows:
        return
    traces = traces_in(inputs)
    if not traces:
        return
    trace = combined(traces, result)
    if result is inputs[0]:  # in place
        if trace != session.traces.of(result):
            session.traces.spoil(result)
    else:
        put(result, trace)
    if trace.regions and op in ARITHMETIC:
        record(ARITHMETIC[op], value=inputs[1] if is_picture(inputs[0]) else inputs[0])


def after_matmul(a: Any, b: Any, result: np.ndarray) -> None:
    """(H, W, C) @ (C, ...) mixes channels only; every other product mixes pixels."""
    traces = traces_in((a, b))
    if traces:
        mixes_channels = isinstance(a, np.ndarray) and a.ndim == 3 and np.ndim(b) <= 2 and not traces_in((b,))
        put(result, combined(traces, result) if mixes_channels else UNKNOWN)
