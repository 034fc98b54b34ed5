"""Pictures inside the page: as data URIs, small ones enlarged by whole factors, with the target's outline drawn over them."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from codevision_lite.records import Box, Frame

SHOWN_PX = 256  # the long side on the page, at most
KEPT_PX = 512  # a larger picture is embedded at this long side: sharp on a screen of twice the density
TRUE_SIZE = re.compile(rb"(\d{1,6})x(\d{1,6})")  # the comment of a smaller copy
PNG_LIMIT = 60_000  # bytes; above, a photograph is meant and JPEG serves it better

Polygon = Sequence[tuple[float, float]]


def picture_html(path: str, caption: str, alt: str, target: Polygon | None = None, long_side: int = SHOWN_PX) -> str:
    """A figure. `target`: an outline in pixels of this picture. A file that can't be read is said to be missing."""
    embedded = embed(path)
    if embedded is None:
        return f'<figure class="picture"><p class="missing">picture not found: {escape(Path(path).name)}</p></figure>'
    uri, width, height = embedded
    scale = long_side / max(width, height)
    if scale >= 1:
        scale = int(scale)  # whole factors keep the pixels square
    css = ' class="pixels"' if scale >= 2 else ""
    outline = _outline(target, width, height) if target else ""
    return (
        f'<figure class="picture"><div class="frame" style="width:{round(width * scale)}px">'
        f'<img{css} src="{uri}" width="{width}" height="{height}" alt="{escape(alt)}">{outline}</div>'
        f"<figcaption>{escape(caption)} · {width}×{height} px</figcaption></figure>"
    )


def box_outline(box: Box) -> Polygon:
    """The four corners of (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = box
    return ((x1, y1), (x2, y1), (x2, y2), (x1, y2))


def outline_in_result(box: Box, frame: Frame | None) -> Polygon | None:
    """A box of image 0 in the pixels of a result with this frame; None if the frame is unknown, composed or not invertible."""
    if frame is None or len(frame.pieces) != 1 or frame.pieces[0].source != 0:
        return None
    matrix = frame.matrix
    if abs(np.linalg.det(matrix)) < 1e-9:
        return None
    corners = np.c_[np.array(box_outline(box)), np.ones(4)] @ np.linalg.inv(matrix).T
    if np.any(np.abs(corners[:, 2]) < 1e-9):
        return None
    return [(float(x / w), float(y / w)) for x, y, w in corners]


def _outline(polygon: Polygon, width: int, height: int) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in polygon)
    return (
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true"><polygon class="halo" points="{points}"/>'
        f'<polygon class="target" points="{points}"/></svg>'
    )


def embed(path: str) -> tuple[str, int, int] | None:
    """(data URI, width, height); width and height are those of the file, also where fewer pixels are embedded, and of the
    picture itself where the file is a smaller copy that says so in its comment."""
    try:
        with Image.open(path) as file:
            image, comment = file.convert("RGB"), file.info.get("comment")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    true_size = TRUE_SIZE.fullmatch(comment) if isinstance(comment, bytes) else None
    width, height = map(int, true_size.groups()) if true_size else image.size
    image.thumbnail((KEPT_PX, KEPT_PX))
    kind, content = "png", _encode(image, "PNG", optimize=True)
    if len(content) > PNG_LIMIT:
        kind, content = "jpeg", _encode(image, "JPEG", quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", width, height


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
