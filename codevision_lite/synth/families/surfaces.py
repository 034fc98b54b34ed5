"""Photographic-looking surfaces and light: brick, wood, plaster, open country, blurred lights; objects hung on them at a slant.

Pixels are (H, W, 3) uint8 RGB; sizes are (W, H). Noise is drawn small and enlarged, which is fast and looks soft.
"""

from __future__ import annotations

import math
import random

import cv2
import numpy as np
from PIL import Image

from codevision_lite.records import Box
from codevision_lite.synth.families.drawing import Color, Point, Sheet, mix, noise

_BRICKS = ((150, 74, 58), (172, 104, 78), (128, 96, 84), (188, 168, 142), (110, 60, 52), (205, 200, 192))
_WOODS = ((142, 98, 62), (112, 74, 46), (176, 138, 96), (90, 82, 76), (196, 170, 132))
PAINTS = ((28, 70, 130), (150, 32, 40), (24, 84, 60), (44, 44, 48), (240, 236, 224), (222, 170, 50), (96, 52, 110), (20, 110, 120))
_PLASTERS = ((202, 190, 170), (176, 184, 188), (214, 206, 196), (150, 160, 150), (190, 160, 130), (120, 124, 130))


def brick(rng: random.Random, size: tuple[int, int]) -> np.ndarray:
    """A brick wall."""
    half, base = (size[0] // 2 + 1, size[1] // 2 + 1), rng.choice(_BRICKS)
    wide = rng.randint(26, 46)
    high = round(wide / rng.uniform(2.2, 2.9))
    rows, columns = np.arange(half[1]) // high, np.arange(half[0])
    shifted = columns[None] + (rows[:, None] % 2) * (wide // 2)
    dice = np.random.default_rng(rng.getrandbits(32))
    tones = dice.normal(0, 13, (rows[-1] + 1, shifted.max() // wide + 1, 1)) + dice.normal(0, 4, (1, 1, 3))
    table = np.clip(np.float32(base) + tones, 0, 255).astype(np.uint8)
    pixels = table[rows[:, None], shifted // wide]
    joint = (shifted % wide < 2) | (np.arange(half[1]) % high < 2)[:, None]
    pixels[joint] = mix(base, (205, 200, 192), rng.uniform(0.3, 0.6)) if sum(base) < 520 else (150, 146, 140)
    return cv2.resize(_roughen(pixels, rng, 10), size, interpolation=cv2.INTER_LINEAR)


def wood(rng: random.Random, size: tuple[int, int]) -> np.ndarray:
    """Boards with grain, lying or standing."""
    if rng.random() < 0.4:
        return np.ascontiguousarray(wood(rng, size[::-1]).transpose(1, 0, 2))
    base, board, half = rng.choice(_WOODS), rng.randint(35, 85), (size[0] // 2 + 1, size[1] // 2 + 1)
    rows = np.arange(half[1]) // board
    dice = np.random.default_rng(rng.getrandbits(32))
    tones = dice.normal(0, 10, rows[-1] + 1)[rows].astype(np.float32)
    tones[np.arange(half[1]) % board < 2] = -60
    grain = cv2.resize(noise(rng, (max(2, half[0] // 22), half[1]), 1.0), half, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(_tinted(base, grain * 9 + tones[:, None]), size, interpolation=cv2.INTER_LINEAR)


def plaster(rng: random.Random, size: tuple[int, int]) -> np.ndarray:
    """A painted wall with stains."""
    small = (size[0] // 2 + 1, size[1] // 2 + 1)
    tone = noise(rng, small, rng.uniform(60, 160)) * 8 + noise(rng, small, 3) * 3
    return cv2.resize(_tinted(rng.choice(_PLASTERS), tone), size, interpolation=cv2.INTER_LINEAR)


def country(rng: random.Random, size: tuple[int, int], horizon: float) -> np.ndarray:
    """Sky, out-of-focus hills and a field; `horizon` is its height as a share of the picture's."""
    small = (size[0] // 4 + 1, size[1] // 4 + 1)
    top, low = rng.choice((((92, 142, 205), (205, 222, 236)), ((150, 160, 172), (214, 216, 218)), ((74, 98, 150), (240, 190, 150))))
    down = np.linspace(0, 1, small[1], dtype=np.float32)[:, None, None]
    pixels = (np.float32(top) + (np.float32(low) - np.float32(top)) * np.minimum(1, down / horizon)).repeat(small[0], 1)
    clouds = cv2.resize(noise(rng, (small[0] // 4, small[1]), small[1] / 14), small)  # wide and low
    clouds = np.clip(clouds, 0, 1.5)[..., None] * np.maximum(0, 1 - down / horizon)
    sheet = Sheet(small, (0, 0, 0))
    sheet.pixels = np.clip(pixels + clouds * 40, 0, 255).astype(np.uint8)
    green = rng.choice(((96, 124, 70), (128, 132, 78), (84, 110, 84), (150, 138, 92)))
    for layer in range(3):
        y, wave = small[1] * (horizon - 0.1 + 0.06 * layer), rng.uniform(0, 7)
        line = [(x, y + small[1] * 0.035 * math.sin(wave + x / small[0] * rng.uniform(4, 5))) for x in range(0, small[0] + 8, 8)]
        sheet.polygon([*line, (small[0], small[1]), (0, small[1])], mix(green, low, 0.45 - 0.2 * layer))
    return cv2.resize(_roughen(cv2.GaussianBlur(sheet.pixels, (0, 0), 1.6), rng, 1.5), size, interpolation=cv2.INTER_LINEAR)


def lights(rng: random.Random, size: tuple[int, int]) -> np.ndarray:
    """A dark room or street with blurred lights."""
    small = (size[0] // 4 + 1, size[1] // 4 + 1)
    base = rng.choice(((38, 34, 44), (52, 44, 38), (30, 40, 52), (60, 58, 66)))
    sheet = Sheet(small, base)
    sheet.pixels = _tinted(base, noise(rng, small, small[0] / 4) * 14)
    for _ in range(rng.randint(12, 28)):
        color = rng.choice(((250, 210, 140), (240, 160, 90), (160, 190, 240), (230, 230, 220), (220, 110, 100), (130, 200, 170)))
        center, radius = (rng.uniform(0, small[0]), rng.uniform(0, small[1])), rng.uniform(4, 17)
        sheet.disc(center, radius, mix(base, color, rng.uniform(0.25, 0.7)))
    return cv2.resize(cv2.GaussianBlur(sheet.pixels, (0, 0), 2.2), size, interpolation=cv2.INTER_LINEAR)


def photograph(rng: random.Random, pixels: np.ndarray) -> Image.Image:
    """The scene under uneven light, with the grain of a sensor."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1:1:16j, -1:1:16j].astype(np.float32)
    turn = rng.uniform(0, 2 * math.pi)
    slope = (x * math.cos(turn) + y * math.sin(turn)) * rng.uniform(0.05, 0.2) - (x * x + y * y) * rng.uniform(0, 0.1)
    light = np.clip((0.98 + slope) * 128, 60, 255).astype(np.uint8)
    pixels = cv2.multiply(pixels, cv2.merge([cv2.resize(light, (width, height))] * 3), scale=1 / 128)
    dice = np.random.default_rng(rng.getrandbits(32))
    tile = np.clip(dice.normal(128, rng.uniform(2, 6), (256, 256, 3)), 0, 255).astype(np.uint8)
    grain = np.tile(tile, (height // 256 + 1, width // 256 + 1, 1))[:height, :width]
    return Image.fromarray(cv2.addWeighted(pixels, 1, grain, 1, -128))


def mount(pixels: np.ndarray, image: Image.Image, corners: list[Point], shade: float = 0.45, offset: Point = (8, 10)) -> np.ndarray:
    """Hang `image` on the surface, in place, with a soft shadow at `offset` px.

    `corners`: where its top left, top right, bottom right and bottom left come to lie. Returns the 3x3 map of its pixels.
    """
    (w, h), quad = image.size, np.float32(corners)
    matrix = cv2.getPerspectiveTransform(np.float32([(0, 0), (w, 0), (w, h), (0, h)]), quad)
    margin = 40
    x1, y1 = (max(0, int(v) - margin) for v in quad.min(0))
    x2, y2 = (min(limit, int(v) + margin) for v, limit in zip(quad.max(0), pixels.shape[1::-1], strict=True))
    size, here = (x2 - x1, y2 - y1), np.array([[1, 0, -x1], [0, 1, -y1], [0, 0, 1.0]]) @ matrix
    mask = cv2.warpPerspective(np.full((h, w), 255, np.uint8), here, size)
    region = pixels[y1:y2, x1:x2]
    shadow = cv2.warpAffine(mask, np.float32([[0.25, 0, offset[0] / 4], [0, 0.25, offset[1] / 4]]), (size[0] // 4 + 1, size[1] // 4 + 1))
    shadow = cv2.resize(cv2.GaussianBlur(shadow, (0, 0), 1.8), size)
    dark = 255 - (shadow * np.float32(shade)).astype(np.uint8)
    region[:] = cv2.multiply(region, cv2.merge([dark] * 3), scale=1 / 255)
    front = cv2.warpPerspective(np.asarray(image), here, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    keep = cv2.merge([mask] * 3)
    region[:] = cv2.add(cv2.multiply(front, keep, scale=1 / 255), cv2.multiply(region, 255 - keep, scale=1 / 255))
    return matrix


def moved(box: Box, matrix: np.ndarray) -> Box:
    """The bounding box of `box` under a 3x3 map."""
    x1, y1, x2, y2 = box
    points = np.array([(x1, y1, 1), (x2, y1, 1), (x2, y2, 1), (x1, y2, 1)]) @ matrix.T
    points = points[:, :2] / points[:, 2:]
    return tuple(float(v) for v in (*points.min(0), *points.max(0)))


def slanted(box: Box, rng: random.Random, much: float = 0.04) -> list[Point]:
    """The corners of `box`, each moved by up to the share `much` of its sides: as seen from a little aside."""
    x1, y1, x2, y2 = box
    dx, dy = much * (x2 - x1), much * (y2 - y1)
    return [(x + rng.uniform(-dx, dx), y + rng.uniform(-dy, dy)) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]


def _tinted(base: Color, tone: np.ndarray) -> np.ndarray:
    return np.clip(np.float32(base) + tone[..., None], 0, 255).astype(np.uint8)


def _roughen(pixels: np.ndarray, rng: random.Random, amount: float) -> np.ndarray:
    """`pixels` with light and dark spots of a few pixels."""
    spots = np.clip(128 + noise(rng, pixels.shape[1::-1], 2.5) * amount, 0, 255).astype(np.uint8)
    return cv2.addWeighted(pixels, 1, cv2.merge([spots] * 3), 1, -128)
