"""What the graphic families draw with: a sheet of antialiased shapes and text that knows where its text lies.

Coordinates are pixels of the sheet, (x, y) from the top left; boxes are (x1, y1, x2, y2); colours are (r, g, b).
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageDraw

from codevision_lite.records import Box
from codevision_lite.synth.typography import font

Color = tuple[int, int, int]
Point = tuple[float, float]
_SHIFT = 4  # OpenCV draws at 1/16 pixel


@dataclass(frozen=True)
class _Text:
    xy: Point
    text: str
    face: str
    size_px: int
    fill: Color
    anchor: str
    halo: Color | None
    angle_deg: float


@dataclass
class Sheet:
    """A picture in the making. Shapes are drawn at once, text at the end and on top, so that a crowded sheet costs little."""

    size: tuple[int, int]  # (W, H)
    paper: Color
    pixels: np.ndarray = field(init=False)  # (H, W, 3) uint8
    boxes: list[Box] = field(default_factory=list)  # of the texts
    texts: list[_Text] = field(default_factory=list)
    blocked: list[Box] = field(default_factory=list)  # where `is_free` allows no text although there is none yet

    def __post_init__(self) -> None:
        self.pixels = np.empty((self.size[1], self.size[0], 3), np.uint8)
        self.pixels[:] = np.tile(np.array(self.paper, np.uint8), (self.size[0], 1))  # by rows: far faster than by pixels

    def text(
        self, xy: Point, text: str, *, face: str, size_px: int, fill: Color, anchor: str = "la", halo: Color | None = None,
        angle_deg: float = 0.0,
    ) -> Box:  # fmt: skip
        """One line, drawn by `finish`; returns its box. With an angle (counter-clockwise), `xy` is the middle of the line."""
        x, y = round(xy[0]), round(xy[1])
        left, top, right, bottom = font(face, size_px).getbbox(text, anchor="mm" if angle_deg else anchor)
        if angle_deg:
            turn = math.radians(angle_deg)
            cos, sin, w, h = abs(math.cos(turn)), abs(math.sin(turn)), right - left, bottom - top
            half_w, half_h = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
            left, top, right, bottom = -half_w, -half_h, half_w, half_h
        box = (float(x + left), float(y + top), float(x + right), float(y + bottom))
        self.texts.append(_Text((x, y), text, face, size_px, fill, anchor, halo, angle_deg))
        self.boxes.append(box)
        return box

    def is_clear(self, gap: float = 2.0) -> bool:
        """Whether every text is inside the sheet and keeps `gap` px from every other."""
        boxes = np.array(self.boxes)
        if len(boxes) == 0:
            return True
        if (boxes[:, :2] < gap).any() or (boxes[:, 2:] > np.array(self.size) - gap).any():
            return False
        apart = (boxes[:, None, :2] >= boxes[None, :, 2:] + gap).any(-1)
        return bool((apart | apart.T | np.eye(len(boxes), dtype=bool)).all())

    def is_free(self, box: Box, gap: float = 2.0) -> bool:
        """Whether no text and nothing blocked lies within `gap` px of `box`."""
        x1, y1, x2, y2 = box
        return all(
            x1 >= b[2] + gap or x2 <= b[0] - gap or y1 >= b[3] + gap or y2 <= b[1] - gap for b in (*self.boxes, *self.blocked)
        )

    def rect(self, box: Box, fill: Color, *, outline: Color | None = None, width: int = 2, radius: float = 0) -> None:
        x1, y1, x2, y2 = (round(v) for v in box)
        if radius > 0:
            self.polygon(_rounded(box, radius), fill, outline=outline, width=width)
            return
        if x2 <= x1 or y2 <= y1:
            return
        cv2.rectangle(self.pixels, (x1, y1), (x2 - 1, y2 - 1), fill, -1)
        if outline:
            cv2.rectangle(self.pixels, (x1, y1), (x2 - 1, y2 - 1), outline, width)

    def line(self, points: Sequence[Point], color: Color, width: float = 2, *, closed: bool = False) -> None:
        cv2.polylines(self.pixels, [_fixed(points)], closed, color, max(1, round(width)), cv2.LINE_AA, _SHIFT)

    def dashes(self, a: Point, b: Point, color: Color, width: float = 2, dash: float = 10) -> None:
        n = max(1, int(math.dist(a, b) / dash))
        for i in range(0, n, 2):
            self.line([_between(a, b, i / n), _between(a, b, min(1.0, (i + 1) / n))], color, width)

    def polygon(self, points: Sequence[Point], fill: Color, *, outline: Color | None = None, width: float = 2) -> None:
        cv2.fillPoly(self.pixels, [_fixed(points)], fill, cv2.LINE_AA, _SHIFT)
        if outline:
            self.line(points, outline, width, closed=True)

    def disc(self, center: Point, radius: float, fill: Color | None, *, outline: Color | None = None, width: int = 2) -> None:
        (x, y), r = (round(v * 16) for v in center), round(radius * 16)
        if fill:
            cv2.circle(self.pixels, (x, y), r, fill, -1, cv2.LINE_AA, _SHIFT)
        if outline:
            cv2.circle(self.pixels, (x, y), r, outline, width, cv2.LINE_AA, _SHIFT)

    def arc(self, center: Point, radius: float, start_deg: float, end_deg: float, color: Color, width: float = 2) -> None:
        """Angles counter-clockwise from the right, as in school."""
        self.line(around(center, radius, start_deg, end_deg), color, width)

    def finish(self) -> Image.Image:
        """The picture with its text."""
        image = Image.fromarray(self.pixels)
        draw = ImageDraw.Draw(image)
        for t in self.texts:
            shape = font(t.face, t.size_px)
            if t.angle_deg:
                _paste_turned(image, t)
            elif t.halo:
                draw.text(t.xy, t.text, t.fill, shape, t.anchor, stroke_width=max(2, t.size_px // 8), stroke_fill=t.halo)
            else:
                draw.text(t.xy, t.text, t.fill, shape, t.anchor)
        return image

    def content(self) -> list[tuple]:
        """Every text with its place and face, for a content key."""
        return [(t.text, t.xy, t.face, t.size_px) for t in self.texts]


def content_key(family: str, sheets: Iterable[Sheet], *parts: object) -> str:
    """A key of what the sheets say and where, and of further `parts` that a repr shows in full (values, the question)."""
    shown = repr(([(s.size, s.paper, s.content()) for s in sheets], parts))
    return f"{family}|{hashlib.sha256(shown.encode()).hexdigest()[:16]}"


def around(center: Point, radius: float, start_deg: float, end_deg: float, step_deg: float = 3) -> list[Point]:
    """Points of an arc, counter-clockwise from the right."""
    n = max(2, int(abs(end_deg - start_deg) / step_deg) + 2)
    return [polar(center, radius, start_deg + (end_deg - start_deg) * i / (n - 1)) for i in range(n)]


def polar(center: Point, radius: float, angle_deg: float) -> Point:
    """The point at an angle counter-clockwise from the right."""
    return center[0] + radius * math.cos(math.radians(angle_deg)), center[1] - radius * math.sin(math.radians(angle_deg))


def union(*boxes: Box) -> Box:
    return (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))


def grown(box: Box, margin: float, size: tuple[int, int]) -> Box:
    """`box` with a margin, kept inside a picture of `size` (W, H)."""
    return max(0.0, box[0] - margin), max(0.0, box[1] - margin), min(size[0], box[2] + margin), min(size[1], box[3] + margin)


def block_around(box: Box, size: tuple[int, int], share: float, rng: random.Random) -> Box:
    """A region of about `share` of each side of a picture of `size` (W, H) that contains `box`, which lies somewhere in it."""
    spans = []
    for low, high, side in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        length = min(side, max(share * side, (high - low) * 1.3 + 8))
        start = rng.uniform(high + 3 - length, low - 3)
        start = min(max(0.0, start), side - length)
        spans.append((float(math.floor(start)), float(math.ceil(start + length))))
    (x1, x2), (y1, y2) = spans
    return x1, y1, min(float(size[0]), x2), min(float(size[1]), y2)


def noise(rng: random.Random, size: tuple[int, int], cell: float) -> np.ndarray:
    """(H, W) float32 of smooth noise, mean 0 and deviation about 1, with blobs of about `cell` px."""
    width, height = max(2, round(size[0] / cell)), max(2, round(size[1] / cell))
    small = np.random.default_rng(rng.getrandbits(32)).standard_normal((height, width), np.float32)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def mix(a: Color, b: Color, share: float) -> Color:
    """`a` with `share` of `b`."""
    return tuple(round(u + (v - u) * share) for u, v in zip(a, b, strict=True))


def ink_on(paper: Color) -> Color:
    """Black or white, whichever stands out."""
    return (22, 22, 26) if 0.3 * paper[0] + 0.59 * paper[1] + 0.11 * paper[2] > 140 else (248, 248, 244)


def _fixed(points: Sequence[Point]) -> np.ndarray:
    return np.round(np.asarray(points, np.float64) * 2**_SHIFT).astype(np.int32)


def _between(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def _rounded(box: Box, radius: float) -> list[Point]:
    x1, y1, x2, y2 = box
    r = min(radius, (x2 - x1) / 2, (y2 - y1) / 2)
    corners = (((x2 - r, y1 + r), 0), ((x1 + r, y1 + r), 90), ((x1 + r, y2 - r), 180), ((x2 - r, y2 - r), 270))
    return [p for center, start in corners for p in around(center, r, start, start + 90, 15)]


def _paste_turned(image: Image.Image, t: _Text) -> None:
    left, top, right, bottom = font(t.face, t.size_px).getbbox(t.text)
    mask = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), t.text, fill=255, font=font(t.face, t.size_px))
    mask = mask.rotate(t.angle_deg, Image.Resampling.BICUBIC, expand=True)
    image.paste(t.fill, (round(t.xy[0] - mask.width / 2), round(t.xy[1] - mask.height / 2)), mask)
