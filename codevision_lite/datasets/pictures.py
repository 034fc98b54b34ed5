"""Pictures of a data set: decoded once to be sure that they can be, kept as the PNG or JPEG bytes that they came in.

What `open_image` would change (EXIF orientation, transparency, CMYK, other file formats) is stored as PNG of the result.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from codevision_lite.imaging import MAX_ASPECT, MAX_SOURCE_PIXELS, content_name, open_image

_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg"}
_EXIF_ORIENTATION = 0x0112
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # no EPS: Pillow opens it by running another program


@dataclass(frozen=True)
class Picture:
    """Encoded bytes that are known to decode. `name`: content name with its suffix; `size`: (W, H)."""

    data: bytes
    name: str
    size: tuple[int, int]

    def open(self) -> Image.Image:
        """The pixels, RGB."""
        return open_image(Image.open(io.BytesIO(self.data)))

    def save(self, folder: Path) -> str:
        """Write `folder`/`name` unless it is there whole; returns the name."""
        path = folder / self.name
        if not path.exists() or path.stat().st_size != len(self.data):
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            partial.write_bytes(self.data)
            os.replace(partial, path)
        return self.name


def unwrapped(value: Any) -> Any:
    """What is in a list of one, or in {"bytes": ..., "path": ...}. Raises ValueError for a list of another length."""
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f"{len(value)} pictures; one is needed")
        value = value[0]
    if isinstance(value, dict):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    return value


def read_picture(value: Any, folder: Path | None) -> Picture:
    """A picture from bytes, a path relative to `folder`, base64 text, {"bytes": ..., "path": ...}, or a list of one of these.

    Raises ValueError with the reason: nothing there, not a picture, cut, too large, too thin.
    """
    value = unwrapped(value)
    if isinstance(value, str):
        value = _read_text(value, folder)
    if not isinstance(value, bytes):
        raise ValueError(f"a picture must be a path, bytes or base64 text, got {'null' if value is None else type(value).__name__}")
    return _decode(value)


def _read_text(value: str, folder: Path | None) -> bytes:
    if not value.strip():
        raise ValueError("an empty path")
    head, _, body = value.partition(",")
    coded = body if head.startswith("data:image/") and head.endswith(";base64") else value
    if len(value) <= 1024 and coded is value:  # longer than any path: base64
        path = (folder or Path()) / value
        try:
            if path.is_file():
                return path.read_bytes()
        except (OSError, ValueError) as e:  # ValueError: a NUL in the path
            raise ValueError(f"{value!r} can't be read: {e}") from e
    try:
        data = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith((b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")):
        raise ValueError(f"no such image file: {value[:200]}")
    return data


def _decode(data: bytes) -> Picture:
    """Decode every pixel: a cut file has a good header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
                width, height = opened.size
                if width * height > MAX_SOURCE_PIXELS or max(width, height) >= MAX_ASPECT * min(width, height):
                    raise ValueError(f"{width}x{height} pixels is outside the limits ({MAX_SOURCE_PIXELS} pixels, aspect {MAX_ASPECT})")
                as_is = _is_plain(opened)
                image = open_image(ImageOps.exif_transpose(opened))
                suffix = _SUFFIXES.get(opened.format or "", ".png")
    except (OSError, SyntaxError, Image.DecompressionBombError, EOFError, KeyError, IndexError, TypeError, OverflowError) as e:
        raise ValueError(f"not a readable image: {e or type(e).__name__}") from e
    if not as_is:
        buffer, suffix = io.BytesIO(), ".png"
        image.save(buffer, "PNG")
        data = buffer.getvalue()
    return Picture(data, content_name(image) + suffix, image.size)


def _is_plain(opened: Image.Image) -> bool:
    """Whether any program that opens these bytes sees the pixels that we see."""
    return (
        opened.format in _SUFFIXES and opened.mode == "RGB" and "transparency" not in opened.info
        and getattr(opened, "n_frames", 1) == 1 and opened.getexif().get(_EXIF_ORIENTATION, 1) == 1
    )  # fmt: skip


def gray(picture: Picture) -> np.ndarray:
    """(H, W) uint8 brightness."""
    return np.asarray(picture.open().convert("L"))
