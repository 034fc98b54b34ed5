"""The list of operations of a run, and how much a picture changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.records import Op
from codevision_lite.sandbox.facade import Fn, SafeType, session


def record(name: str, change: float | None = None, **arguments: Any) -> None:
    """Append an Op directly."""
    if not session.quiet and len(session.ops) < session.ops_limit:
        session.ops.append(Op(name, {k: as_json(v) for k, v in arguments.items()}, change))


def as_json(value: Any, depth: int = 0) -> Any:
    """A small JSON value that says what was passed."""
    if value is None or type(value) is bool:
        return value
    if type(value) in (int, float):  # JSON has no infinity, and readers of JSON no larger whole numbers
        return value if abs(value) < 1 << 53 else f"{value:.3g}" if isinstance(value, float) else "a very large number"
    if isinstance(value, str):
        return value[:100]
    if isinstance(value, np.generic):
        return as_json(value.item()) if value.dtype.kind in "biuf" else str(value)[:100]
    if isinstance(value, int):  # PIL's enums
        return int(value)
    if isinstance(value, list | tuple) and depth < 3:
        return [as_json(v, depth + 1) for v in value[:16]]
    if isinstance(value, np.ndarray):
        return as_json(value.tolist(), depth) if value.size <= 16 else f"array {value.shape}"
    if isinstance(value, Image.Image):
        return f"image {value.width}x{value.height}"
    return f"<{value.name if isinstance(value, SafeType | Fn) else type(value).__name__}>"


def measure_change(before: Any, after: Any) -> float | None:
    """Mean absolute change in [0, 1], on a grid of pixels; exactly 0.0 only for pictures that are equal everywhere."""
    a, b = sample(before), sample(after)
    if a is None or b is None or a.shape != b.shape:
        return None
    change = float(np.abs(a - b).mean())
    if change == 0.0:
        return 0.0 if same_pixels(before, after) else 1e-6
    return change


def sample(picture: Any) -> np.ndarray | None:
    """(~48, ~64[, C]) float32 in [0, 1]; None for what has no natural range."""
    if isinstance(picture, Image.Image):
        if picture.mode not in ("1", "L", "LA", "RGB", "RGBA", "RGBX", "HSV", "YCbCr", "LAB", "CMYK", "P"):
            return None
        if picture.mode in ("1", "P"):
            picture = picture.convert("RGB")
        small = picture.resize((min(64, picture.width), min(48, picture.height)), Image.Resampling.NEAREST)
        return np.asarray(small, dtype=np.float32) / 255
    if isinstance(picture, np.ndarray) and picture.ndim in (2, 3) and picture.dtype == np.uint8 and picture.size:
        rows, cols = max(1, picture.shape[0] // 48), max(1, picture.shape[1] // 64)
        return picture[::rows, ::cols].astype(np.float32) / 255
    return None


def same_pixels(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Image.Image) and isinstance(b, Image.Image):
        return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))
