"""Symbols and words as ink masks, from fonts that need no file (OpenCV's Hershey fonts and Pillow's built-in one).

The symbols are chosen so that no damaged symbol looks like another one: each asymmetric symbol has eight distinct
forms under rotation and reflection, and the symmetric ones say which damages leave them readable.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ASYMMETRIC = ("F", "G", "J", "P", "R", "2", "4", "7", "e", "k", "y", "?")
# A symmetric symbol -> the damages that leave it as it is. Only those are ever applied to it (samples.py), so a picture
# whose damage can't be told from its look carries no orientation requirement.
SYMMETRIC: dict[str, tuple[str, ...]] = {
    "A": ("flip_horizontal",),
    "E": ("flip_vertical",),
    "N": ("rotate_180",),
    "H": ("rotate_180", "flip_horizontal", "flip_vertical"),
    "X": ("rotate_180", "flip_horizontal", "flip_vertical"),
}
SYMBOLS = ASYMMETRIC + tuple(SYMMETRIC)
WORDS = ("GATE", "FORK", "JUMP", "REST", "PLAY", "FIRE", "KEY", "LEFT")
FACES = ("simplex", "duplex", "complex", "triplex", "sans", "sans-bold")

_HERSHEY = {
    "simplex": cv2.FONT_HERSHEY_SIMPLEX,
    "duplex": cv2.FONT_HERSHEY_DUPLEX,
    "complex": cv2.FONT_HERSHEY_COMPLEX,
    "triplex": cv2.FONT_HERSHEY_TRIPLEX,
}
_MASTER_HEIGHT = 96  # px; larger than any use, so masks are only ever shrunk


@lru_cache(maxsize=1024)
def _master(text: str, face: str, weight: int) -> np.ndarray:
    """(H, W) uint8 ink mask, cropped to the ink. `weight`: 0 thin, 1 regular, 2 heavy."""
    width = 90 * len(text) + 80
    if face in _HERSHEY:
        canvas = np.zeros((220, width), np.uint8)
        thickness = (7, 10, 14)[weight]
        cv2.putText(canvas, text, (30, 150), _HERSHEY[face], 4.0, 255, thickness, cv2.LINE_AA)
    else:
        picture = Image.new("L", (width, 220))
        stroke = (0, 1, 2)[weight] + (4 if face == "sans-bold" else 0)
        font = ImageFont.load_default(size=120)
        ImageDraw.Draw(picture).text((30, 30), text, fill=255, font=font, stroke_width=stroke, stroke_fill=255)
        canvas = np.asarray(picture)
    ys, xs = np.nonzero(canvas > 32)
    ink = canvas[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    scale = _MASTER_HEIGHT / ink.shape[0]
    return cv2.resize(ink, (max(1, round(ink.shape[1] * scale)), _MASTER_HEIGHT), interpolation=cv2.INTER_AREA)


def ink_mask(text: str, *, face: str, weight: int, height_px: float, max_width_px: float) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the text at about `height_px`, shrunk to fit `max_width_px`."""
    if "e" in text:  # heavy strokes close its gap, and a closed e looks the same mirrored or upside down
        face, weight = face.replace("-bold", ""), min(weight, 1)
    master = _master(text, face, weight)
    scale = min(height_px / master.shape[0], max_width_px / master.shape[1])
    size = (max(2, round(master.shape[1] * scale)), max(2, round(master.shape[0] * scale)))
    return cv2.resize(master, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
