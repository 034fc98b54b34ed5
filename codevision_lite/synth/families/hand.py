"""A hand that writes: words that lean and leave the line, on ruled, squared or plain paper that may lie on a desk."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image, ImageDraw

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import Color, Sheet, mix, union
from codevision_lite.synth.families.paper import DESKS, SMALLEST_PX, age, lay_on_desk, print_size
from codevision_lite.synth.typography import font, letter_height, text_width

_PENS = ((28, 44, 120), (30, 34, 46), (22, 60, 150), (110, 24, 32), (36, 74, 52), (70, 70, 76))
_SHEETS = ((253, 253, 250), (252, 248, 236), (255, 247, 190), (244, 246, 250), (255, 226, 170), (226, 240, 214))


def readable_px(face: str, size_px: int) -> float:
    """Height of the letters that counts for reading: less than it is where they are narrow."""
    return round(min(letter_height(face, size_px), 1.25 * text_width("n", face, size_px)), 1)


@dataclass
class Hand:
    """Someone writing on a sheet. `lines`: box of each line by its name."""

    sheet: Sheet
    rng: random.Random
    face: str
    size: int
    ink: Color
    slant: float  # x per y
    wobble: float  # px that letters leave the line
    lines: dict[str, Box] = field(default_factory=dict)
    content: list[tuple[str, int, int]] = field(default_factory=list)  # word, x, y of its ink

    @property
    def text_px(self) -> float:
        return readable_px(self.face, self.size)

    def write(self, text: str, xy: tuple[float, float], name: str = "") -> Box:
        """Words from `xy` on, the y of the base line; returns the box of their ink."""
        x, drift, boxes = xy[0], self.rng.uniform(-0.006, 0.006), []
        for word in text.split():
            y = xy[1] + drift * (x - xy[0]) + self.rng.uniform(-0.5, 0.5) * self.wobble
            boxes.append(self._word(word, x, y))
            x = boxes[-1][2] + self.size * self.rng.uniform(0.26, 0.4)
        box = union(*boxes)
        self.sheet.boxes.append(box)
        if name:
            self.lines[name] = box
        return box

    def _word(self, word: str, x: float, y: float) -> Box:
        rng, size, shape = self.rng, self.size, font(self.face, self.size)
        pad = size
        mask = Image.new("L", (int(text_width(word, self.face, size) + 0.1 * size * len(word)) + 2 * pad, 3 * size))
        pen, at = ImageDraw.Draw(mask), float(pad)
        for letter in word:
            pen.text((at, 2 * size + rng.uniform(-1, 1) * self.wobble * 0.5), letter, 255, shape, "ls")
            at += shape.getlength(letter) + rng.uniform(-0.01, 0.035) * size
        lean, turn = self.slant + rng.uniform(-0.05, 0.05), rng.uniform(-0.03, 0.03)
        matrix = np.float32([[1, -lean, lean * 2 * size], [turn, 1, -turn * pad]])
        ink = cv2.warpAffine(np.asarray(mask), matrix, mask.size, flags=cv2.INTER_LINEAR)
        left, top, width, height = cv2.boundingRect(cv2.threshold(ink, 60, 255, cv2.THRESH_BINARY)[1])
        px, py = round(x), round(y) - 2 * size + top
        pressure = np.linspace(rng.uniform(0.75, 1), rng.uniform(0.75, 1), width, dtype=np.float32) / 255
        cover = (ink[top : top + height, left : left + width] * pressure)[..., None]
        under = self.sheet.pixels[py : py + height, px : px + width]
        assert under.shape[:2] == (height, width), f"{word!r} at {px}, {py} leaves the sheet {self.sheet.size}"
        under[:] = under + cover * (np.float32(self.ink) - under)
        self.content.append((word, px, py))
        return float(px), float(py), float(px + width), float(py + height)

    def stroke(self, a: tuple[float, float], b: tuple[float, float], width: float = 0.0) -> None:
        """A line drawn by hand."""
        n = 7
        shake = [self.rng.uniform(-1, 1) * 0.05 * self.size for _ in range(n + 1)]
        points = [(a[0] + (b[0] - a[0]) * i / n, a[1] + (b[1] - a[1]) * i / n + shake[i]) for i in range(n + 1)]
        self.sheet.line(points, self.ink, width or self.size / 12)


def start(rng: random.Random, rows: Sequence[str], *, head: bool) -> tuple[Hand, float, float, float]:
    """Paper for these rows of text and a hand on it; also the left edge, the first base line and the distance of lines."""
    face = rng.choice(("hand", "hand", "narrow"))
    size = print_size(rng, face, (20, 22, 24, 26, 28, 32), large=0.05 if len(rows) < 9 else 0.0)
    while readable_px(face, size) < SMALLEST_PX:
        size += 1
    step = round(size * rng.uniform(1.55, 1.9))
    slant = rng.uniform(-0.04, 0.26)
    longest = max(text_width(row, face, size) * 1.12 + 0.15 * size * len(row.split()) for row in rows)
    left, right = round(size * rng.uniform(1.6, 3.4)), round(size * rng.uniform(1.4, 3))
    above = round(size * (rng.uniform(3.8, 5) if head else 2.4))
    page = (left + round(longest) + right, above + step * len(rows) + round(size * rng.uniform(0.8, 3)))
    is_small = page[0] * page[1] < 500 * size * size
    reach = rng.choice((0, 3, 6, 22, 22, 22) if is_small and size <= 36 else (0, 0, 2, 5))  # em of desk around the paper, at most
    frame = [round(size * rng.uniform(0.5, 1) * reach) for _ in range(4)]
    paper = rng.choice(_SHEETS)
    sheet = Sheet((page[0] + frame[0] + frame[2], page[1] + frame[1] + frame[3]), rng.choice(DESKS) if reach else paper)
    box = (frame[0], frame[1], frame[0] + page[0], frame[1] + page[1])
    if reach:
        lay_on_desk(sheet, rng, box, paper)
        for _ in range(rng.randint(0, 5 if reach > 6 else 1)):
            _lay_thing(sheet, rng, box, size)
    first = frame[1] + above + 0.6 * step
    _rule(sheet, rng, box, paper, (first + 0.16 * size, step), frame[0] + left - 0.5 * size)
    age(sheet, rng)
    return Hand(sheet, rng, face, size, rng.choice(_PENS), slant, size * rng.uniform(0.03, 0.09)), frame[0] + left, first, step


def _rule(sheet: Sheet, rng: random.Random, page: Box, paper: Color, lines: tuple[float, float], margin_x: float) -> None:
    """Ruled, squared or plain; `lines`: y of the first line that is written on, distance."""
    x1, y1, x2, y2 = page
    kind, (first, step) = rng.choice(("ruled", "ruled", "squared", "plain", "dots")), lines
    tint = mix(paper, rng.choice(((80, 120, 200), (120, 130, 150))), 0.35)
    if kind == "ruled":
        y = first
        while y < y2 - 3:
            sheet.line([(x1, y), (x2 - 1, y)], tint, 1)
            y += step
        if rng.random() < 0.6:
            sheet.line([(margin_x, y1), (margin_x, y2 - 1)], mix(paper, (210, 60, 70), 0.5), 1)
    elif kind != "plain":
        cell = step / 2
        ys = np.arange(first - cell * int((first - y1) / cell), y2 - 1, cell)
        xs = np.arange(x1 + cell / 2, x2 - 1, cell)
        if kind == "dots":
            grid = np.ix_(ys.astype(int), xs.astype(int))
            sheet.pixels[grid] = tint
        else:
            sheet.pixels[ys.astype(int), int(x1) : int(x2)] = tint
            sheet.pixels[int(y1) : int(y2), xs.astype(int)] = tint
    if kind == "ruled" and rng.random() < 0.3:
        for y in np.linspace(y1, y2, 5)[1:-1]:
            sheet.disc((x1 + 0.35 * step, float(y)), 0.16 * step, mix(paper, (0, 0, 0), 0.5))


def _lay_thing(sheet: Sheet, rng: random.Random, page: Box, size: int) -> None:
    """Something on the desk beside the page, where there is room: an empty note, a cup, a pencil."""
    width, height = sheet.size
    w, h = size * rng.uniform(4, 9), size * rng.uniform(4, 9)
    x, y = rng.uniform(-0.3 * w, width - 0.7 * w), rng.uniform(-0.3 * h, height - 0.7 * h)
    gap = 0.8 * size
    if x < page[2] + gap and x + w > page[0] - gap and y < page[3] + gap and y + h > page[1] - gap:
        return
    color, shade, kind = rng.choice(_SHEETS[2:]), mix(sheet.paper, (0, 0, 0), 0.35), rng.choice(("note", "cup", "pencil"))
    if kind == "note":
        sheet.rect((x + 4, y + 5, x + w + 4, y + h + 5), shade)
        sheet.rect((x, y, x + w, y + h), color)
    elif kind == "cup":
        center, radius = (x + w / 2, y + h / 2), min(w, h) / 2
        sheet.disc((center[0] + 4, center[1] + 5), radius, shade)
        sheet.disc(center, radius, (236, 232, 224))
        sheet.disc(center, 0.82 * radius, rng.choice(((74, 46, 28), (150, 92, 40), (60, 70, 60))))
    else:
        sheet.line([(x + 3, y + 4), (x + w + 3, y + h + 4)], shade, 0.45 * size)
        sheet.line([(x, y), (x + w, y + h)], rng.choice(((214, 160, 40), (40, 90, 160), (170, 40, 44))), 0.45 * size)


def write_title(hand: Hand, text: str, xy: tuple[float, float], name: str = "title") -> None:
    big = hand.size
    hand.size = round(1.25 * big)
    box = hand.write(text, xy, name)
    hand.size = big
    hand.stroke((box[0], box[3] + 0.18 * big), (box[2], box[3] + 0.14 * big))
