"""Natural corruptions of pixels, each at five severities: what cameras, scanners, fog and thumbs do to a picture.

Pure functions of the pixels, the severity and a generator. A severity changes only the strength of what the generator
drew, so a higher one is more of the same. The tables were set by looking at text 20 pixels high: 1 is hardly seen, 3 is
clearly bad, 5 is hard to read. Corruptions that move pixels are in damage.py. All pixels are (H, W, 3) uint8 RGB.

The bytes do not depend on the processor: where OpenCV computes in floats, the numbers are such that rounding can't go
either way, and of its resizes only those are used that have one implementation.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from codevision_lite.records import Box

SEVERITIES = (1, 2, 3, 4, 5)

# Strengths by severity 1..5
_NOISE = (8, 16, 30, 48, 70)  # standard deviation, grey levels
_BLUR = (0.6, 0.95, 1.35, 1.75, 2.2)  # standard deviation, pixels
_MOTION = (2.0, 3.0, 4.0, 5.0, 6.0)  # pixels that the camera travelled
_JPEG = (50, 25, 14, 9, 5)  # quality
_LOW_LIGHT = ((0.82, 0.25), (0.58, 0.4), (0.38, 0.6), (0.25, 0.8), (0.16, 1.0))  # gain; shot noise per root of a grey level
_OVEREXPOSURE = ((0.06, 1.2), (0.15, 1.5), (0.27, 1.9), (0.4, 2.3), (0.52, 2.8))  # stray light, share of white; exponent of the shoulder
_LOW_CONTRAST = (0.8, 0.6, 0.42, 0.29, 0.19)  # share of the contrast that is left
_HAZE = (0.8, 0.62, 0.47, 0.35, 0.25)  # share of the light that comes through
_LOW_RESOLUTION = (1.25, 1.6, 2.0, 2.5, 3.0)  # factor by which the picture was once smaller
_OCCLUSION = (1, 2, 4, 7, 11)  # things that lie on the picture

_GAMMA = 1.25  # of low light: dark tones go first
_HAZE_SPREAD = 0.2  # how much thicker or thinner the haze is from place to place
_PLACES_TRIED = 24  # for each thing that lies on the picture
_KEEP_MARGIN = 4  # pixels around what must stay visible
# ink, coffee, correction tape, a thumb, dirt, adhesive tape, a pen
_COLOURS = ((24, 22, 26), (92, 62, 40), (238, 236, 228), (214, 176, 148), (120, 124, 130), (196, 186, 110), (52, 70, 120))


def noise(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Grain of a sensor, the same everywhere."""
    return cv2.add(pixels, _grain(pixels.shape, _NOISE[severity - 1], rng), dtype=cv2.CV_8U)


def blur(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Out of focus."""
    return cv2.GaussianBlur(pixels, (0, 0), _BLUR[severity - 1])


def motion(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """The camera moved along a straight line, in a direction that is drawn."""
    angle, half = rng.uniform(0, math.pi), _MOTION[severity - 1] / 2
    reach = math.ceil(half)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.clip(x * math.cos(angle) + y * math.sin(angle), -half, half)  # nearest point of the path
    kernel = np.maximum(0, 1 - np.hypot(x - along * math.cos(angle), y - along * math.sin(angle)))
    kernel = np.rint(255 * kernel / kernel.sum())
    kernel[reach, reach] += 255 - kernel.sum()
    return cv2.filter2D(pixels, -1, kernel / 255, borderType=cv2.BORDER_REPLICATE)  # whole 255ths: no sum is near a half


def jpeg(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Saved once as a small JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG[severity - 1]])
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def low_light(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Too dark, with the shot noise of few photons."""
    gain, shot = _LOW_LIGHT[severity - 1]
    dark = 255 * gain * (np.arange(256) / 255) ** _GAMMA
    deviation = cv2.LUT(pixels, np.rint(256 * shot * np.sqrt(dark)).astype(np.int16))  # whole 1/256: half the memory of floats
    grain = cv2.multiply(deviation, _grain(pixels.shape, 256, rng), scale=1 / (256 * 256))
    return cv2.add(cv2.LUT(pixels, _levels(dark)), grain, dtype=cv2.CV_8U)


def overexposure(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Too bright: light tones run together and stray light lifts the dark ones."""
    lift, shoulder = _OVEREXPOSURE[severity - 1]
    light = 1 - (1 - np.arange(256) / 255) ** shoulder
    return cv2.LUT(pixels, _levels(255 * (lift + (1 - lift) * light)))


def low_contrast(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """All tones close to one grey, which is drawn."""
    grey = rng.uniform(90, 190)
    return cv2.LUT(pixels, _levels(grey + _LOW_CONTRAST[severity - 1] * (np.arange(256) - grey)))


def haze(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A light grey veil, thicker here and thinner there."""
    height, width = pixels.shape[:2]
    veil, uneven = rng.integers(190, 233), rng.integers(0, 256, (4, 5), dtype=np.uint8)
    smooth = cv2.GaussianBlur(cv2.resize(uneven, (100, 80), interpolation=cv2.INTER_LINEAR_EXACT), (0, 0), 8)
    thinness = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    clear = cv2.LUT(thinness, _levels(255 * _HAZE[severity - 1] * np.linspace(1 - _HAZE_SPREAD, 1 + _HAZE_SPREAD, 256)))
    glow = cv2.LUT(clear, _levels(veil * (1 - np.arange(256) / 255)))
    return cv2.merge([cv2.add(cv2.multiply(channel, clear, scale=1 / 255), glow) for channel in cv2.split(pixels)])


def low_resolution(pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Made smaller and enlarged again: the size is the same, the detail is gone."""
    height, width = pixels.shape[:2]
    factor = _LOW_RESOLUTION[severity - 1]
    method = cv2.INTER_AREA if factor > 2 else cv2.INTER_LINEAR_EXACT  # up to 2, linear leaves no pixel out
    small = cv2.resize(pixels, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=method)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def occlusion(pixels: np.ndarray, severity: int, rng: np.random.Generator, keep: Box | None = None) -> np.ndarray:
    """Opaque spots and strips lie on the picture, none of them on the box `keep` (pixels of this picture).

    A thing that finds no place beside `keep` is left out."""
    covered = pixels.copy()
    for _ in range(_OCCLUSION[severity - 1]):
        colour, outlines = _thing(pixels.shape[1], pixels.shape[0], rng)
        free = (o for o in outlines if keep is None or not _meets(o, keep))
        if (outline := next(free, None)) is not None:
            cv2.fillPoly(covered, [np.rint(outline * 16).astype(np.int32)], colour, cv2.LINE_AA, shift=4)
    return covered


CORRUPTIONS = {f.__name__: f for f in (noise, blur, motion, jpeg, low_light, overexposure, low_contrast, haze, low_resolution, occlusion)}


def _thing(width: int, height: int, rng: np.random.Generator) -> tuple[tuple[int, int, int], np.ndarray]:
    """A colour, and the outline (n, 2) of a spot or a strip at each of the places that may be tried: (places, n, 2)."""
    short = min(width, height)
    turn, strip = rng.uniform(0, math.pi), rng.random() < 0.4
    if strip:
        length, breadth = rng.uniform(0.15, 0.4) * short, rng.uniform(0.015, 0.035) * short
        outline = np.array([(-length, -breadth), (length, -breadth), (length, breadth), (-length, breadth)]) / 2
    else:
        angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
        radius = 1 + sum(rng.uniform(0.03, 0.12) * np.sin(k * angles + rng.uniform(0, 6)) for k in (2, 3, 5))
        outline = rng.uniform(0.02, 0.05) * short * (radius * [np.cos(angles), 0.8 * np.sin(angles)]).T
    outline = outline @ [(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))]
    colour = tuple(int(v) for v in np.clip(rng.choice(_COLOURS) + rng.integers(-12, 13, 3), 0, 255))
    places = rng.random((_PLACES_TRIED, 1, 2)) * (width, height)
    return colour, outline + places


def _meets(outline: np.ndarray, keep: Box) -> bool:
    (x1, y1), (x2, y2) = outline.min(axis=0) - _KEEP_MARGIN, outline.max(axis=0) + _KEEP_MARGIN
    return x1 < keep[2] and keep[0] < x2 and y1 < keep[3] and keep[1] < y2


def _levels(values: np.ndarray) -> np.ndarray:
    """A table for the 256 grey levels."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _grain(shape: tuple[int, ...], deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise, int16. Each row is a window of one long row of noise, at a place of its own: drawing every value would
    take most of the time, and the eye finds no repetition in this."""
    height, row = shape[0], math.prod(shape[1:])
    pool = np.rint(deviation * rng.standard_normal(2 * row + (1 << 17), dtype=np.float32)).astype(np.int16)
    starts = rng.integers(0, len(pool) - row, height)
    return np.lib.stride_tricks.sliding_window_view(pool, row)[starts].reshape(shape)
