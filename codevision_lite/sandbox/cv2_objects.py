"""Checks of OpenCV's objects (ORB, SIFT, CLAHE, matchers): how they may be made, and the work of their methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from codevision_lite.sandbox import checks
from codevision_lite.sandbox.checks import argument, numbers_in
from codevision_lite.sandbox.cv2_checks import Args, Kwargs, cells_of, general
from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import TooLarge

# Layers, octaves, scales and grids multiply the work and the memory: their places among the arguments, and the most that is possible.
FACTORY_LIMITS: dict[str, dict[str, tuple[int, float]]] = {
    "createCLAHE": {"tileGridSize": (1, 256)}, "SIFT_create": {"nOctaveLayers": (1, 10), "sigma": (4, 10)},
    "ORB_create": {"nlevels": (2, 32), "edgeThreshold": (3, 256), "patchSize": (7, 256)}, "BRISK_create": {"octaves": (1, 8)},
    "AKAZE_create": {"nOctaves": (4, 8), "nOctaveLayers": (5, 8)}, "createLineSegmentDetector": {"scale": (1, 2), "n_bins": (7, 4096)},
}  # fmt: skip
DETECTION_STEPS = {"ORB_create": 400.0, "SIFT_create": 4000.0, "BRISK_create": 12_000.0}  # per pixel, measured; the others 1,500


def factory(name: str) -> Any:
    def check(args: Args, kwargs: Kwargs) -> None:
        checks.small(100_000, 0)(args, kwargs)
        for parameter, (index, limit) in FACTORY_LIMITS.get(name, {}).items():
            if numbers_in(argument(args, kwargs, index, parameter, 0)) > limit:
                raise TooLarge(f"{parameter} is too large (at most {limit:g})")

    return check


def detector(name: str) -> Any:
    def check(args: Args, kwargs: Kwargs) -> None:
        general(args, kwargs)
        spend_work(cells_of(args[:1]) * DETECTION_STEPS.get(name, 1500.0), "this detection")

    return check


def matcher(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    sizes = [a.shape for a in args if isinstance(a, np.ndarray) and a.ndim == 2]
    if len(sizes) >= 2:
        spend_work(4.0 * sizes[0][0] * sizes[1][0] * sizes[0][1], "this matching")
        kept = numbers_in(argument(args, kwargs, 2, "k", 1))
        session.budget.spend_bytes(200.0 * sizes[0][0] * min(max(1.0, kept), sizes[1][0]), "these matches")


def grid(args: Args, kwargs: Kwargs) -> None:
    checks.small(256, 0)(args, kwargs)


METHOD_CHECKS = {
    "apply": general, "setClipLimit": general, "setTilesGridSize": grid, "match": matcher, "knnMatch": matcher,
}  # fmt: skip
