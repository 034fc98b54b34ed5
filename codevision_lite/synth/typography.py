"""Fonts for drawn pages, from packages that carry their files, so that the same seed gives the same pixels everywhere.

Sizes are in pixels (the font's em); `draw_text` returns the box of the ink, which is what boxes of answers are made of.
"""

from __future__ import annotations

import importlib.resources
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from codevision_lite.records import Box

# face -> (package of the Python Package Index, its font file)
_FILES = {
    "sans": ("font_source_sans_pro", "SourceSansPro-Regular.ttf"),
    "sans-bold": ("font_source_sans_pro", "SourceSansPro-Bold.ttf"),
    "sans-light": ("font_source_sans_pro", "SourceSansPro-Light.ttf"),
    "serif": ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    "serif-bold": ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    "serif-italic": ("font_source_serif_pro", "SourceSerifPro-It.ttf"),
    "book": ("font_caladea", "Caladea-Regular.ttf"),
    "book-bold": ("font_caladea", "Caladea-Bold.ttf"),
    "grotesk": ("font_manrope", "Manrope-Regular.ttf"),
    "grotesk-bold": ("font_manrope", "Manrope-Bold.ttf"),
    "poster": ("font_fredoka_one", "FredokaOne-Regular.ttf"),
    "narrow": ("font_amatic_sc", "AmaticSC-Bold.ttf"),
    "hand": ("font_intuitive", "Intuitive.ttf"),
}
FACES = tuple(_FILES)
TEXT_FACES = ("sans", "serif", "book", "grotesk")  # for running text; each but "serif-italic" has a "-bold"


@lru_cache(maxsize=512)
def font(face: str, size_px: int) -> ImageFont.FreeTypeFont:
    """A face of FACES at `size_px` pixels."""
    package, name = _FILES[face]
    with importlib.resources.as_file(importlib.resources.files(package) / "files" / name) as path:
        return ImageFont.truetype(str(path), size_px, layout_engine=ImageFont.Layout.BASIC)  # the same without libraqm


def draw_text(
    image: Image.Image, xy: tuple[float, float], text: str, *, face: str, size_px: int, fill: tuple[int, int, int] | int,
    anchor: str = "la",
) -> Box:  # fmt: skip
    """Write one line; `xy` and `anchor` as in Pillow. Returns the ink's box (x1, y1, x2, y2) in pixels."""
    draw, shape = ImageDraw.Draw(image), font(face, size_px)
    draw.text(xy, text, font=shape, fill=fill, anchor=anchor)
    return tuple(float(v) for v in draw.textbbox(xy, text, font=shape, anchor=anchor))


def text_width(text: str, face: str, size_px: int) -> float:
    """Advance of one line, in pixels."""
    return font(face, size_px).getlength(text)


def letter_height(face: str, size_px: int) -> float:
    """Height of a lower-case x, in pixels: what decides whether text can be read."""
    box = font(face, size_px).getbbox("x")
    return float(box[3] - box[1])


def wrap(text: str, face: str, size_px: int, width: float) -> list[str]:
    """Cut a text into lines of at most `width` pixels; a single word that is wider stands alone."""
    lines, used, space = [[]], 0.0, text_width(" ", face, size_px)
    for word in text.split():
        length = text_width(word, face, size_px)
        if lines[-1] and used + space + length > width:
            lines.append([])
            used = 0.0
        used += length + (space if lines[-1] else 0.0)
        lines[-1].append(word)
    return [" ".join(line) for line in lines]
