"""Pictures in: open upright RGB, one resize policy for every stage, and names by content.

The resize policy is set once, on the image processor (`set_pixel_budget`); no call passes sizes of its own, so the model
sees the same pixels in SFT, RL and evaluation. Tool code always works on the full-resolution picture.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from codevision_lite.errors import UserError
from codevision_lite.records import StoredPicture

MAX_SOURCE_PIXELS = 100_000_000  # a 100 MP photo is 300 MB of RGB; beyond that it is a mistake or an attack
MAX_ASPECT = 200  # Qwen's resize refuses thinner pictures


def open_image(image: str | Path | Image.Image | StoredPicture) -> Image.Image:
    """The picture as upright RGB (EXIF orientation applied, transparency on white).

    A picture in memory is taken as it lies there, without its EXIF.
    Raises UserError naming the file where it is missing, unreadable, empty, too large or too thin.
    """
    if isinstance(image, Image.Image):
        return _rgb(image)
    if not isinstance(image, str | Path):
        return _rgb(image.decode())
    path = Path(image)
    if not path.is_file():
        raise UserError(f"{path}: no such image file. Check the path in the row, or rebuild the data with: make synth")
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            if width * height > MAX_SOURCE_PIXELS or max(width, height) >= MAX_ASPECT * min(width, height):
                raise UserError(f"{path}: {width}x{height} pixels is outside the limits ({MAX_SOURCE_PIXELS} pixels, aspect {MAX_ASPECT})")
            return _rgb(ImageOps.exif_transpose(opened))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as e:
        raise UserError(f"{path}: not a readable image ({e}). Replace the file or drop the row") from e


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def set_pixel_budget(processor: Any, min_pixels: int, max_pixels: int) -> None:
    """Set the model's view of a picture, in pixels of area after its resize (sides are multiples of 28 px)."""
    processor.image_processor.size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}


def content_name(image: Image.Image) -> str:
    """A name from the pixels alone: equal pictures get equal names."""
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()[:16]


def save_png(image: Image.Image, folder: Path) -> str:
    """Write the RGB picture as `folder`/<content name>.png unless it is there; returns the file name."""
    name = f"{content_name(image)}.png"
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # A quarter of the time of Pillow's default, for files a third larger.
        ok, encoded = cv2.imencode(".png", np.asarray(image)[:, :, ::-1], (
            cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP,
        ))  # fmt: skip
        assert ok, f"OpenCV could not encode a picture of {image.size} pixels, mode {image.mode}"
        partial = path.with_suffix(".part")
        partial.write_bytes(encoded)
        partial.replace(path)
    return name
