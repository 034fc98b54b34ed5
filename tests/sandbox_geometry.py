"""The expected result -> source map of a benign snippet, from its list of operations; written without the sandbox's own geometry."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np


def expected_map(ops: list[list[Any]], size: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """(3x3 map of result corner points to the source, result size) for a source of `size` (W, H)."""
    total, (w, h) = np.eye(3), (float(size[0]), float(size[1]))
    for name, *args in ops:
        step, (w, h) = STEPS[name](w, h, *args)
        total = total @ step
    return total, (w, h)


def matrix(*values: float) -> np.ndarray:
    return np.array(values, dtype=float).reshape(3, 3)


def crop(w: float, h: float, left: float, top: float, right: float, bottom: float) -> Any:
    return matrix(1, 0, left, 0, 1, top, 0, 0, 1), (right - left, bottom - top)


def resize(w: float, h: float, nw: float, nh: float) -> Any:
    return matrix(w / nw, 0, 0, 0, h / nh, 0, 0, 0, 1), (nw, nh)


def rot90(w: float, h: float, k: int) -> Any:
    total = np.eye(3)
    for _ in range(k % 4):
        total = total @ matrix(0, -1, w, 1, 0, 0, 0, 0, 1)
        w, h = h, w
    return total, (w, h)


def fliph(w: float, h: float) -> Any:
    return matrix(-1, 0, w, 0, 1, 0, 0, 0, 1), (w, h)


def flipv(w: float, h: float) -> Any:
    return matrix(1, 0, 0, 0, -1, h, 0, 0, 1), (w, h)


def transpose(w: float, h: float) -> Any:
    return matrix(0, 1, 0, 1, 0, 0, 0, 0, 1), (h, w)


def pad(w: float, h: float, left: float, top: float, right: float, bottom: float) -> Any:
    return matrix(1, 0, -left, 0, 1, -top, 0, 0, 1), (w + left + right, h + top + bottom)


def rotate(w: float, h: float, degrees: float, expand: int) -> Any:
    a = -math.radians(degrees)
    linear = np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
    nw, nh = w, h
    if expand:
        corners = np.array([(0, 0), (w, 0), (w, h), (0, h)]) - (w / 2, h / 2)
        spread = corners @ linear + (w / 2, h / 2)  # the inverse rotation, by its transpose
        (x0, y0), (x1, y1) = spread.min(0), spread.max(0)
        nw, nh = math.ceil(round(x1, 9)) - math.floor(round(x0, 9)), math.ceil(round(y1, 9)) - math.floor(round(y0, 9))
    shift = np.array([w / 2, h / 2]) - linear @ np.array([nw / 2, nh / 2])
    return matrix(*linear[0], shift[0], *linear[1], shift[1], 0, 0, 1), (nw, nh)


def centred(m: np.ndarray) -> np.ndarray:
    """A map between pixel indices as a map between pixel corners."""
    return matrix(1, 0, 0.5, 0, 1, 0.5, 0, 0, 1) @ m @ matrix(1, 0, -0.5, 0, 1, -0.5, 0, 0, 1)


def rotate_cv(w: float, h: float, degrees: float) -> Any:
    m = np.vstack([cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1.0), [0, 0, 1]])
    return centred(np.linalg.inv(m)), (w, h)


def persp(w: float, h: float, *values: float) -> Any:
    return matrix(*values[:8], 1), values[8:10]


def quad_cv(w: float, h: float, source: Any, target: Any, nw: float, nh: float) -> Any:
    m = cv2.getPerspectiveTransform(np.array(source, np.float32), np.array(target, np.float32))
    return centred(np.linalg.inv(m)), (nw, nh)


STEPS = {"crop": crop, "resize": resize, "rot90": rot90, "fliph": fliph, "flipv": flipv, "transpose": transpose, "pad": pad,
         "rotate": rotate, "rotate_cv": rotate_cv, "persp": persp, "quad_cv": quad_cv}  # fmt: skip


def corner_error(a: np.ndarray, b: np.ndarray, corners: Any) -> float:
    """Largest distance, in source pixels, between what two maps say of the corners."""
    points = np.c_[np.asarray(corners, float), np.ones(len(corners))].T
    p, q = a @ points, b @ points
    return float(np.abs(p[:2] / p[2] - q[:2] / q[2]).max())
