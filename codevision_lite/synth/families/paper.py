"""What the page families share: paper, running text whose sentences have boxes, and the way from a question to a Scene."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import Color, Sheet, content_key, grown, mix, union
from codevision_lite.synth.scene import Scene, too_small
from codevision_lite.synth.typography import font, letter_height, text_width, wrap

PAPERS = ((255, 255, 255), (253, 252, 247), (250, 246, 236), (246, 240, 224), (244, 247, 250), (240, 240, 236), (252, 243, 240))
INKS = ((20, 20, 24), (38, 38, 44), (24, 30, 62), (52, 36, 30), (18, 44, 40))
ACCENTS = ((24, 74, 140), (150, 34, 40), (20, 104, 84), (98, 52, 130), (190, 92, 20), (40, 48, 60), (0, 110, 130), (120, 88, 30))
DESKS = ((120, 86, 58), (164, 128, 92), (84, 92, 100), (196, 186, 172), (58, 62, 70), (140, 150, 138), (94, 60, 44))
SMALLEST_PX = 9.0  # letters lower than this can't be read even in a crop (scene.READABLE_PX)
_WINDOW_MARGIN = 40  # px on each side that a crop may add to its target


@dataclass(frozen=True)
class Ask:
    """A question about a page, its answer and where that stands. Boxes in pixels of the page."""

    kind: str  # the question kind, without the family
    question: str
    answer: str
    boxes: tuple[Box, ...]  # what must be seen to answer; () = the whole page
    text_px: float  # height of the letters that must be read
    evidence: str
    block: Box | None = None  # the section around the boxes
    working: str = ""
    also: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def pick(rng: random.Random, askers: Sequence[Callable[[], Ask | None]], size: tuple[int, int]) -> Ask:
    """The first of the askers, in random order, whose question can be answered on a page of `size` (W, H)."""
    for asker in rng.sample(list(askers), len(askers)):
        ask = asker()
        if ask is not None and is_answerable(ask, size):
            return ask
    raise AssertionError(f"no question fits this page of {size}: {askers}")


def is_answerable(ask: Ask, size: tuple[int, int]) -> bool:
    """Whether the letters can be read: in the view of the whole page, or in a crop where there is a region to crop to."""
    if not ask.boxes:
        return not too_small(ask.text_px, size)
    x1, y1, x2, y2 = grown(union(*ask.boxes), _WINDOW_MARGIN, size)
    return not too_small(ask.text_px, (math.ceil(x2 - x1), math.ceil(y2 - y1)))


def to_scene(family: str, sheet: Sheet, ask: Ask, subject: str, *shown: object) -> Scene:
    """Finish the sheet. `shown`: what is in the picture beside the sheet's texts, for the content key."""
    size = sheet.size
    target = union(*ask.boxes) if ask.boxes else None
    facts: dict[str, Any] = {"text_px": ask.text_px, **ask.facts}
    if target:
        facts["block_box"] = list(_block(target, union(target, *((ask.block,) if ask.block else ())), size))
    return Scene(
        kind=f"{family}/{ask.kind}", image=sheet.finish(), question=ask.question, answer=ask.answer, target_box=target,
        needs_crop=target is not None and too_small(ask.text_px, size), readable_under=(),
        content_key=content_key(family, [sheet], ask.question, ask.answer, *shown), facts=facts, also=ask.also, subject=subject,
        evidence=ask.evidence, working=ask.working,
    )  # fmt: skip


def _block(target: Box, section: Box, size: tuple[int, int]) -> Box:
    """The section around a target, where it makes a first, coarse crop; else a region halfway between target and page."""
    window, page = grown(target, 30, size), (0.0, 0.0, float(size[0]), float(size[1]))
    if _area(window) <= 0.6 * _area(section) and _area(section) <= 0.6 * _area(page):
        return section
    wanted = math.sqrt(_area(window) * _area(page))
    shares = (i / 20 for i in range(1, 20))
    regions = (tuple(float(round(a + t * (b - a))) for a, b in zip(window, page, strict=True)) for t in shares)
    return next((region for region in regions if _area(region) >= wanted), page)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def print_size(rng: random.Random, face: str, common: Sequence[int] = (19, 20, 20, 21, 22, 24, 26), large: float = 0.06) -> int:
    """A font size in px whose letters can be read in a crop; with a chance of `large`, that of a fine scan."""
    size_px = round(rng.choice(common) * (rng.uniform(1.5, 1.9) if rng.random() < large else 1))
    while letter_height(face, size_px) < SMALLEST_PX:
        size_px += 1
    return size_px


def bold(face: str) -> str:
    return f"{face}-bold"


def write_prose(
    sheet: Sheet, xy: tuple[float, float], sentences: Sequence[str], *, face: str, size_px: int, width: float, fill: Color,
    leading: float = 1.35,
) -> tuple[list[Box], float]:  # fmt: skip
    """Set sentences as one paragraph from its top left. Returns the box of each sentence and the y below the last line."""
    lines = wrap(" ".join(sentences), face, size_px, width)
    owner = [i for i, sentence in enumerate(sentences) for _ in sentence.split()]
    boxes: list[list[Box]] = [[] for _ in sentences]
    y, word = xy[1], 0
    for line in lines:
        box, words, start = sheet.text((xy[0], y), line, face=face, size_px=size_px, fill=fill), line.split(), 0
        while start < len(words):
            end = start
            while end < len(words) and owner[word + end] == owner[word + start]:
                end += 1
            left = xy[0] + text_width(" ".join([*words[:start], ""]), face, size_px) if start else box[0]
            right = xy[0] + text_width(" ".join(words[:end]), face, size_px) if end < len(words) else box[2]
            boxes[owner[word + start]].append((left, box[1], right, box[3]))
            start = end
        word += len(words)
        y += round(leading * size_px)
    return [union(*parts) for parts in boxes], y


def n_lines(sentences: Sequence[str], face: str, size_px: int, width: float) -> int:
    return len(wrap(" ".join(sentences), face, size_px, width))


def fit(text: str, face: str, size_px: int, width: float, smallest: int = 12) -> int:
    """The largest size up to `size_px` at which a line is at most `width` wide."""
    while size_px > smallest and font(face, size_px).getlength(text) > width:
        size_px -= max(1, size_px // 20)
    return size_px


def lay_on_desk(sheet: Sheet, rng: random.Random, page: Box, paper: Color, *, torn: bool = False) -> None:
    """A desk over the whole sheet and a page on it, with its shadow; `torn`: cut off below by a toothed edge, as of a till."""
    width, height = sheet.size
    cells = (7, max(2, height // 3)) if rng.random() < 0.6 else (max(2, width // 40), max(2, height // 40))  # wood, or cloth
    small = np.random.default_rng(rng.getrandbits(32)).standard_normal((cells[1], cells[0]), np.float32)
    level = np.clip(cv2.resize(small * rng.uniform(3, 7) + 20, (width, height)), 0, 40).astype(np.uint8)
    cv2.subtract(sheet.pixels, cv2.merge([level] * 3), dst=sheet.pixels)
    x1, y1, x2, y2 = page
    desk = sheet.paper
    for i in range(5):
        reach = 7 - i
        sheet.rect((x1 + 2, y1 + 4, x2 + reach, y2 + reach), mix(desk, (0, 0, 0), 0.12 + 0.09 * i), radius=4)
    if not torn:
        sheet.rect(page, paper)
        return
    step = max(5.0, (x2 - x1) / 60)
    n = int((x2 - x1) / step)
    teeth = [(x2 - (x2 - x1) * i / n, y2 - (step if i % 2 else 0)) for i in range(n + 1)]
    sheet.polygon([(x1, y1), (x2, y1), *teeth], paper)


def age(sheet: Sheet, rng: random.Random) -> None:
    """Give the paper grain and uneven light, before any text is set."""
    width, height = sheet.size
    corners = np.array([[rng.uniform(0, 14), rng.uniform(0, 14)], [rng.uniform(0, 14), rng.uniform(0, 14)]], np.float32)
    shade = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    tile = np.random.default_rng(rng.getrandbits(32)).integers(0, rng.choice((1, 3, 6)), (128, 128), np.uint8)
    grain = np.tile(tile, (height // 128 + 1, width // 128 + 1))[:height, :width]
    cv2.subtract(sheet.pixels, cv2.merge([cv2.add(shade, grain)] * 3), dst=sheet.pixels)


def money(cents: int) -> str:
    """1250 -> "12.50"."""
    return f"{cents // 100}.{cents % 100:02d}"


def money_also(cents: int, sign: str) -> tuple[str, ...]:
    return (f"{sign}{money(cents)}", *((str(cents // 100),) if cents % 100 == 0 else ()))
