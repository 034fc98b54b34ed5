"""Large canvases of nature: a map with peaks and their heights, a star chart with stars and their magnitudes."""

from __future__ import annotations

import itertools
import math
import random

import cv2
import numpy as np

from codevision_lite.synth.families.canvas_worlds import Thing, Words, World
from codevision_lite.synth.families.drawing import Point, Sheet, mix, noise, polar
from codevision_lite.synth.typography import text_width
from codevision_lite.synth.words import LAST_NAMES, TOWNS


def chart_of_land(rng: random.Random, size: tuple[int, int]) -> World:
    """A map: sea, land in tints of height, contours, roads, towns, and peaks with their heights in metres."""
    small = (size[0] // 8, size[1] // 8)
    height = noise(rng, small, small[0] / 5) + 0.45 * noise(rng, small, small[0] / 14) + 0.12 * noise(rng, small, 6)
    height -= np.quantile(height, rng.uniform(0.2, 0.4))
    land = rng.choice(((176, 204, 150), (206, 214, 170), (190, 206, 178)))
    stops = [-1.5, -0.02, 0.0, 0.5, 1.1, 1.8, 2.6]
    tints = [(120, 166, 204), (186, 216, 232), land, mix(land, (236, 226, 176), 0.6), (222, 196, 146), (196, 160, 120), (238, 234, 228)]
    colors = np.stack([np.interp(height, stops, [t[c] for t in tints]) for c in range(3)], -1).astype(np.uint8)
    sheet = Sheet(size, (0, 0, 0))
    sheet.pixels = cv2.resize(colors, size, interpolation=cv2.INTER_LINEAR)
    for level in (0.0, 0.4, 0.8, 1.2, 1.6, 2.0):
        lines, _ = cv2.findContours((height > level).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for line in lines:
            if len(line) > 12:
                sheet.line(line[:, 0] * 8 + 4, (70, 112, 150) if level == 0 else (186, 150, 110), 3 if level == 0 else 1, closed=True)
    face, t = rng.choice(("sans", "serif", "grotesk")), rng.randint(18, 20)
    _neatline(rng, sheet, face)
    towns = _towns(rng, sheet, height, face, 30)
    for a, b in itertools.pairwise(sorted(towns)):
        steps = [k / 12 for k in range(13)]
        road = [(a[0] + (b[0] - a[0]) * s, a[1] + (b[1] - a[1]) * s + 40 * math.sin(2 * math.pi * s)) for s in steps]
        sheet.blocked += [(x - 20, y - 20, x + 20, y + 20) for x, y in road]
        if any(height[min(int(y / 8), small[1] - 1), min(int(x / 8), small[0] - 1)] < 0 for x, y in road):  # a ferry
            for one, two in itertools.pairwise(road):
                sheet.dashes(one, two, (60, 90, 150), 3, 12)
            continue
        sheet.line(road, (168, 110, 80), 6)
        sheet.line(road, (250, 226, 160), 3)
    for x, y in towns:
        sheet.disc((x, y), 10, (250, 250, 245), outline=(40, 40, 40), width=3)
    names = [f"{kind} {name}" for name in LAST_NAMES for kind in rng.sample(("Mount", "Tor", "Fell", "Pike"), 1)]
    rng.shuffle(names)
    things: list[Thing] = []
    for name in names:
        reach = text_width(name, face, t) / 2 + 18
        if at := _free_spot(rng, sheet, height, (0.3, 9.0), (reach, reach - t, reach + t)):
            x, y = at
            tint = float(height[min(y // 8, small[1] - 1), min(x // 8, small[0] - 1)])
            metres = round(160 + 950 * tint) + rng.randint(0, 60)  # as the colour of the land says
            if any(thing.value == str(metres) for thing in things):
                continue
            sheet.polygon([(x, y - 11), (x + 9, y + 6), (x - 9, y + 6)], (90, 60, 40))
            one = sheet.text((x, y + 0.55 * t), name, face=face, size_px=t, fill=(40, 30, 26), anchor="ma")
            two = sheet.text((x, y + 1.7 * t), str(metres), face=face, size_px=t, fill=(40, 30, 26), anchor="ma")
            things.append(Thing(name, str(metres), one, two, (x - reach, y + t - reach, x + reach, y + t + reach)))
            sheet.blocked.append(things[-1].room)
    words = Words(
        "the peak {name}", "the peak with the height {value}", "How many metres high is {name}?", "Which peak is {value} m high?",
        "What is the height of the peak in the {mark}?", "Which is higher: {a} or {b}?", "How many metres higher is {a} than {b}?",
        "m",
    )  # fmt: skip
    return World(sheet, f"a map of the land around {rng.choice(TOWNS)}", things, words, face, t)


def _neatline(rng: random.Random, sheet: Sheet, face: str) -> None:
    """A frame with a grid of letters and numbers, a compass and a scale."""
    w, h = sheet.size
    n, m = rng.randint(6, 9), rng.randint(4, 7)
    for i in range(1, n):
        sheet.line([(w * i / n, 0), (w * i / n, h)], (150, 160, 170), 1)
    for i in range(1, m):
        sheet.line([(0, h * i / m), (w, h * i / m)], (150, 160, 170), 1)
    for box in ((0, 0, w, 44), (0, h - 44, w, h), (0, 0, 44, h), (w - 44, 0, w, h)):
        sheet.rect(box, (248, 246, 238))
    sheet.line([(44, 44), (w - 45, 44), (w - 45, h - 45), (44, h - 45)], (40, 40, 40), 3, closed=True)
    for i in range(n):
        for y in (22, h - 22):
            sheet.text((w * (i + 0.5) / n, y), "ABCDEFGHIJ"[i], face=face, size_px=28, fill=(40, 40, 40), anchor="mm")
    for i in range(m):
        for x in (22, w - 22):
            sheet.text((x, h * (i + 0.5) / m), str(i + 1), face=face, size_px=28, fill=(40, 40, 40), anchor="mm")
    x, y = w - 150, 170
    sheet.disc((x, y), 62, (248, 246, 238), outline=(60, 60, 60), width=2)
    sheet.polygon([(x, y - 52), (x + 12, y), (x - 12, y)], (180, 40, 40))
    sheet.polygon([(x, y + 52), (x + 12, y), (x - 12, y)], (70, 70, 74))
    sheet.text((x, y - 84), "N", face=face, size_px=32, fill=(40, 40, 40), anchor="mm")
    sheet.blocked.append((x - 70, y - 110, x + 70, y + 70))  # no name over the compass
    for i in range(4):
        sheet.rect((90 + 60 * i, h - 92, 150 + 60 * i, h - 80), (40, 40, 40) if i % 2 else (250, 250, 250), outline=(40, 40, 40))
    sheet.text((340, h - 86), f"{rng.choice((2, 4, 8, 20))} km", face=face, size_px=28, fill=(40, 40, 40), anchor="lm")


def _free_spot(
    rng: random.Random, sheet: Sheet, height: np.ndarray, between: tuple[float, float], reach: tuple[float, float, float]
) -> Point | None:
    """A place on land between two heights with `reach` px free of print: to either side, above and below."""
    w, h = sheet.size
    aside, above, below = reach
    for _ in range(60):
        x, y = round(rng.uniform(50 + aside, w - 50 - aside)), round(rng.uniform(50 + above, h - 50 - below))
        if between[0] < height[min(y // 8, height.shape[0] - 1), min(x // 8, height.shape[1] - 1)] < between[1]:
            box = (x - aside, y - above, x + aside, y + below)
            if sheet.is_free(box, 6):
                return x, y
    return None


def _towns(rng: random.Random, sheet: Sheet, height: np.ndarray, face: str, px: int) -> list[Point]:
    """Towns in the lowlands: their names, drawn, and where they lie."""
    places = []
    for name in rng.sample(TOWNS, 10):
        if at := _free_spot(rng, sheet, height, (0.05, 0.9), (0.7 * text_width(name, face, px), px, 2.5 * px)):
            sheet.text((at[0], at[1] + 0.5 * px), name, face=f"{face}-bold", size_px=px, fill=(30, 30, 34), anchor="ma")
            sheet.blocked.append((at[0] - 14, at[1] - 14, at[0] + 14, at[1] + 14))
            places.append(at)
    return places


def chart_of_stars(rng: random.Random, size: tuple[int, int]) -> World:
    """A star chart: constellations of named stars with their magnitudes."""
    w, h = size
    night = rng.choice(((10, 16, 38), (14, 14, 24), (8, 24, 40)))
    sheet, small = Sheet(size, night), (w // 8, h // 8)
    across = np.add.outer(np.linspace(-1, 1, small[1]), np.linspace(-1, 1, small[0]) * rng.uniform(-0.8, 0.8))
    band = np.abs(across + 0.1 * noise(rng, small, 40))
    glow = np.clip(1 - band * 2.2, 0, 1) * np.clip(1 + 0.5 * noise(rng, small, 12), 0, 2)
    sheet.pixels = cv2.resize(np.clip(np.float32(night) + glow[..., None] * (26, 28, 40), 0, 255).astype(np.uint8), size)
    dice = np.random.default_rng(rng.getrandbits(32))
    n = 3500
    sheet.pixels[dice.integers(0, h, n), dice.integers(0, w, n)] = dice.integers(90, 220, (n, 1))
    for x, y, r in dice.uniform((0, 0, 0.8), (w, h, 1.9), (260, 3)):
        sheet.disc((x, y), r, (200, 206, 220))
    line = mix(night, (120, 150, 200), 0.45)
    center = (w * rng.uniform(0.4, 0.6), h * rng.uniform(0.4, 0.6))
    for k in range(1, 7):
        sheet.disc(center, k * h / 7, None, outline=mix(night, (90, 120, 170), 0.4), width=1)
    for k in range(12):
        sheet.line([center, polar(center, 2 * w, 30 * k)], mix(night, (90, 120, 170), 0.4), 1)
    face, t = rng.choice(("sans", "serif", "grotesk")), rng.randint(18, 20)
    names, magnitudes = _star_names(rng, 90), rng.sample(range(5, 690), 90)
    figures = rng.sample(LAST_NAMES, 18)
    things: list[Thing] = []
    for figure in figures:
        cx, cy, stars = rng.uniform(230, w - 230), rng.uniform(200, h - 200), []
        if not sheet.is_free((cx - 170, cy - 150, cx + 170, cy + 150), 0):
            continue
        start, count = rng.uniform(0, 360), rng.randint(4, 6)
        for k in range(count):
            x, y = (round(v) for v in polar((cx, cy), rng.uniform(110, 190), start + 360 * k / count + rng.uniform(-15, 15)))
            name, value = names[len(things)], f"{magnitudes[len(things)] / 100:.2f}"
            half = (25 + max(text_width(name, face, t), text_width(value, face, t))) / 2
            room = (x - 24, y - half - 14, x + 2 * half + 4, y + half + 14)  # a square
            if sheet.is_free(room, 4):
                stars.append((x, y, 9.0 - magnitudes[len(things)] / 110))
                one = sheet.text((x + 15, y - 1), name, face=face, size_px=t, fill=(226, 230, 240), anchor="ld")
                two = sheet.text((x + 15, y + 3), value, face=face, size_px=t, fill=(190, 200, 226), anchor="la")
                sheet.blocked.append(room)
                things.append(Thing(name, value, one, two, room))
        points = [(x, y) for x, y, _ in stars]
        if len(points) > 2:
            sheet.line(points, line, 2)
        for x, y, r in stars:
            sheet.disc((x, y), r, mix((255, 250, 235), rng.choice(((255, 190, 140), (170, 200, 255))), rng.uniform(0, 0.7)))
        if sheet.is_free((cx - 110, cy - 22, cx + 110, cy + 22), 4):
            sheet.text((cx, cy), figure.upper(), face="serif-italic", size_px=34, fill=mix(night, (150, 180, 230), 0.75), anchor="mm")
    words = Words(
        "the star {name}", "the star with the magnitude {value}", "What is the magnitude of the star {name}?",
        "Which star has the magnitude {value}?", "What is the magnitude of the star in the {mark}?",
        "Which star has the larger magnitude number: {a} or {b}?", "By how much is the magnitude of {a} larger than that of {b}?",
    )  # fmt: skip
    return World(sheet, "a star chart with constellations", things, words, face, t, "red ring", (250, 90, 80))


def _star_names(rng: random.Random, n: int) -> list[str]:
    """Invented names of two syllables and an ending."""
    starts = "Al Be Ca De El Fo Ga Ho In Ka Lu Me Na Or Pa Ra Sa Ta Ve Za".split()
    middles, ends = "ba da ko li mo no ra ri sha to".split(), "n r s th x".split()
    names = {f"{rng.choice(starts)}{rng.choice(middles)}{rng.choice(ends)}" for _ in range(4 * n)}
    return rng.sample(sorted(names), n)
