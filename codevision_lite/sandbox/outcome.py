"""Which picture the code meant as its result, checked against the limits and compared with the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox import messages
from codevision_lite.sandbox.array_trace import trace_of
from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.numpy_facade import fromarray_input
from codevision_lite.sandbox.oplog import measure_change
from codevision_lite.sandbox.trace import UNKNOWN, Trace, pasted, translation

RESULT_NAMES = ("result", "output", "processed_image")
INPUT_NAMES = ("img", "image")
MODES = ("RGB", "L", "RGBA")


@dataclass(frozen=True)
class Outcome:
    """What a run came to: its status, message, and the picture with its trace."""

    status: Any
    message: str
    image: Image.Image | None = None
    trace: Trace | None = None


def choose(namespace: dict[str, Any], provided: dict[str, Any], limits: Limits) -> Outcome:
    """Find the result among the names, the saved pictures and the last expression."""
    value = None
    for name in RESULT_NAMES:
        value = namespace.get(name)
        if value is not None:
            if not is_result(value):
                return Outcome("error", messages.wrong_result(name, value))
            break
    if value is None and session.outputs:
        value = session.outputs
    if value is None and is_result(session.last):
        value = session.last
    if value is None:
        value = changed_input(namespace, provided)
    if value is None:
        return Outcome("error", messages.no_result(namespace, provided))
    return conclude(value, limits)


def is_result(value: Any) -> bool:
    if isinstance(value, Image.Image):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim in (2, 3) and value.size > 0
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(v, Image.Image) or (isinstance(v, np.ndarray) and is_result(v)) for v in value)
    )


def changed_input(namespace: dict[str, Any], provided: dict[str, Any]) -> Any:
    """`img` or `image`, where the code bound it anew or drew on it."""
    for name in INPUT_NAMES:
        value = namespace.get(name)
        if value is None or not is_result(value) or isinstance(value, list | tuple):
            continue
        if value is not provided.get(name) or value.im is not session.sources[session.index].im:
            return value
    return None


def conclude(value: Any, limits: Limits) -> Outcome:
    if isinstance(value, list | tuple):
        if len(value) > limits.output_images:
            return Outcome("output", f"The result has {len(value)} images; at most {limits.output_images} are possible.")
        parts = [to_picture(v) for v in value]
        image, trace = parts[0] if len(parts) == 1 else side_by_side(parts)
        note = "" if len(parts) == 1 else f" ({len(parts)} images side by side)"
    else:
        image, trace = to_picture(value)
        note = ""
    if problem := output_problem(image, limits):
        return Outcome("output", problem)
    if is_unchanged(image):
        return Outcome("error", messages.UNCHANGED, image, trace)
    return Outcome("ok", f"Image: {image.width}x{image.height} pixels{note}.", image, trace)


def to_picture(value: Any) -> tuple[Image.Image, Trace | None]:
    """A plain picture in RGB, RGBA or L that shares nothing with the code's objects, and its trace."""
    trace = trace_of(value)
    if isinstance(value, np.ndarray):
        value = Image.fromarray(fromarray_input(value))
    if value.mode not in MODES:
        value = value.convert("L" if value.mode in ("1", "I;16") else "RGBA" if value.mode in ("LA", "PA", "La", "RGBa") else "RGB")
    return value, trace


def output_problem(image: Image.Image, limits: Limits) -> str | None:
    width, height = image.size
    if width == 0 or height == 0:
        return f"The result is empty ({width}x{height} pixels)."
    if width * height > limits.output_pixels:
        return f"The result of {width}x{height} pixels is too large; at most {limits.output_pixels:,} pixels. Resize it."
    if max(width, height) >= limits.output_aspect * min(width, height):
        ratio = f"the long side must be below {limits.output_aspect:g} times the short side"
        return f"The result of {width}x{height} pixels is too narrow: {ratio}."
    return None


def is_unchanged(image: Image.Image) -> bool:
    before = session.sources[session.index]
    return image.size == before.size and image.mode == before.mode and measure_change(before, image) == 0.0


def side_by_side(parts: list[tuple[Image.Image, Trace | None]]) -> tuple[Image.Image, Trace | None]:
    """Several pictures on one white canvas, left to right, tops aligned."""
    width, height = sum(p.width for p, _ in parts), max(p.height for p, _ in parts)
    session.budget.spend_pixels(width, height)
    canvas, trace, x = Image.new("RGB", (width, height), "white"), Trace(width, height), 0
    for picture, part in parts:
        canvas.paste(picture.convert("RGB"), (x, 0))
        trace = pasted(trace, part if part is not None else UNKNOWN, translation(-x, 0), (x, 0, x + picture.width, picture.height))
        x += picture.width
    return canvas, trace
