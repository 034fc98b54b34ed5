"""Sizes and costs of cv2 calls before they run: scalars to 2e6, outputs to the limit, windows times pictures to 3e10 steps."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from codevision_lite.sandbox import checks
from codevision_lite.sandbox.checks import argument, numbers_in
from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import TooLarge

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def cells_of(args: Args) -> float:
    """Cells of the arrays among the arguments, also of those in lists."""
    total = 0.0
    for a in args:
        if isinstance(a, np.ndarray):
            total += a.size
        elif isinstance(a, list | tuple) and len(a) and isinstance(a[0], np.ndarray):
            total += sum(float(np.size(v)) for v in a)
    return total


def general(args: Args, kwargs: Kwargs) -> None:
    """Every number is at most 2e6; the work is a few steps per cell; no array is empty or None (OpenCV crashes on some of those)."""
    if args and args[0] is None:
        raise TypeError("the first argument must be an array, not None")
    for value in (*args, *kwargs.values()):
        if not isinstance(value, np.ndarray):
            if numbers_in(value) > 2e6:
                raise TooLarge("a number in the arguments is too large (at most 2e6)")
        elif value.ndim == 0:
            raise TypeError("cv2 needs numbers as int or float, not as arrays without axes")
        elif value.size == 0:
            raise ValueError(f"the array is empty (shape {value.shape})")
    cells = cells_of(args)
    session.budget.spend_bytes(4.0 * cells, "this array")
    session.budget.ticks_left -= int(cells / 1e5)


MAX_WINDOW = 10_000  # rows of a window that OpenCV keeps in memory


def floats(args: Args, kwargs: Kwargs) -> None:
    """OpenCV 4.14 crashes on whole numbers in cv2.sqrt."""
    general(args, kwargs)
    for value in (*args, *kwargs.values()):
        if isinstance(value, np.ndarray) and value.dtype not in (np.float32, np.float64):
            raise TypeError(f"an array of floats is needed, not of {value.dtype}; use arr.astype(np.float32)")


def power(args: Args, kwargs: Kwargs) -> None:
    """cv2.pow: whole numbers only to a whole power."""
    exponent = float(argument(args, kwargs, 1, "power", 1))
    general(args, kwargs) if exponent.is_integer() else floats(args, kwargs)


def undistort(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    if not isinstance(argument(args, kwargs, 1, "cameraMatrix"), np.ndarray):
        raise TypeError("cameraMatrix must be an array of shape (3, 3)")


def colours(args: Args, kwargs: Kwargs) -> None:
    """The functions that clone and recolour crash on anything but pictures of three channels."""
    heavy(args, kwargs)
    if not (args and isinstance(args[0], np.ndarray) and args[0].ndim == 3 and args[0].shape[2] == 3 and args[0].dtype == np.uint8):
        raise ValueError("a picture of shape (H, W, 3) and dtype uint8 is needed")


def side_of(size: Any, what: str) -> float:
    side = max(1.0, numbers_in(size))
    if side > MAX_WINDOW:
        raise TooLarge(f"{what} of {side:g} pixels is too large (at most {MAX_WINDOW:,})")
    return side


def drawing(args: Args, kwargs: Kwargs) -> None:
    target = args[0] if args else None
    if (isinstance(target, np.ndarray) and not (target.ndim == 2 or (target.ndim == 3 and 1 <= target.shape[2] <= 4))) or target is None:
        raise ValueError("cv2 draws on an array of shape (H, W) or (H, W, 3)")
    checks.text(2000)(args, {k: v for k, v in kwargs.items() if k != "thickness"})
    for value in (*args[1:], *kwargs.values()):
        if numbers_in(value) > 100_000:
            raise TooLarge("a coordinate is too large (at most 100,000)")
        if isinstance(value, list | tuple) and sum(np.size(v) for v in value[:10_000]) > 2_000_000:
            raise TooLarge("too many points")
    points = max((float(np.size(v)) if isinstance(v, np.ndarray) else float(sum(np.size(p) for p in v)) for v in args[1:3]
                  if isinstance(v, np.ndarray | list | tuple)), default=0.0)  # fmt: skip
    if points > 16:
        numbers = [numbers_in(v) for v in (*args[3:], *kwargs.values()) if isinstance(v, int | float)]
        spend_work(points * (2500.0 + 2000.0 * min(max(numbers, default=1.0), 1000.0)), "this drawing")
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
        side = side_of(size.shape if isinstance(size, np.ndarray) and name == "kernel" else size, f"a {name}")
        spend_work(cells_of(args[:1]) * side**power * factor, f"a window of {side:g}")

    return check


def gaussian(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    side = max(
        numbers_in(argument(args, kwargs, 1, "ksize", 3)),
        8 * numbers_in(argument(args, kwargs, 2, "sigmaX", 0)),
        8 * numbers_in(argument(args, kwargs, 4, "sigmaY", 0)),
    )
    side_of(side, "a Gaussian window")
    spend_work(cells_of(args[:1]) * max(1.0, side) * 2, f"a Gaussian window of {side:g}")


def morphology(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    kernels = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, np.ndarray)]
    area = max((float(k.size) for k in kernels), default=9.0)
    numbers = [numbers_in(v) for v in (*args[2:], kwargs.get("iterations", 1)) if isinstance(v, int | float)]
    iterations = max([1.0, *numbers])
    if iterations > 1000:
        raise TooLarge("too many iterations")
    spend_work(cells_of(args[:1]) * area * iterations, "this morphology")


def denoise(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    numbers = [numbers_in(a) for a in (*args[2:], *kwargs.values()) if not isinstance(a, np.ndarray)]
    search, template = max([21.0, *numbers]), numbers_in(kwargs.get("templateWindowSize", args[-2] if len(args) > 4 else 7))
    spend_work(cells_of(args[:1]) * search**2 * 2.0 * max(7.0, template), "this denoising")


def bilateral(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    d = numbers_in(argument(args, kwargs, 1, "d", 0))
    side = d if d > 0 and argument(args, kwargs, 1, "d", 0) > 0 else 3 * numbers_in(argument(args, kwargs, 3, "sigmaSpace", 1))
    spend_work(cells_of(args[:1]) * max(1.0, side) ** 2 * 4, "this bilateral filter")


def sized(index: int, name: str) -> Any:
    def check(args: Args, kwargs: Kwargs) -> None:
        general(args, kwargs)
        size = argument(args, kwargs, index, name)
        if isinstance(size, list | tuple | np.ndarray) and len(size) == 2:
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
            spend_work(110.0 * a.size * min(a.shape), "this matrix computation")


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
    spend_work(cells_of(args[:1]) * k * max(1.0, rounds) * max(1.0, attempts) * 4, "this clustering")


def template(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    masked = len(args) > 4 or "mask" in kwargs
    spend_work(cells_of(args[:1]) * (1600.0 if masked else 400.0), "this template matching")


def cut(args: Args, kwargs: Kwargs) -> None:
    """cv2.grabCut"""
    general(args, kwargs)
    rounds = numbers_in(argument(args, kwargs, 5, "iterCount", 1))
    spend_work(cells_of(args[:1]) * 10_000.0 * max(1.0, rounds), "this segmentation")


def estimation(args: Args, kwargs: Kwargs) -> None:
    """findHomography and its kin: every round looks at every point."""
    general(args, kwargs)
    rounds = max([2000.0, *(numbers_in(v) for v in (*args[2:], *kwargs.values()) if isinstance(v, int))])
    spend_work(cells_of(args[:1]) * 30.0 * rounds, "this estimation")


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
    picture, threshold = args[0], float(argument(args, kwargs, 5, "param1", 100))
    if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 2):
        return  # OpenCV says what is wrong
    edges = cv2.countNonZero(cv2.Canny(picture, threshold / 2, threshold))
    centres = picture.size / max(1.0, numbers_in(argument(args, kwargs, 3, "minDist", 1))) ** 2
    spend_work(edges * 100.0 * (centres + max(picture.shape)), "this Hough transform")


def hough_lines(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    rho, theta = float(argument(args, kwargs, 1, "rho", 1)), float(argument(args, kwargs, 2, "theta", 0.01))
    if not rho >= 0.1 or not theta >= 1e-3:
        raise TooLarge("rho or theta is too small (at least 0.1 and 0.001)")
    if numbers_in((*args[5:7], kwargs.get("srn", 0), kwargs.get("stn", 0))) > 10_000:
        raise TooLarge("a number in the arguments is too large (at most 10,000)")
    if isinstance(args[0], np.ndarray):
        spend_work(25.0 * np.count_nonzero(args[0]) * (np.pi / theta), "this Hough transform")


def repeated(args: Args, kwargs: Kwargs) -> None:
    """cv2.repeat"""
    general(args, kwargs)
    times = [max(1.0, numbers_in(argument(args, kwargs, i, n, 1))) for i, n in ((1, "ny"), (2, "nx"))]
    session.budget.spend_bytes(8.0 * cells_of(args[:1]) * times[0] * times[1], "this array")


def fourier(args: Args, kwargs: Kwargs) -> None:
    """cv2.dft, idft, dct: a length with a large prime factor takes as many steps for every cell."""
    general(args, kwargs)
    for a in args[:1]:
        if isinstance(a, np.ndarray):
            spend_work(50.0 * a.size * sum(checks.largest_prime(n) for n in a.shape[:2]), "this transform")


def separable(args: Args, kwargs: Kwargs) -> None:
    general(args, kwargs)
    sides = [float(np.size(argument(args, kwargs, i, n, 1))) for i, n in ((2, "kernelX"), (3, "kernelY"))]
    side_of(max(sides), "a kernel")
    spend_work(cells_of(args[:1]) * sum(sides), "this filter")


CHECKS = {
    "GaussianBlur": gaussian, "blur": window(1, "ksize", 1.0), "boxFilter": window(2, "ksize", 1.0),
    "stackBlur": window(1, "ksize", 1.0), "sqrBoxFilter": window(2, "ksize", 1.0), "medianBlur": window(1, "ksize", 1.0, 8.0),
    "bilateralFilter": bilateral, "filter2D": window(2, "kernel"), "sepFilter2D": separable,
    **dict.fromkeys(("erode", "dilate", "morphologyEx"), morphology),
    "fastNlMeansDenoising": denoise, "fastNlMeansDenoisingColored": denoise, "inpaint": window(2, "inpaintRadius", 2.0, 40.0),
    "adaptiveThreshold": window(5, "blockSize", 1.0), "pyrMeanShiftFiltering": window(1, "sp", 2.0, 40.0),
    "cornerHarris": window(1, "blockSize", 1.0), "cornerMinEigenVal": window(1, "blockSize", 1.0),
    "goodFeaturesToTrack": window(6, "blockSize", 1.0), "preCornerDetect": window(1, "ksize", 1.0),
    "resize": resize, "warpAffine": sized(2, "dsize"), "warpPerspective": sized(2, "dsize"), "warpPolar": sized(1, "dsize"),
    "copyMakeBorder": border, "pyrUp": pyramid, "getRectSubPix": sized(1, "patchSize"), "repeat": repeated,
    **dict.fromkeys(("getGaussianKernel", "getStructuringElement", "getGaborKernel", "createHanningWindow", "ellipse2Poly"), kernel_size),
    **dict.fromkeys(("dft", "idft", "dct", "idct"), fourier),
    "gemm": gemm, "kmeans": kmeans, "matchTemplate": template, "grabCut": cut, "calcHist": histogram,
    **dict.fromkeys(("findHomography", "estimateAffine2D", "estimateAffinePartial2D"), estimation),
    "HoughCircles": hough_circles, "HoughLines": hough_lines, "HoughLinesP": hough_lines,
    **dict.fromkeys("edgePreservingFilter detailEnhance stylization pencilSketch decolor".split(), colours),
    **dict.fromkeys("seamlessClone illuminationChange colorChange textureFlattening".split(), colours),
    **dict.fromkeys("sqrt exp log magnitude phase cartToPolar polarToCart".split(), floats),
    "pow": power,
    "undistort": undistort,
    **dict.fromkeys(("eigen", "solve", "invert", "determinant", "SVDecomp"), matrix),
}  # fmt: skip


def for_function(name: str) -> Any:
    return CHECKS.get(name, general)
