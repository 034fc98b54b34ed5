"""Frame algebra: the eight orientations of a rectangle, 3x3 maps, boxes and convex regions seen through frames.

Frames are pixel corners: x right, y down, origin at the top-left corner; boxes are (x1, y1, x2, y2); sizes are (W, H).
A matrix maps result pixels to source pixels (column vectors). Angles are degrees counter-clockwise, as PIL.
Plain floats on the hot paths: a picture has a handful of corners, and the reward calls this thousands of times a
second. Does not run image operations for the model (sandbox/) and does not decide what is worth a reward (reward/).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
from PIL import Image

from codevision_lite.errors import UserError
from codevision_lite.records import Box, Frame, Piece

Point = tuple[float, float]
Polygon = Sequence[Point]
Matrix = Sequence[Sequence[float]]

ORIENTATIONS = ("rotate_90", "rotate_180", "rotate_270", "flip_horizontal", "flip_vertical")

# The linear part, result -> source, of each element of the rectangle's dihedral group. Everything else here is derived.
_LINEAR = {
    "identity": ((1, 0), (0, 1)),
    "rotate_90": ((0, -1), (1, 0)),
    "rotate_180": ((-1, 0), (0, -1)),
    "rotate_270": ((0, 1), (-1, 0)),
    "flip_horizontal": ((-1, 0), (0, 1)),
    "flip_vertical": ((1, 0), (0, -1)),
    "transpose": ((0, 1), (1, 0)),
    "transverse": ((0, -1), (-1, 0)),
}
_NAME = {linear: name for name, linear in _LINEAR.items()}
_PIL = {
    "rotate_90": Image.Transpose.ROTATE_90,
    "rotate_180": Image.Transpose.ROTATE_180,
    "rotate_270": Image.Transpose.ROTATE_270,
    "flip_horizontal": Image.Transpose.FLIP_LEFT_RIGHT,
    "flip_vertical": Image.Transpose.FLIP_TOP_BOTTOM,
    "transpose": Image.Transpose.TRANSPOSE,
    "transverse": Image.Transpose.TRANSVERSE,
}
_EPSILON = 1e-9  # pixels: below it, a corner lies on an edge


class Overlap(NamedTuple):
    """How well a view shows a target; areas are compared in source pixels. All in [0, 1]."""

    iou: float
    precision: float  # share of the view that is target
    recall: float  # share of the target that is in view


def apply_op(image: Image.Image, name: str) -> Image.Image:
    """Apply a named orientation exactly, without resampling; "identity" copies. Raises UserError for other names."""
    _linear(name)
    return image.copy() if name == "identity" else image.transpose(_PIL[name])


def op_matrix(name: str, width: float, height: float) -> np.ndarray:
    """(3, 3) float64, result -> source pixel corners, of a named orientation of a source of `width` x `height` pixels.

    >>> op_matrix("rotate_90", 30, 20).tolist()  # the result's origin is the source's top-right corner
    [[0.0, -1.0, 30.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    rows = _linear(name)
    # an axis that runs backwards starts at the far edge
    offset = [extent if -1 in row else 0.0 for row, extent in zip(rows, (width, height), strict=True)]
    return np.array([[*rows[0], offset[0]], [*rows[1], offset[1]], [0, 0, 1]], dtype=np.float64)


def compose_ops(names: Sequence[str]) -> str:
    """Give the one orientation that equals applying `names` from first to last.

    >>> compose_ops(["flip_horizontal", "flip_vertical"])
    'rotate_180'
    """
    net = _LINEAR["identity"]
    for name in names:
        net = _product(net, _linear(name))  # result -> source: the last operation is undone first
    return _NAME[net]


def inverse_op(name: str) -> str:
    """Give the orientation that undoes `name` (the matrices are orthogonal: the inverse is the transposed matrix)."""
    (a, b), (c, d) = _linear(name)
    return _NAME[(a, c), (b, d)]


def net_orientation(frame: Frame | None, tolerance_deg: float = 1.0) -> str | None:
    """Name the orientation that a picture has relative to its source, as the operation applied to the source.

    Any positive scale is allowed, also different ones along x and y. None where it cannot be named: unknown frame,
    pieces that disagree, perspective, or an axis more than `tolerance_deg` degrees off the vertical and horizontal.
    """
    if frame is None or not frame.pieces:
        return None
    first = _snap(frame.pieces[0], tolerance_deg)
    if first is None or any(_snap(piece, tolerance_deg) != first for piece in frame.pieces[1:]):
        return None
    return _NAME.get(first)


def compose(inner: Frame | None, outer: Frame | Sequence[Frame | None] | None) -> Frame | None:
    """Join result -> middle and middle -> source into result -> source; polygons are clipped where the middle's end.

    `outer`: the frame of the one middle picture, or one frame for each picture that `inner` names in `Piece.source`.
    None where a needed frame is unknown, and where the result shows nothing of the source.
    """
    if inner is None or outer is None:
        return None
    pieces: list[Piece] = []
    for part in inner.pieces:
        middle = outer if isinstance(outer, Frame) else outer[part.source]
        if middle is None:
            return None
        pieces += (joined for base in middle.pieces if (joined := _join(part, base)) is not None)
    return Frame(tuple(pieces)) if pieces else None


def map_box(matrix: Matrix | np.ndarray, box: Box) -> Box:
    """Bounding box of `box` after mapping its corners by `matrix`. Raises ValueError where one maps to infinity."""
    corners = map_polygon(matrix, box_polygon(box))
    if not corners:
        raise ValueError(f"the box {box} reaches beyond the horizon of this perspective map")
    return _bounds(corners)


def map_polygon(matrix: Matrix | np.ndarray, polygon: Polygon) -> list[Point]:
    """Map corners by a 3x3 matrix; an empty list where one lies on or behind the horizon of a perspective map."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    if g == 0 and h == 0 and i == 1:
        return [(a * x + b * y + c, d * x + e * y + f) for x, y in polygon]
    mapped = []
    for x, y in polygon:
        w = g * x + h * y + i
        if w * i <= _EPSILON:  # the sign of the origin's w is the visible side
            return []
        mapped.append(((a * x + b * y + c) / w, (d * x + e * y + f) / w))
    return mapped


def box_polygon(box: Box) -> list[Point]:
    x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes of the same frame, in [0, 1]; 0 where both are empty."""
    inter = _box_area(_box_intersection(a, b))
    union = _box_area(a) + _box_area(b) - inter
    return inter / union if union > 0 else 0.0


def containment(target: Box, box: Box) -> float:
    """Share of `target` that lies inside `box`, in [0, 1]; 0 for an empty target."""
    area = _box_area(target)
    return _box_area(_box_intersection(target, box)) / area if area > 0 else 0.0


def area(polygon: Polygon) -> float:
    """Area of a simple polygon, in square pixels."""
    return abs(_signed_area(polygon))


def clip(polygon: Polygon, convex: Polygon) -> list[Point]:
    """Intersect a convex polygon with another one exactly (Sutherland-Hodgman); fewer than 3 corners: disjoint."""
    clipped = list(polygon)
    for start, end in _edges(convex):
        clipped = _half_plane(clipped, start, end, 1.0)
        if not clipped:
            break
    return clipped


def union_area(polygons: Sequence[Polygon]) -> float:
    """Exact area, in square pixels, that convex polygons cover together (overlaps count once)."""
    if len(polygons) == 1:
        return area(polygons[0])
    total, bounds = 0.0, [_bounds(polygon) for polygon in polygons]
    for index, polygon in enumerate(polygons):
        fresh = [list(polygon)]
        for earlier in range(index):
            if _box_area(_box_intersection(bounds[earlier], bounds[index])) > 0:
                fresh = [part for whole in fresh for part in _subtract(whole, polygons[earlier])]
        total += sum(map(area, fresh))
    return total


def source_regions(frame: Frame, source: int = 0, size: tuple[float, float] | None = None) -> list[list[Point]]:
    """What a picture shows of one source: convex polygons in its pixels, cut to its (W, H) where given."""
    regions = [map_polygon(piece.matrix, piece.polygon) for piece in frame.pieces if piece.source == source]
    if size is not None:
        width, height = size
        picture = box_polygon((0.0, 0.0, width, height))
        regions = [r if all(0 <= x <= width and 0 <= y <= height for x, y in r) else clip(r, picture) for r in regions]
    return [region for region in regions if len(region) >= 3 and math.isfinite(area(region))]


def frame_overlap(frame: Frame | None, target_box: Box, size: tuple[float, float] | None = None) -> Overlap:
    """Compare what a picture shows of source 0 with a box in source 0 pixels, exactly, over all pieces.

    `size`: (W, H) of the source, to ignore what a frame claims beyond its edges. All zeros for an unknown frame.
    """
    return Overlap(0.0, 0.0, 0.0) if frame is None else regions_overlap(source_regions(frame, size=size), target_box)[0]


def regions_overlap(regions: Sequence[Polygon], target_box: Box | None) -> tuple[Overlap, float]:
    """Compare convex regions with a box of the same frame; also their joint area, in square pixels."""
    shown = union_area(regions)
    wanted = _box_area(target_box) if target_box else 0.0
    if shown <= 0 or wanted <= 0:
        return Overlap(0.0, 0.0, 0.0), shown
    target = box_polygon(target_box)
    inter = union_area([cut for region in regions if len(cut := clip(region, target)) >= 3])
    inter = min(inter, shown, wanted)  # rounding
    return Overlap(inter / (shown + wanted - inter), inter / shown, inter / wanted), shown


def _linear(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    try:
        return _LINEAR[name]
    except KeyError:
        near = get_close_matches(name, _LINEAR, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; use one of {', '.join(_LINEAR)}"
        raise UserError(f"unknown orientation {name!r}{hint}") from None


def _product(p: tuple, q: tuple) -> tuple[tuple[int, int], tuple[int, int]]:
    (a, b), (c, d) = p
    (e, f), (g, h) = q
    return (a * e + b * g, a * f + b * h), (c * e + d * g, c * f + d * h)


def _snap(piece: Piece, tolerance_deg: float) -> tuple | None:
    """The signed permutation nearest to a piece's linear part, or None where an axis is too far off."""
    (a, b, _), (c, d, _), (g, h, i) = piece.matrix
    reach = max(max(abs(x), abs(y)) for x, y in piece.polygon)
    if i == 0 or max(abs(g), abs(h)) * reach > 1e-3 * abs(i):  # bends by over a thousandth
        return None
    flip = 1 if i > 0 else -1
    limit = math.sin(math.radians(tolerance_deg))
    columns = [_snap_axis(a * flip, c * flip, limit), _snap_axis(b * flip, d * flip, limit)]
    if None in columns:
        return None
    (p, r), (q, s) = columns
    return (p, q), (r, s)


def _snap_axis(x: float, y: float, limit: float) -> tuple[int, int] | None:
    length = math.hypot(x, y)
    if length < _EPSILON:
        return None
    if abs(y) <= limit * length:
        return (1 if x > 0 else -1), 0
    if abs(x) <= limit * length:
        return 0, (1 if y > 0 else -1)
    return None


def _join(part: Piece, base: Piece) -> Piece | None:
    """One inner piece over one outer piece; None where they do not meet."""
    middle = map_polygon(part.matrix, part.polygon)
    if len(middle) < 3:
        return None
    matrix = np.array(base.matrix) @ np.array(part.matrix)
    polygon = part.polygon
    if not _inside(middle, base.polygon):
        cut = clip(middle, base.polygon)
        if len(cut) < 3 or area(cut) <= _EPSILON:
            return None
        polygon = _map_back(part.matrix, cut)
    rows = tuple(tuple(float(v) for v in row) for row in matrix)
    return Piece(tuple(polygon), rows, base.source)


def _map_back(matrix: Matrix, points: Polygon) -> list[Point]:
    lifted = np.c_[np.array(points), np.ones(len(points))] @ np.linalg.inv(np.array(matrix)).T
    return [(float(x / w), float(y / w)) for x, y, w in lifted]


def _inside(polygon: Polygon, convex: Polygon) -> bool:
    slack = 1e-6  # pixels: rounding of composed maps must not shave a whole picture into slivers
    for (x1, y1), (x2, y2) in _edges(convex):
        length = math.hypot(x2 - x1, y2 - y1)
        if any((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) < -slack * length for x, y in polygon):
            return False
    return True


def _edges(convex: Polygon) -> list[tuple[Point, Point]]:
    """The edges, directed so that the inside lies towards (-dy, dx), whatever way the corners run."""
    ordered = list(convex) if _signed_area(convex) >= 0 else list(reversed(convex))
    return list(zip(ordered, ordered[1:] + ordered[:1], strict=True))


def _half_plane(polygon: list[Point], start: Point, end: Point, side: float) -> list[Point]:
    """Keep the part of a convex polygon on one side (1.0 inside, -1.0 outside) of a line."""
    (x1, y1), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
    distances = [side * (dx * (y - y1) - dy * (x - x1)) for x, y in polygon]
    if not distances or min(distances) >= 0:
        return polygon
    kept: list[Point] = []
    for k, (px, py) in enumerate(polygon):
        here, before = distances[k], distances[k - 1]
        if (here >= 0) != (before >= 0):
            qx, qy = polygon[k - 1]
            t = before / (before - here)
            kept.append((qx + t * (px - qx), qy + t * (py - qy)))
        if here >= 0:
            kept.append((px, py))
    return kept


def _subtract(polygon: list[Point], convex: Polygon) -> list[list[Point]]:
    """A convex polygon without another one, as convex parts: cut off what lies outside each edge in turn."""
    parts, rest = [], polygon
    for start, end in _edges(convex):
        outside = _half_plane(rest, start, end, -1.0)
        if len(outside) >= 3 and area(outside) > _EPSILON:
            parts.append(outside)
        rest = _half_plane(rest, start, end, 1.0)
        if len(rest) < 3:
            break
    return parts


def _signed_area(polygon: Polygon) -> float:
    total = 0.0
    x1, y1 = polygon[-1] if polygon else (0.0, 0.0)
    for x2, y2 in polygon:
        total += x1 * y2 - x2 * y1
        x1, y1 = x2, y2
    return total / 2


def _bounds(polygon: Polygon) -> Box:
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return min(xs), min(ys), max(xs), max(ys)


def _box_intersection(a: Box, b: Box) -> Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _box_area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
