"""Where the pixels of every picture and array of one run came from.

A Trace is a size and convex pieces, each with a 3x3 map to a source picture (pixel corners, column vectors). Pictures and root arrays
are registered by identity; views of arrays are decoded from their memory layout when somebody asks. What is not sure is UNKNOWN, and
UNKNOWN spreads; BLANK is content that shows no source (a new canvas, noise, constants).
Does not look at pixel values and does not know the libraries: transfer_*.py say what each operation does.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from codevision_lite.records import Frame, Piece

Matrix = tuple[float, float, float, float, float, float, float, float, float]  # row by row
Point = tuple[float, float]
IDENTITY: Matrix = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
MAX_PIECES = 64  # a mosaic of more regions is reported as unknown
SLIVER = 1e-9  # area in px below which a clipped polygon is gone


@dataclass(frozen=True, slots=True)
class Region:
    """One convex region of a picture: its corners there, the map to the source, the source's index."""

    polygon: tuple[Point, ...]
    matrix: Matrix
    source: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Origin of one picture of `width` x `height` pixels. `known` False: no claim; no regions: shows nothing of a source."""

    width: int
    height: int
    regions: tuple[Region, ...] = ()
    known: bool = True
    flat: int = 0  # > 0: no picture but an array of this length that lists pixels (or their values) row by row ...
    mark: int = 0  # ... of the whole picture, or (other than 0) of the selection with this number


UNKNOWN = Trace(0, 0, (), False)


def rectangle(width: float, height: float) -> tuple[Point, ...]:
    return ((0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height)))


def source_trace(width: int, height: int, source: int) -> Trace:
    return Trace(width, height, (Region(rectangle(width, height), IDENTITY, source),))


def multiply(a: Matrix, b: Matrix) -> Matrix:
    """a @ b: apply b first."""
    return (
        a[0] * b[0] + a[1] * b[3] + a[2] * b[6], a[0] * b[1] + a[1] * b[4] + a[2] * b[7], a[0] * b[2] + a[1] * b[5] + a[2] * b[8],
        a[3] * b[0] + a[4] * b[3] + a[5] * b[6], a[3] * b[1] + a[4] * b[4] + a[5] * b[7], a[3] * b[2] + a[4] * b[5] + a[5] * b[8],
        a[6] * b[0] + a[7] * b[3] + a[8] * b[6], a[6] * b[1] + a[7] * b[4] + a[8] * b[7], a[6] * b[2] + a[7] * b[5] + a[8] * b[8],
    )  # fmt: skip


def translation(dx: float, dy: float) -> Matrix:
    return (1.0, 0.0, float(dx), 0.0, 1.0, float(dy), 0.0, 0.0, 1.0)


def inverse(m: Matrix) -> Matrix | None:
    """None where the map squeezes the plane to a line."""
    if m[1] == m[3] == m[6] == m[7] == 0.0 and m[8] == 1.0 and m[0] and m[4]:  # scale and shift: exact
        return (1 / m[0], 0.0, -m[2] / m[0], 0.0, 1 / m[4], -m[5] / m[4], 0.0, 0.0, 1.0)
    try:
        inv = np.linalg.inv(np.array(m).reshape(3, 3))
    except np.linalg.LinAlgError:
        return None
    values = tuple(float(v) for v in inv.ravel())
    return values if all(abs(v) < 1e12 for v in values) else None  # type: ignore[return-value]


def apply(m: Matrix, points: tuple[Point, ...]) -> tuple[Point, ...] | None:
    """Map points; None where one of them lies on or beyond the horizon of a perspective map."""
    if m[6] == 0.0 == m[7] and m[8] == 1.0:
        return tuple((m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]) for x, y in points)
    out, signs = [], set()
    for x, y in points:
        w = m[6] * x + m[7] * y + m[8]
        if abs(w) < 1e-9:
            return None
        signs.add(w > 0)
        out.append(((m[0] * x + m[1] * y + m[2]) / w, (m[3] * x + m[4] * y + m[5]) / w))
    return tuple(out) if len(signs) == 1 else None


def clip(polygon: tuple[Point, ...], width: float, height: float) -> tuple[Point, ...]:
    """The part of a convex polygon inside [0, width] x [0, height]; () where nothing is left."""
    if len(polygon) == 4:  # an upright rectangle, as most are
        (x0, y0), (x1, y1) = polygon[0], polygon[2]
        if polygon[1] == (x1, y0) and polygon[3] == (x0, y1) and x0 < x1 and y0 < y1:
            x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
            inside = x0 < x1 and y0 < y1 and (x1 - x0) * (y1 - y0) > SLIVER
            return ((x0, y0), (x1, y0), (x1, y1), (x0, y1)) if inside else ()
    points = list(polygon)
    for axis, limit, sign in ((0, 0.0, 1.0), (0, width, -1.0), (1, 0.0, 1.0), (1, height, -1.0)):
        if all(sign * (p[axis] - limit) >= 0 for p in points):
            continue
        kept: list[Point] = []
        for i, p in enumerate(points):
            q = points[i - 1]
            dp, dq = sign * (p[axis] - limit), sign * (q[axis] - limit)
            if (dp >= 0) != (dq >= 0):
                t = dq / (dq - dp)
                cut = [q[0] + t * (p[0] - q[0]), q[1] + t * (p[1] - q[1])]
                cut[axis] = float(limit)
                kept.append((cut[0], cut[1]))
            if dp >= 0:
                kept.append(p)
        points = kept
        if not points:
            return ()
    if abs(area(points)) <= SLIVER:
        return ()
    first = min(range(len(points)), key=lambda i: (points[i][0] + points[i][1], points[i][0]))  # the corner at the top left
    return tuple(points[first:] + points[:first])


def area(points: Any) -> float:
    return 0.5 * sum(points[i - 1][0] * p[1] - p[0] * points[i - 1][1] for i, p in enumerate(points))


def moved(trace: Trace, to_old: Matrix, width: int, height: int) -> Trace:
    """The trace of a picture of width x height whose corner point p shows the old picture at to_old(p)."""
    if not trace.known:
        return UNKNOWN
    if not trace.regions:
        return Trace(width, height)
    to_new = inverse(to_old)
    if to_new is None:
        return UNKNOWN
    regions = []
    for region in trace.regions:
        polygon = apply(to_new, region.polygon)
        if polygon is None:
            return UNKNOWN
        if polygon := clip(polygon, width, height):
            regions.append(Region(polygon, multiply(region.matrix, to_old), region.source))
    return Trace(width, height, tuple(regions))


def merged(traces: list[Trace], width: int, height: int) -> Trace:
    """The trace of a pixel by pixel combination: the traces that show something must agree."""
    found: Trace | None = None
    if any(t.flat for t in traces):
        return UNKNOWN
    for trace in traces:
        if not trace.known:
            return UNKNOWN
        if not trace.regions:
            continue
        if (trace.width, trace.height) != (width, height):
            return UNKNOWN
        if found is not None and found != trace:
            return UNKNOWN
        found = trace
    return found if found is not None else Trace(width, height)


def pasted(base: Trace, patch: Trace, to_patch: Matrix, box: tuple[float, float, float, float]) -> Trace:
    """`base` after its box (l, t, r, b) was overwritten by `patch`, base point p showing patch point to_patch(p)."""
    if not (base.known and patch.known):
        return UNKNOWN
    left, top, right, bottom = box
    patch = moved(patch, to_patch, base.width, base.height)
    if not patch.known:
        return UNKNOWN
    if all(any(is_part(r, b) for b in base.regions) for r in patch.regions) and patch.regions:
        return base  # put back where it came from: nothing moved
    below = [r for region in base.regions if (r := uncovered(region, left, top, right, bottom)) is not None]
    regions = (*below, *patch.regions)
    return Trace(base.width, base.height, regions) if len(regions) <= MAX_PIECES else UNKNOWN


def uncovered(region: Region, left: float, top: float, right: float, bottom: float) -> Region | None:
    """What a box leaves of a region: nothing, a smaller rectangle, or (where that is no rectangle) the region itself, partly hidden."""
    xs, ys = [p[0] for p in region.polygon], [p[1] for p in region.polygon]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    if left <= x0 and top <= y0 and right >= x1 and bottom >= y1:
        return None
    if len(region.polygon) != 4 or any(x not in (x0, x1) or y not in (y0, y1) for x, y in region.polygon):
        return region
    if left <= x0 and right >= x1 and top < y1 and bottom > y0 and (top <= y0 or bottom >= y1):
        y0, y1 = (bottom, y1) if top <= y0 else (y0, top)
    elif top <= y0 and bottom >= y1 and left < x1 and right > x0 and (left <= x0 or right >= x1):
        x0, x1 = (right, x1) if left <= x0 else (x0, left)
    else:
        return region
    return Region(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), region.matrix, region.source)


def is_part(region: Region, whole: Region) -> bool:
    """The region shows what the whole already shows there."""
    if region.matrix != whole.matrix or region.source != whole.source:
        return False
    turn = 1.0 if area(whole.polygon) > 0 else -1.0
    edges = [(whole.polygon[i - 1], p) for i, p in enumerate(whole.polygon)]
    return all(turn * ((q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])) >= -1e-9 for x, y in region.polygon for p, q in edges)


def frame_of(trace: Trace | None) -> Frame | None:
    """The public Frame, or None where the origin is not known or nothing of a source is visible."""
    if trace is None or not trace.known or not trace.regions or trace.flat:
        return None
    pieces = tuple(Piece(r.polygon, (r.matrix[0:3], r.matrix[3:6], r.matrix[6:9]), r.source) for r in trace.regions)
    return Frame(pieces)


def root_of(obj: Any) -> Any:
    """The array whose memory a view shows; anything else is its own root."""
    return obj.base if type(obj) is np.ndarray and type(obj.base) is np.ndarray else obj


class Registry:
    """object identity -> Trace, for the pictures and arrays of one run."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[weakref.ref[Any], Trace, Trace | None]] = {}  # object, its trace, its root's trace at that time

    def put(self, obj: Any, trace: Trace) -> None:
        if len(self.rows) > 4096:  # loops make and drop many pictures
            self.rows = {k: row for k, row in self.rows.items() if row[0]() is not None}
        root = root_of(obj)
        self.rows[id(obj)] = (weakref.ref(obj), trace, None if root is obj else self.own(root))

    def own(self, obj: Any) -> Trace | None:
        """The trace that was given to exactly this object; UNKNOWN once the array under a view was changed; None for none."""
        row = self.rows.get(id(obj))
        if row is None or row[0]() is not obj:
            return None
        root = root_of(obj)
        return row[1] if root is obj or self.own(root) is row[2] else UNKNOWN

    def spoil(self, obj: Any) -> None:
        """The object is about to hold something else: forget what is known of it and of the array under it."""
        root = root_of(obj)
        if root is not obj and self.own(root) is not None:
            self.put(root, Trace(0, 0, (), False))  # a new object, so that other views of it notice
        if self.own(obj) is not None:
            self.put(obj, Trace(0, 0, (), False))

    def of(self, obj: Any) -> Trace | None:
        """The trace of a picture or array, also of a view; None where it shows no source as far as we know."""
        trace = self.own(obj)
        if trace is not None or not isinstance(obj, np.ndarray):
            return trace
        root = obj.base
        if not isinstance(root, np.ndarray):
            return None
        base = self.own(root)
        if base is None or not base.known or not base.regions:
            return base
        if base.flat:
            return UNKNOWN
        if obj.ndim <= 1 and obj.size <= 4:
            return None  # one pixel: where it goes is watched by pixels.py
        view = view_of(root, obj)
        return UNKNOWN if view is None else moved(base, view.to_root, view.width, view.height)


@dataclass(frozen=True, slots=True)
class View:
    """How a view looks at its root array: the size of the view in pixels and its map to the root, in pixel corners."""

    width: int
    height: int
    to_root: Matrix
    plain: bool  # steps of +1 only, not transposed: a rectangle of the root


def view_of(root: np.ndarray, view: np.ndarray) -> View | None:
    """Decode a view of an (H, W) or (H, W, C) root array from its address and strides. None: not a picture of it."""
    if root.ndim not in (2, 3) or view.ndim not in (2, 3) or view.size == 0 or view.dtype.itemsize != root.dtype.itemsize:
        return None
    units = {"y": root.strides[0], "x": root.strides[1]}
    outer, inner = ("y", "x") if units["y"] > units["x"] else ("x", "y")
    if units[inner] <= 0 or (root.ndim == 3 and root.shape[2] > 1 and not 0 < root.strides[2] < units[inner]):
        return None
    extent = {"y": root.shape[0], "x": root.shape[1]}
    start = {}
    offset = view.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    start[outer], rest = divmod(offset, units[outer])
    start[inner] = rest // units[inner]
    if view.ndim == 3 and view.shape[2] > 1 and abs(view.strides[2]) >= units[inner]:
        return None
    axes = []  # for rows and columns of the view: the root axis, the step
    for stride, length in zip(view.strides[:2], view.shape[:2], strict=True):
        axis = next((a for a in (outer, inner) if stride % units[a] == 0), None)
        if axis is None or stride == 0:
            return None
        step = stride // units[axis]
        if not 0 <= start[axis] + (length - 1) * step < extent[axis]:
            return None
        axes.append((axis, step))
    if axes[0][0] == axes[1][0]:
        return None
    scale = {axis: float(step) for axis, step in axes}
    shift = {axis: float(start[axis] if step > 0 else start[axis] + 1) for axis, step in axes}
    if axes[0][0] == "y":
        matrix = (scale["x"], 0.0, shift["x"], 0.0, scale["y"], shift["y"], 0.0, 0.0, 1.0)
    else:  # the rows of the view run along x of the root
        matrix = (0.0, scale["x"], shift["x"], scale["y"], 0.0, shift["y"], 0.0, 0.0, 1.0)
    return View(view.shape[1], view.shape[0], matrix, axes == [("y", 1), ("x", 1)])
