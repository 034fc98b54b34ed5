"""Sizes and costs of cv2 calls before they run: scalars to 2e6, outputs to the limit, windows times pictures to 3e10 steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from codevision_lite.sandbox import checks
from codevision_lite.sandbox.checks import argument, numbers_in
from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import TooLarge

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def cells_of(args: Args) -> float:
    return float(sum(a.size for a in args if isinstance(a, np.ndarray)))


def general(args: Args, kwargs: Kwargs) -> None:
    """Every number is at most 2e6; the work is a few steps per cell."""
    for value in (*args, *kwargs.values()):
        if not isinstance(value, np.ndarray) and numbers_in(value) > 2e6:
            raise TooLarge("a number in the arguments is too large (at most 2e6)")
    cells = cells_of(args)
    session.budget.spend_bytes(4.0 * cells)
    session.budget.ticks_left -= int(cells / 1e5)


def factory(args: Args, kwargs: Kwargs) -> None:
    checks.small(100_000, 0)(args, kwargs)
    grid = argument(args, kwargs, 1, "tileGridSize")
    if isinstance(grid, list | tuple) and numbers_in(grid) > 256:
        raise TooLarge("tileGridSize is too large (at most 256)")


def drawing(args: Args, kwargs: Kwargs) -> None:
    checks.text(2000)(args, {k: v for k, v in kwargs.items() if k != "thickness"})
    for value in (*args[1:], *kwargs.values()):
        if numbers_in(value) > 100_000:
            raise TooLarge("a coordinate is too large (at most 100,000)")
        if isinstance(value, list | tuple) and sum(np.size(v) for v in value[:10_000]) > 2_000_000:
            raise TooLarge("too many points")
    limits = {"thickness": 1000, "fontScale": 100}
    for name, limit in limits.items():
        if numbers_in(kwargs.get(name, 0)) > limit:
            raise TooLarge(f"{name} is too large (at most {limit})")
    if len(args) > 4 and any(isinstance(a, str) for a in args[:2]) and (numbers_in(args[4]) > 100 or numbers_in(args[6:7]) > 1000):
        raise TooLarge("fontScale or thickness is too large (at most 100 and 1000)")


def window(index: int, name: str, power: float = 2.0, factor: float = 1.0) -> Any:
    """A filter whose cost is picture x window^power."""

    def check(args: Args, kwargs: Kwargs) -> None:
        general(args, kwargs)
        size = argument(args, kwargs, index, name, 3)
        side = max(1.0, numbers_in(size.shape if isinstance(size, np.ndarray) and name == "kernel" else size))
        spend_work(cells_of(args[:1]) * side**power * factor, f"a window of {side:g}")

    return check


def gaussian(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    side = max(
        numbers_in(argument(args, kwargs, 1, "ksize", 3)),
        8 * numbers_in(argument(args, kwargs, 2, "sigmaX", 0)),
        8 * numbers_in(kwargs.get("sigmaY", 0)),
    )
    spend_work(cells_of(args[:1]) * max(1.0, side) * 2, f"a Gaussian window of {side:g}")


def morphology(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    kernels = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, np.ndarray)]
    area = max((float(k.size) for k in kernels), default=9.0)
    iterations = max(1.0, numbers_in(kwargs.get("iterations", args[5] if len(args) > 5 else 1)))
    if numbers_in(args[2:6]) > 1000:
        raise TooLarge("too many iterations")
    spend_work(cells_of(args[:1]) * area * iterations, "this morphology")


def denoise(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    numbers = [numbers_in(a) for a in (*args[2:], *kwargs.values()) if not isinstance(a, np.ndarray)]
    search = max([21.0, *numbers])
    spend_work(cells_of(args[:1]) * search**2 * 4, "this denoising")


def bilateral(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    d = numbers_in(argument(args, kwargs, 1, "d", 0))
    side = d if d > 0 and argument(args, kwargs, 1, "d", 0) > 0 else 3 * numbers_in(argument(args, kwargs, 3, "sigmaSpace", 1))
    spend_work(cells_of(args[:1]) * max(1.0, side) ** 2 * 4, "this bilateral filter")


def sized(index: int, name: str) -> Any:
    def check(args: Args, kwargs: Kwargs) -> None:
        general(args, kwargs)
        size = argument(args, kwargs, index, name)
        if isinstance(size, list | tuple) and len(size) == 2:
            checks.check_size(size[0], size[1])

    return check


def resize(args: Args, kwargs: Kwargs) -> None:
    sized(1, "dsize")(args, kwargs)
    fx, fy = argument(args, kwargs, 3, "fx", 0), argument(args, kwargs, 4, "fy", 0)
    if argument(args, kwargs, 1, "dsize") is None and fx and fy and isinstance(args[0], np.ndarray):
        checks.check_size(args[0].shape[1] * abs(fx), args[0].shape[0] * abs(fy))


def border(args: Args, kwargs: Kwargs) -> None:
    sides = [numbers_in(argument(args, kwargs, i, n, 0)) for i, n in ((1, "top"), (2, "bottom"), (3, "left"), (4, "right"))]
    if isinstance(args[0], np.ndarray) and args[0].ndim >= 2:
        checks.check_size(args[0].shape[1] + sides[2] + sides[3], args[0].shape[0] + sides[0] + sides[1])
    general(args, kwargs)


def kernel_size(args: Args, kwargs: Kwargs) -> None:
    checks.small(3000, 0)(args, kwargs)


def pyramid(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    if isinstance(args[0], np.ndarray) and args[0].ndim >= 2:
        checks.check_size(args[0].shape[1] * 2, args[0].shape[0] * 2)


def heavy(args: Args, kwargs: Kwargs) -> None:
    """Solvers over the whole picture: microseconds per pixel."""
    general(args, kwargs)
    spend_work(cells_of(args[:2]) * 2000.0, "this computation")


def matrix(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    for a in args[:1]:
        if isinstance(a, np.ndarray) and a.ndim == 2:
            spend_work(25.0 * a.size * min(a.shape), "this matrix computation")


def gemm(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    for a in args[:2]:
        if isinstance(a, np.ndarray) and a.ndim == 2:
            spend_work(float(a.size) * max(a.shape) * 4, "this matrix product")


def kmeans(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    k, attempts = numbers_in(argument(args, kwargs, 1, "K", 2)), numbers_in(argument(args, kwargs, 4, "attempts", 1))
    criteria = argument(args, kwargs, 3, "criteria", (0, 10, 1.0))
    rounds = min(numbers_in(criteria[1]), 100.0) if criteria[0] & 1 else 100.0
    if numbers_in(criteria[1]) > 1000 or attempts > 100:
        raise TooLarge("too many iterations")
    spend_work(cells_of(args[:1]) * k * max(1.0, rounds) * max(1.0, attempts) * 2, "this clustering")


def template(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    spend_work(cells_of(args[:1]) * 400.0, "this template matching")


def iterations(limit: float) -> Any:
    def check(args: Args, kwargs: Kwargs) -> None:
        general(args, kwargs)
        for value in (*args, *kwargs.values()):
            if isinstance(value, int) and abs(value) > limit:
                raise TooLarge(f"a number in the arguments is too large (at most {limit:g})")
        spend_work(cells_of(args) * 2000.0, "this computation")

    return check


def histogram(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    sizes = argument(args, kwargs, 3, "histSize", [256])
    total = 1.0
    for s in sizes if isinstance(sizes, list | tuple) else [sizes]:
        total *= float(s)
    if total > 2e7:
        raise TooLarge("too many bins")


def hough_circles(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    if float(argument(args, kwargs, 2, "dp", 1)) < 0.5:
        raise TooLarge("dp is too small (at least 0.5)")
    spend_work(cells_of(args[:1]) * 5000.0, "this Hough transform")


def hough_lines(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    rho, theta = float(argument(args, kwargs, 1, "rho", 1)), float(argument(args, kwargs, 2, "theta", 0.01))
    if not rho >= 0.1 or not theta >= 1e-3:
        raise TooLarge("rho or theta is too small (at least 0.1 and 0.001)")


CHECKS = {
    "GaussianBlur": gaussian, "blur": window(1, "ksize", 1.0), "boxFilter": window(2, "ksize", 1.0),
    "medianBlur": window(1, "ksize", 1.0, 8.0),
    "bilateralFilter": bilateral, "filter2D": window(2, "kernel"), "sepFilter2D": general, "erode": morphology, "dilate": morphology,
    "morphologyEx": morphology,
    "fastNlMeansDenoising": denoise, "fastNlMeansDenoisingColored": denoise, "inpaint": window(2, "inpaintRadius", 2.0, 8.0),
    "resize": resize,
    "warpAffine": sized(2, "dsize"), "warpPerspective": sized(2, "dsize"), "copyMakeBorder": border, "pyrUp": pyramid,
    "getRectSubPix": sized(1, "patchSize"),
    "getGaussianKernel": kernel_size, "getStructuringElement": kernel_size, "getGaborKernel": kernel_size,
    "createHanningWindow": kernel_size, "gemm": gemm, "kmeans": kmeans,
    "matchTemplate": template, "grabCut": iterations(100), "findHomography": iterations(20_000), "estimateAffine2D": iterations(20_000),
    "estimateAffinePartial2D": iterations(20_000), "calcHist": histogram, "HoughCircles": hough_circles, "HoughLines": hough_lines,
    "HoughLinesP": hough_lines,
    "warpPolar": sized(1, "dsize"), "adaptiveThreshold": window(5, "blockSize", 1.0), "Sobel": general,
    **dict.fromkeys(("edgePreservingFilter", "detailEnhance", "stylization", "pencilSketch", "seamlessClone", "decolor"), heavy),
    **dict.fromkeys(("illuminationChange", "colorChange", "textureFlattening"), heavy),
    **dict.fromkeys(("eigen", "solve", "invert", "determinant", "SVDecomp"), matrix),
    "pyrMeanShiftFiltering": window(1, "sp", 2.0, 4.0), "cornerHarris": window(1, "blockSize", 1.0), "repeat": border,
    "getOptimalDFTSize": general,
    "accumulateWeighted": general, "ellipse2Poly": kernel_size,
}  # fmt: skip


def for_function(name: str) -> Any:
    return CHECKS.get(name, general)
