"""Checks of arguments before a native call: sizes of pictures, numbers in range, length of text, cost of filters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import TooLarge

BIG = 1 << 53
Check = Callable[[tuple[Any, ...], dict[str, Any]], None]


def largest_prime(n: int) -> int:
    """The largest prime factor: what a Fourier transform of this length suffers from."""
    factor, largest = 2, 1
    while factor * factor <= n:
        if n % factor:
            factor += 1
        else:
            n, largest = n // factor, factor
    return max(n, largest)


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], index: int, name: str, default: Any = None) -> Any:
    """The argument that was passed by position or by name."""
    return args[index] if len(args) > index else kwargs.get(name, default)


def numbers_in(value: Any, depth: int = 0) -> float:
    """The largest absolute number inside an argument; infinity for nan. Arrays count by their extremes."""
    kind = type(value)
    if kind is int and -BIG < value < BIG:
        return float(abs(value))
    if kind is float and value == value:
        return abs(value)
    if isinstance(value, bool) or value is None or isinstance(value, str | bytes):
        return 0.0
    if isinstance(value, int | float | np.number):
        number = abs(float(value)) if not isinstance(value, int) or value.bit_length() < 1000 else math.inf
        return math.inf if math.isnan(number) else number
    if isinstance(value, list | tuple) and depth < 4:
        return max((numbers_in(v, depth + 1) for v in value), default=0.0)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.size and value.dtype.itemsize > 1:
        number = float(np.abs(value).max())
        return math.inf if math.isnan(number) else number
    return 0.0


def small(limit: float, skip: int = 1) -> Check:
    """All numbers among the arguments (from position `skip` on) are at most `limit`."""

    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for value in (*args[skip:], *kwargs.values()):
            if numbers_in(value) > limit:
                raise TooLarge(f"a number in the arguments is too large (at most {limit:g})")

    return check


def text(limit: int, index: int = 2) -> Check:
    """Drawing text: bounded length and numbers."""
    numbers = small(20_000)

    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        numbers(args, kwargs)
        for value in (*args, *kwargs.values()):
            if isinstance(value, str | bytes) and len(value) > limit:
                raise TooLarge(f"the text is too long to be drawn (at most {limit} characters)")
        if numbers_in(kwargs.get("stroke_width", 0)) > 100:
            raise TooLarge("stroke_width is too large (at most 100)")
        values = (*args, *kwargs.values())
        side = max((float(v.size) for v in values if isinstance(v, ImageFont.FreeTypeFont)), default=10.0)
        length = sum(len(v) for v in values if isinstance(v, str | bytes))
        spend_work(20.0 * length * (side + 2 * numbers_in(kwargs.get("stroke_width", 0))) ** 2, "this text")

    return check


def size_argument(index: int, name: str) -> Check:
    """An argument that is the (W, H) of a new picture."""

    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        size = argument(args, kwargs, index, name)
        if isinstance(size, list | tuple | np.ndarray) and len(size) == 2:
            check_size(size[0], size[1])

    return check


def check_size(width: Any, height: Any) -> None:
    if isinstance(width, int | float | np.number) and isinstance(height, int | float | np.number) and width > 0 and height > 0:
        session.budget.spend_pixels(width, height)


def crop_box(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Image.crop: the box may reach beyond the picture, but it must touch it, be ordered and of possible size."""
    box = argument(args, kwargs, 1, "box")
    image = args[0]
    if not isinstance(box, list | tuple | np.ndarray) or len(box) != 4:
        return
    left, top, right, bottom = (float(v) for v in box)
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError(f"crop box {box} is not finite")
    if right > left and bottom > top:
        check_size(right - left, bottom - top)
    advice = f"the image is {image.width}x{image.height} pixels, boxes are (left, top, right, bottom)"
    if right < left or bottom < top:
        raise ValueError(f"crop box {_short(box)} has right < left or bottom < top; {advice}")
    if round(right) <= round(left) or round(bottom) <= round(top):
        raise ValueError(f"crop box {_short(box)} is empty; {advice}")
    if left >= image.width or top >= image.height or right <= 0 or bottom <= 0:
        raise ValueError(f"crop box {_short(box)} lies outside the image; {advice}")


def _short(box: Any) -> str:
    return "(" + ", ".join(f"{float(v):g}" for v in box) + ")"


def rotated_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    image = args[0]
    angle = argument(args, kwargs, 1, "angle", 0)
    spend_work(image.width * image.height * sampling_cost(argument(args, kwargs, 2, "resample", 0)), "this rotation")
    if not math.isfinite(float(angle)) or abs(float(angle)) > 1e9:
        raise ValueError(f"angle {angle} is not an angle in degrees")
    if argument(args, kwargs, 3, "expand", False):
        a = math.radians(float(angle))
        w, h = image.size
        check_size(w * abs(math.cos(a)) + h * abs(math.sin(a)) + 1, w * abs(math.sin(a)) + h * abs(math.cos(a)) + 1)
    else:
        check_size(*image.size)


def same_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The result is as large as the picture."""
    if args and isinstance(args[0], Image.Image):
        session.budget.spend_pixels(*args[0].size)


def sampling_cost(resample: Any) -> float:
    """Steps per pixel of a warp: nearest, bilinear, bicubic."""
    return {0: 70.0, 2: 250.0}.get(resample if isinstance(resample, int) else 3, 500.0)


def warped(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Image.transform: the size, and for a mesh the area of all its boxes."""
    size_argument(1, "size")(args, kwargs)
    size, method, data = (argument(args, kwargs, i, n) for i, n in ((1, "size"), (2, "method"), (3, "data")))
    pixels = float(size[0]) * float(size[1])
    if int(method) == Image.Transform.MESH:
        pixels = sum(abs(float(box[2] - box[0]) * float(box[3] - box[1])) for box, _ in data)
    spend_work(pixels * sampling_cost(argument(args, kwargs, 4, "resample", 0)), "this transform")


def quantized(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Image.quantize: median cut (0), maximum coverage (1), k-means rounds afterwards."""
    small(256)(args, kwargs)
    same_size(args, kwargs)
    method, rounds = argument(args, kwargs, 2, "method", 0), numbers_in(argument(args, kwargs, 3, "kmeans", 0))
    cost = {1: 20_000.0, 2: 100.0}.get(method if isinstance(method, int) else 0, 3_000.0) + 10_000.0 * rounds
    spend_work(args[0].width * args[0].height * cost, "this palette")


def spread(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    small(10_000)(args, kwargs)
    same_size(args, kwargs)
    spend_work(args[0].width * args[0].height * 1000.0, "this effect")


# Steps per pixel, band and cell of the window, of the filters that sort; measured.
FILTER_COST = {"RankFilter": 90.0, "MedianFilter": 90.0, "MinFilter": 90.0, "MaxFilter": 90.0, "ModeFilter": 30.0}


def filter_cost(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Image.filter: the window of a rank filter times the picture."""
    image, kernel = args[0], argument(args, kwargs, 1, "filter")
    session.budget.spend_pixels(*image.size)
    name = type(kernel).__name__
    pixels = image.width * image.height * len(image.getbands())
    if name in FILTER_COST:
        spend_work(pixels * float(kernel.size) ** 2 * FILTER_COST[name], f"ImageFilter.{name}({kernel.size})")
    else:
        spend_work(pixels * 200.0, "this filter")
    radius = getattr(kernel, "radius", 0)
    if numbers_in(radius) > 2000:
        raise TooLarge("the filter radius is too large (at most 2000)")
