"""What each cv2 function does to the origin of pixels. cv2's own maps are between pixel centres; ours are between pixel corners."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from codevision_lite.sandbox.array_trace import Args, Kwargs, keep, lose, move, put, results_of, size_of, trace_of, traces_in
from codevision_lite.sandbox.checks import argument
from codevision_lite.sandbox.numpy_trace import side_trace
from codevision_lite.sandbox.oplog import measure_change, record
from codevision_lite.sandbox.pil_trace import apply_dihedral, off_centre
from codevision_lite.sandbox.trace import UNKNOWN, Matrix, inverse, multiply, translation

T = Image.Transpose
HALF, MINUS_HALF = translation(0.5, 0.5), translation(-0.5, -0.5)


def kept(name: str) -> Any:
    """Keeps the geometry; logged with its change."""

    def trace(args: Args, kwargs: Kwargs, result: Any) -> None:
        outputs = results_of(result)
        if not outputs:
            return
        first = args[0] if args else None
        if moves_content(name, args, kwargs):
            lose(args, kwargs, result)
            return
        source = trace_of(first) if isinstance(first, np.ndarray) else None
        keep(args, kwargs, result)
        if source is not None and source.regions:
            named = {f"arg{i}": a for i, a in enumerate(args[1:])} | kwargs
            record(name, measure_change(first, outputs[0]), **named)

    return trace


KERNELS = {"filter2D": (2, "kernel"), "erode": (1, "kernel"), "dilate": (1, "kernel"), "morphologyEx": (2, "kernel")}


def moves_content(name: str, args: Args, kwargs: Kwargs) -> bool:
    """A filter whose weight or anchor lies off its centre shifts the picture."""
    if "anchor" in kwargs or any(isinstance(a, tuple) and a != (-1, -1) and name in KERNELS for a in args[3:5]):
        return True
    if name == "sepFilter2D":
        return any(off_centre(np.asarray(argument(args, kwargs, i, n)).reshape(-1, 1)) for i, n in ((2, "kernelX"), (3, "kernelY")))
    kernel = argument(args, kwargs, *KERNELS[name]) if name in KERNELS else None
    return kernel is not None and off_centre(np.asarray(kernel))


def drawn(name: str) -> Any:
    """Drawing changes its first argument in place; drawKeypoints returns a new picture."""

    def trace(args: Args, kwargs: Kwargs, result: Any) -> None:
        if name == "drawKeypoints" or (isinstance(result, np.ndarray) and args and result is not args[0]):
            keep(args[:1], {}, result)
        record(f"draw.{name}", **{f"arg{i}": a for i, a in enumerate(args[1:])})

    return trace


def resize(args: Args, kwargs: Kwargs, result: Any) -> None:
    # limit: for fx, fy that give a fractional size OpenCV scales by 1/fx; the sizes' ratio differs by less than half a source pixel
    (w, h), (nw, nh) = size_of(args[0]), size_of(result)
    move(result, args[0], (w / nw, 0.0, 0.0, 0.0, h / nh, 0.0, 0.0, 0.0, 1.0))
    record("resize", size=[nw, nh])


def pyramid(args: Args, kwargs: Kwargs, result: Any) -> None:
    resize(args, kwargs, result)


ROTATIONS = {cv2.ROTATE_90_CLOCKWISE: T.ROTATE_270, cv2.ROTATE_180: T.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE: T.ROTATE_90}


def rotate(args: Args, kwargs: Kwargs, result: Any) -> None:
    apply_dihedral(args[0], ROTATIONS[argument(args, kwargs, 1, "rotateCode")], result, size_of(args[0]))


def flip(args: Args, kwargs: Kwargs, result: Any) -> None:
    code = argument(args, kwargs, 1, "flipCode")
    method = T.FLIP_TOP_BOTTOM if code == 0 else T.FLIP_LEFT_RIGHT if code > 0 else T.ROTATE_180
    apply_dihedral(args[0], method, result, size_of(args[0]))


def transpose(args: Args, kwargs: Kwargs, result: Any) -> None:
    apply_dihedral(args[0], T.TRANSPOSE, result, size_of(args[0]))


def warp_map(matrix: Any, flags: int) -> Matrix | None:
    """Result corner points -> source corner points of cv2.warp*: conjugated by half a pixel, inverted unless WARP_INVERSE_MAP."""
    rows = np.asarray(matrix, dtype=np.float64)
    full = tuple(float(v) for v in (np.vstack([rows, [0, 0, 1]]) if rows.shape == (2, 3) else rows).ravel())
    centres: Matrix | None = full if flags & cv2.WARP_INVERSE_MAP else inverse(full)  # type: ignore[assignment,arg-type]
    return None if centres is None else multiply(HALF, multiply(centres, MINUS_HALF))


def warp_affine(args: Args, kwargs: Kwargs, result: Any) -> None:
    warp(args, kwargs, result, "affine")


def warp_perspective(args: Args, kwargs: Kwargs, result: Any) -> None:
    warp(args, kwargs, result, "perspective")


def warp(args: Args, kwargs: Kwargs, result: Any, name: str) -> None:
    matrix, flags = argument(args, kwargs, 1, "M"), int(argument(args, kwargs, 4, "flags", 1))
    mode = int(argument(args, kwargs, 5, "borderMode", 0))
    if mode == cv2.BORDER_TRANSPARENT:
        lose(args, kwargs, result)
    else:
        move(result, args[0], warp_map(matrix, flags))
    record(f"warp.{name}", matrix=np.asarray(matrix, dtype=float).round(9).tolist(), size=list(size_of(result)))


def border(args: Args, kwargs: Kwargs, result: Any) -> None:
    top, left = int(argument(args, kwargs, 1, "top")), int(argument(args, kwargs, 3, "left"))
    move(result, args[0], translation(-left, -top))
    record("pad", border=[left, top])


def hconcat(args: Args, kwargs: Kwargs, result: Any) -> None:
    side_trace(list(args[0]), result, 1)


def vconcat(args: Args, kwargs: Kwargs, result: Any) -> None:
    side_trace(list(args[0]), result, 0)


def rect_sub_pix(args: Args, kwargs: Kwargs, result: Any) -> None:
    (w, h), (cx, cy) = argument(args, kwargs, 1, "patchSize"), argument(args, kwargs, 2, "center")
    left, top = float(cx) - (w - 1) * 0.5, float(cy) - (h - 1) * 0.5
    move(result, args[0], translation(left, top))
    record("crop", box=[left, top, left + w, top + h])


def kmeans(args: Args, kwargs: Kwargs, result: Any) -> None:
    """One label per sample: a list of pixels stays one; the centres are colours."""
    trace = trace_of(args[0])
    if trace is not None and (trace.regions or not trace.known):
        put(result[1], trace if trace.flat == result[1].shape[0] else UNKNOWN)


def repeat(args: Args, kwargs: Kwargs, result: Any) -> None:
    if traces_in(args):
        put(result, UNKNOWN)
