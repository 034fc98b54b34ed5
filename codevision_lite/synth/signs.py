"""The small visual world: signs, cells, groups and pages with a tiny label, drawn on canvases larger than the tiny
model's pixel budget.

Canvases are square, 252 to 420 px; at the tiny model's 84x84 budget a label is 4 to 6 px high, unreadable until cropped.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image

from codevision_lite.records import Box
from codevision_lite.synth.glyphs import ASYMMETRIC, FACES, SYMBOLS, SYMMETRIC, WORDS, ink_mask
from codevision_lite.synth.scene import Scene

CANVASES = (252, 294, 336, 378, 420)  # px; thirds are whole numbers
CELL_NAMES = ("top left", "top right", "bottom left", "bottom right")
KINDS = ("sign", "word", "cells", "count", "label", "large")
KIND_WEIGHTS = (0.34, 0.18, 0.18, 0.05, 0.20, 0.05)
INKS = ((20, 20, 20), (150, 20, 30), (20, 60, 150), (10, 100, 50), (110, 30, 120), (150, 80, 0))
PAPERS = ((255, 255, 255), (245, 240, 225), (225, 240, 250), (235, 235, 235), (250, 230, 235), (230, 245, 225))

# Asked for it, the tiny model names the orientation of these symbols right in three of four pictures and more, if they are large enough;
# the symmetric ones are there to be left alone.
# Items are made of these signs alone (samples.py), so that what is learnt from a turned sign isn't hidden by what can't be seen.
CLEAR_SYMBOLS = ("F", "P", "R", "2", "7", "y", "?", *SYMMETRIC)
CLEAR_HEIGHT = 0.4  # of the page

QUESTIONS = {
    "sign": "What is written here?",
    "word": "What is written here?",
    "cells": "What is in the {place} cell?",
    "count": "How many symbols are there?",
    "label": "What does the small label say?",
    "large": "What is the large symbol?",
}


class _Page:
    """A canvas with one paper and one ink; `put` draws and returns the ink's box."""

    def __init__(self, rng: random.Random, canvases: tuple[int, ...]):
        self.size = rng.choice(canvases)
        self.paper, self.ink, self.dark = rng.randrange(len(PAPERS)), rng.randrange(len(INKS)), rng.random() < 0.25
        self.face, self.weight = rng.choice(FACES), rng.randrange(3)
        back, self.color = PAPERS[self.paper], INKS[self.ink]
        if self.dark:  # light ink on a dark page
            back, self.color = self.color, back
        self.pixels = np.empty((self.size, self.size, 3), np.float32)
        self._rows = self.pixels.reshape(self.size, -1)  # numpy is slow where the last axis is 3 long
        self._rows[:] = np.tile(np.float32(back), self.size)

    def put(self, text: str, center: tuple[float, float], height: float, max_width: float) -> Box:
        mask = ink_mask(text, face=self.face, weight=self.weight, height_px=height, max_width_px=max_width)
        h, w = mask.shape
        x = int(min(max(center[0] - w / 2, 0), self.size - w))
        y = int(min(max(center[1] - h / 2, 0), self.size - h))
        region = self._rows[y : y + h, 3 * x : 3 * (x + w)]
        region += np.repeat(mask, 3, axis=1) * (np.tile(np.float32(self.color), w) - region)
        return float(x), float(y), float(x + w), float(y + h)

    def line(self, box: tuple[int, int, int, int]) -> None:
        x1, y1, x2, y2 = box
        self.pixels[y1:y2, x1:x2] = self.color

    def finish(self) -> Image.Image:
        return Image.fromarray(np.clip(self.pixels, 0, 255, out=self.pixels).astype(np.uint8))

    @property
    def style_key(self) -> str:
        return f"{self.size}/{self.face}{self.weight}/{self.paper}.{self.ink}{'d' if self.dark else ''}"


def draw_scene(rng: random.Random, kind: str | None = None, canvases: tuple[int, ...] = CANVASES) -> Scene:
    """Draw one scene; everything random comes from `rng`. `canvases`: side lengths in pixels to choose from."""
    kind = kind or rng.choices(KINDS, KIND_WEIGHTS)[0]
    return _DRAW[kind](rng, _Page(rng, canvases))


def is_clear(scene: Scene) -> bool:
    """Whether the tiny model can tell how the picture is turned; false for some signs of a single symbol."""
    return scene.kind != "sign" or (scene.answer in CLEAR_SYMBOLS and scene.facts["height"] >= CLEAR_HEIGHT)


def _symbol(rng: random.Random) -> str:
    """Mostly asymmetric: the symmetric ones are there to be left alone."""
    return rng.choice(ASYMMETRIC) if rng.random() < 0.85 else rng.choice(tuple(SYMMETRIC))


def _draw_sign(rng: random.Random, page: _Page, words: bool = False) -> Scene:
    text = rng.choice(WORDS) if words else _symbol(rng)
    height = page.size * (rng.uniform(0.2, 0.35) if words else rng.uniform(0.2, 0.7))
    reach = page.size * 0.5 - (page.size * 0.44 if words else height * 0.5)
    center = (page.size / 2 + rng.uniform(-reach, reach), page.size / 2 + rng.uniform(-1, 1) * (page.size * 0.48 - height / 2))
    box = page.put(text, center, height, page.size * rng.uniform(0.72, 0.9))
    places = f"{box[0] / page.size:.1f},{box[1] / page.size:.1f},{height / page.size:.1f}"
    kind = "word" if words else "sign"
    return Scene(
        kind, page.finish(), QUESTIONS[kind], text, box, False, SYMMETRIC.get(text, ()),
        f"{kind}|{text}|{places}|{page.style_key}", {"main": text, "height": height / page.size},
    )  # fmt: skip


def _draw_word(rng: random.Random, page: _Page) -> Scene:
    return _draw_sign(rng, page, words=True)


def _draw_cells(rng: random.Random, page: _Page) -> Scene:
    half, pen = page.size // 2, max(2, page.size // 84)
    page.line((half - pen // 2, 0, half + pen - pen // 2, page.size))
    page.line((0, half - pen // 2, page.size, half + pen - pen // 2))
    texts = rng.sample(ASYMMETRIC, 4)
    boxes = []
    for i, text in enumerate(texts):
        center = (half * (i % 2 + 0.5) + rng.uniform(-0.06, 0.06) * half, half * (i // 2 + 0.5) + rng.uniform(-0.06, 0.06) * half)
        boxes.append(page.put(text, center, half * rng.uniform(0.5, 0.72), half * 0.8))
    asked = rng.randrange(4)
    return Scene(
        "cells", page.finish(), QUESTIONS["cells"].format(place=CELL_NAMES[asked]), texts[asked], boxes[asked], False, (),
        f"cells|{''.join(texts)}{asked}|{page.style_key}", {"cells": tuple(texts), "asked": asked},
    )  # fmt: skip


def _draw_count(rng: random.Random, page: _Page) -> Scene:
    n = rng.randint(1, 4)
    third = page.size / 3
    places = rng.sample(range(9), n)
    texts = [rng.choice(SYMBOLS) for _ in places]
    for place, text in zip(places, texts, strict=True):
        page.put(text, (third * (place % 3 + 0.5), third * (place // 3 + 0.5)), third * rng.uniform(0.55, 0.85), third * 0.9)
    return Scene(
        "count", page.finish(), QUESTIONS["count"], str(n), None, False, None,
        f"count|{sorted(zip(places, texts, strict=True))}|{page.style_key}", {"count": n},
    )  # fmt: skip


def _draw_page_with_label(rng: random.Random, page: _Page, ask_label: bool = True) -> Scene:
    """A large symbol fills one 2x2 block of a 3x3 grid; a tiny label sits in one of the five cells that remain."""
    third = page.size / 3
    column, row = rng.randrange(2), rng.randrange(2)
    large = rng.choice(ASYMMETRIC)
    large_box = page.put(large, (third * (column + 1), third * (row + 1)), third * rng.uniform(1.2, 1.7), third * 1.8)
    free = [c for c in range(9) if not (column <= c % 3 <= column + 1 and row <= c // 3 <= row + 1)]
    cell = rng.choice(free)
    label = rng.choice([s for s in ASYMMETRIC if s != large])
    center = (third * (cell % 3 + 0.5 + rng.uniform(-0.15, 0.15)), third * (cell // 3 + 0.5 + rng.uniform(-0.15, 0.15)))
    page.put(label, center, third * rng.uniform(0.2, 0.26), third)
    # The label's region is its cell: its ink alone is a few pixels, and a good crop keeps a margin.
    cell_box = (third * (cell % 3), third * (cell // 3), third * (cell % 3 + 1), third * (cell // 3 + 1))
    kind, answer, box = ("label", label, cell_box) if ask_label else ("large", large, large_box)
    return Scene(
        kind, page.finish(), QUESTIONS[kind], answer, box, ask_label, (),
        f"{kind}|{label}{cell}|{large}{column}{row}|{page.style_key}",
        {"main": large, "label": label, "label_cell": cell},
    )  # fmt: skip


def _draw_page_with_large(rng: random.Random, page: _Page) -> Scene:
    return _draw_page_with_label(rng, page, ask_label=False)


_DRAW = {
    "sign": _draw_sign,
    "word": _draw_word,
    "cells": _draw_cells,
    "count": _draw_count,
    "label": _draw_page_with_label,
    "large": _draw_page_with_large,
}
