"""What each PIL operation does to the origin of pixels: the map from the result's corner points to the input's.

Formulas follow Pillow: AFFINE and PERSPECTIVE data are in corner coordinates, crop rounds half to even, rotate(90) with expand is exact.
Returns None where the geometry can not be said in one 3x3 map.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from codevision_lite.sandbox.array_trace import Args, Kwargs, lose, move, put, spoil, trace_of
from codevision_lite.sandbox.checks import argument
from codevision_lite.sandbox.oplog import measure_change, record
from codevision_lite.sandbox.trace import IDENTITY, UNKNOWN, Matrix, Trace, pasted, translation

T = Image.Transpose
# transposition method -> (op name, op arguments), map of a result point to the input of width w and height h
TRANSPOSED = {
    T.FLIP_LEFT_RIGHT: ("flip", {"direction": "horizontal"}, lambda w, h: (-1, 0, w, 0, 1, 0, 0, 0, 1)),
    T.FLIP_TOP_BOTTOM: ("flip", {"direction": "vertical"}, lambda w, h: (1, 0, 0, 0, -1, h, 0, 0, 1)),
    T.ROTATE_90: ("rotate", {"angle": 90, "expand": True}, lambda w, h: (0, -1, w, 1, 0, 0, 0, 0, 1)),
    T.ROTATE_180: ("rotate", {"angle": 180, "expand": True}, lambda w, h: (-1, 0, w, 0, -1, h, 0, 0, 1)),
    T.ROTATE_270: ("rotate", {"angle": 270, "expand": True}, lambda w, h: (0, 1, 0, -1, 0, h, 0, 0, 1)),
    T.TRANSPOSE: ("transpose", {"method": "transpose"}, lambda w, h: (0, 1, 0, 1, 0, 0, 0, 0, 1)),
    T.TRANSVERSE: ("transpose", {"method": "transverse"}, lambda w, h: (0, -1, w, -1, 0, h, 0, 0, 1)),
}


def dihedral(method: int, width: int, height: int) -> Matrix:
    """The map of Image.transpose(method) for an input of width x height."""
    return tuple(float(v) for v in TRANSPOSED[T(method)][2](width, height))  # type: ignore[return-value]


def transpose(args: Args, kwargs: Kwargs, result: Any) -> None:
    method = T(int(argument(args, kwargs, 1, "method")))
    apply_dihedral(args[0], method, result)


def apply_dihedral(source: Any, method: Any, result: Any, size: tuple[int, int] | None = None) -> None:
    name, arguments, _ = TRANSPOSED[T(method)]
    width, height = size or source.size
    move(result, source, dihedral(method, width, height))
    record(name, **arguments)


def crop(args: Args, kwargs: Kwargs, result: Any) -> None:
    box = argument(args, kwargs, 1, "box")
    if box is None:
        move(result, args[0], IDENTITY)
        return
    left, top, right, bottom = (round(float(v)) for v in box)
    move(result, args[0], translation(left, top))
    record("crop", box=[left, top, right, bottom])


def scaling(box: tuple[float, float, float, float], width: float, height: float) -> Matrix:
    """Result of width x height showing `box` of the input."""
    left, top, right, bottom = box
    return ((right - left) / width, 0.0, left, 0.0, (bottom - top) / height, top, 0.0, 0.0, 1.0)


def resize(args: Args, kwargs: Kwargs, result: Any) -> None:
    source = args[0]
    box = argument(args, kwargs, 3, "box")
    region = tuple(float(v) for v in box) if box is not None else (0.0, 0.0, float(source.width), float(source.height))
    move(result, source, scaling(region, *result.size))  # type: ignore[arg-type]
    arguments: dict[str, Any] = {"size": list(result.size)}
    if box is not None:
        arguments["box"] = list(region)
    record("resize", **arguments)


def reduce(args: Args, kwargs: Kwargs, result: Any) -> None:
    factor = argument(args, kwargs, 1, "factor")
    fx, fy = factor if isinstance(factor, list | tuple) else (factor, factor)
    box = argument(args, kwargs, 2, "box") or (0, 0)
    move(result, args[0], (float(fx), 0.0, float(box[0]), 0.0, float(fy), float(box[1]), 0.0, 0.0, 1.0))
    record("resize", size=list(result.size))


def rotation(image_size: tuple[int, int], angle: float, expand: bool, center: Any, translate: Any, result_size: Any) -> Matrix:
    """The map of Image.rotate, as Pillow computes it."""
    w, h = image_size
    angle = float(angle) % 360.0
    if not (center or translate):
        if angle == 0:
            return IDENTITY
        if angle == 180:
            return dihedral(T.ROTATE_180, w, h)
        if angle in (90, 270) and (expand or w == h):
            return dihedral(T.ROTATE_90 if angle == 90 else T.ROTATE_270, w, h)
    post = translate or (0, 0)
    cx, cy = center or (w / 2.0, h / 2.0)
    a = -math.radians(angle)
    m = [round(math.cos(a), 15), round(math.sin(a), 15), 0.0, round(-math.sin(a), 15), round(math.cos(a), 15), 0.0]

    def at(x: float, y: float) -> tuple[float, float]:
        return m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]

    m[2], m[5] = at(-cx - post[0], -cy - post[1])
    m[2] += cx
    m[5] += cy
    if expand:
        nw, nh = result_size
        m[2], m[5] = at(-(nw - w) / 2.0, -(nh - h) / 2.0)
    return (m[0], m[1], m[2], m[3], m[4], m[5], 0.0, 0.0, 1.0)


def rotate(args: Args, kwargs: Kwargs, result: Any) -> None:
    angle = float(argument(args, kwargs, 1, "angle"))
    expand = bool(argument(args, kwargs, 3, "expand", False))
    center, translate = argument(args, kwargs, 4, "center"), argument(args, kwargs, 5, "translate")
    move(result, args[0], rotation(args[0].size, angle, expand, center, translate, result.size))
    extra = {"center": list(center)} if center else {}
    record("rotate", angle=angle, expand=expand, **extra)


def transform(args: Args, kwargs: Kwargs, result: Any) -> None:
    method = int(argument(args, kwargs, 2, "method"))
    data = argument(args, kwargs, 3, "data")
    move(result, args[0], transform_map(method, data, result.size))
    name = {0: "affine", 1: "crop", 2: "perspective", 3: "quad", 4: "mesh"}.get(method, "transform")
    if method == 1:
        record("crop", box=list(data))
        record("resize", size=list(result.size))
    else:
        record(f"transform.{name}", data=data, size=list(result.size))


def transform_map(method: int, data: Any, size: tuple[int, int]) -> Matrix | None:
    d = [float(v) for v in data] if method in (0, 1, 2, 3) else []
    if method == Image.Transform.AFFINE:
        return (d[0], d[1], d[2], d[3], d[4], d[5], 0.0, 0.0, 1.0)
    if method == Image.Transform.EXTENT:
        return scaling((d[0], d[1], d[2], d[3]), *size)
    if method == Image.Transform.PERSPECTIVE:
        return (d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], 1.0)
    if method == Image.Transform.QUAD:  # bilinear; one 3x3 map only for a parallelogram. Corners: nw, sw, se, ne
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = zip(d[::2], d[1::2], strict=True)
        if abs(x0 - x1 + x2 - x3) < 1e-9 and abs(y0 - y1 + y2 - y3) < 1e-9:
            w, h = size
            return ((x3 - x0) / w, (x1 - x0) / h, x0, (y3 - y0) / w, (y1 - y0) / h, y0, 0.0, 0.0, 1.0)
    return None


def paste(args: Args, kwargs: Kwargs, result: Any) -> None:
    """Image.paste / alpha_composite in place: the pasted picture covers its box."""
    base, patch = args[0], argument(args, kwargs, 1, "im")
    box = argument(args, kwargs, 2, "box")
    if not isinstance(patch, Image.Image):
        return
    if isinstance(box, Image.Image):
        box = None
    left, top = (0, 0) if box is None else (int(box[0]), int(box[1]))
    below, above = trace_of(base), trace_of(patch)
    record("paste", box=[left, top, left + patch.width, top + patch.height])
    if above is None or (above.known and not above.regions):
        return
    below = below if below is not None else Trace(*base.size)
    partly = argument(args, kwargs, 3, "mask") is not None or patch.mode in ("RGBA", "LA", "PA") or not callable_paste(args)
    if partly and below.regions and above != below:  # both may be seen in the same place
        put(base, UNKNOWN)
        return
    area = (left, top, left + patch.width, top + patch.height)
    put(base, pasted(below, above, translation(-left, -top), area))


def callable_paste(args: Args) -> bool:
    """paste() called as paste(picture, mask): the box is left out."""
    return not (len(args) > 2 and isinstance(args[2], Image.Image))


MAX_SHIFT = 0.6  # px between the centre of a kernel and that of its weight (0.5 for EMBOSS) where a picture still counts as in place


def off_centre(kernel: np.ndarray) -> bool:
    weight = np.abs(kernel.astype(np.float64))
    if kernel.ndim != 2 or not weight.sum() > 0:
        return True
    ys, xs = np.indices(weight.shape)
    centre = [float((axis * weight).sum() / weight.sum()) - (n - 1) / 2 for axis, n in zip((ys, xs), weight.shape, strict=True)]
    return max(map(abs, centre)) > MAX_SHIFT


def filtered(args: Args, kwargs: Kwargs, result: Any) -> None:
    """Image.filter keeps the geometry, unless the code's own kernel shifts the picture."""
    chosen = argument(args, kwargs, 1, "filter")
    if type(chosen) is ImageFilter.Kernel and off_centre(np.reshape(chosen.filterargs[3], chosen.filterargs[0])):
        lose(args[:1], {}, result)
        record("filter", measure_change(args[0], result), arg0=chosen)
    else:
        photometric("filter")(args, kwargs, result)


def thumbnail(image: Any, size: Any, *args: Any, **kwargs: Any) -> None:
    before, trace = image.size, trace_of(image)
    image.thumbnail(size, *args, **kwargs)
    if image.size != before:
        if trace is not None:
            from codevision_lite.sandbox.trace import moved

            put(image, moved(trace, scaling((0, 0, *before), *image.size), *image.size))
        record("resize", size=list(image.size))


def photometric(name: str) -> Any:
    """A trace function for a pixel by pixel operation that is logged with its change."""
    from codevision_lite.sandbox.array_trace import keep

    def trace(args: Args, kwargs: Kwargs, result: Any) -> None:
        keep(args, kwargs, result)
        source = trace_of(args[0]) if args else None
        if source is not None and source.regions:
            named = {f"arg{i}": a for i, a in enumerate(args[1:])} | kwargs
            record(name, measure_change(args[0], result), **named)

    return trace


def spoiled(args: Args, kwargs: Kwargs, result: Any) -> None:
    spoil(args[0])
