"""In which frame is a box: in pixels of the picture as it is shown (damaged), or of the picture before the damage?

The released rows don't say, and nothing in them converts a box. Each row is judged by what can be seen:
fit     the box fits into one of the two sizes only (a quarter turn swaps width and height);
edges   text has many edges inside its box and few along the box's outline; a box in the wrong place cuts through text or is empty;
aspect  after a quarter turn lines of text run upright in the shown picture, so boxes of text are taller than wide there.
The evidence is summed in logarithms; what stays below DECIDED is "ambiguous", and the caller's default applies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codevision_lite.damage import damage_box
from codevision_lite.datasets.record import inside
from codevision_lite.geometry import iou
from codevision_lite.records import Box

Verdict = Literal["shown", "canonical", "ambiguous"]

DECIDED = 0.7  # evidence beyond which a frame is named; tests/test_datasets_frames.py measures how often that is right
TEXT = 0.4  # and the place that is named must look like text by itself: two places without any say nothing
SAME_IOU = 0.8  # the two readings are nearly the same place: nothing to decide, and little to lose
_QUARTER_TURNS = ("rotate_90", "rotate_270")
_FAINT = 2.0  # mean edge strength, in gray levels, of what counts as empty paper
_MARGIN_PX = 3  # how far around a box its outline is looked at
_WEIGHT_ASPECT = 0.5  # a box of a paragraph or of one letter has no telling aspect; edges say more


@dataclass(frozen=True)
class BoxFrame:
    """`verdict` and both readings, in pixels of the shown picture; None where a reading doesn't fit into it."""

    verdict: Verdict
    shown: Box | None
    canonical: Box | None
    evidence: float  # > 0 speaks for shown, < 0 for canonical; infinite where only one reading fits

    def box(self, default: Literal["shown", "canonical"]) -> Box:
        """The box in the shown picture; `default` is the reading of an ambiguous one."""
        frame = default if self.verdict == "ambiguous" else self.verdict
        chosen = self.shown if frame == "shown" else self.canonical
        assert chosen is not None, f"{self} has no box"
        return chosen


def find_frame(pixels: np.ndarray, box: Box, damage: str) -> BoxFrame | None:
    """Judge one box. `pixels`: (H, W) gray of the shown picture; `damage`: "none" or an orientation change.

    None where the box fits into neither frame."""
    height, width = pixels.shape
    canonical_size = (height, width) if damage in _QUARTER_TURNS else (width, height)
    as_shown = inside(box, (width, height))
    before = inside(box, canonical_size)
    mapped = damage_box(before, damage, canonical_size) if before else None
    if as_shown is None and mapped is None:
        return None
    if damage == "none" or mapped is None:
        return BoxFrame("shown", as_shown, mapped, math.inf)
    if as_shown is None:
        return BoxFrame("canonical", None, mapped, -math.inf)
    if iou(as_shown, mapped) > SAME_IOU:
        return BoxFrame("ambiguous", as_shown, mapped, 0.0)
    likeness = _text_likeness(pixels, as_shown), _text_likeness(pixels, mapped)
    evidence = likeness[0] - likeness[1]
    if damage in _QUARTER_TURNS:
        evidence += _WEIGHT_ASPECT * 2 * math.log((as_shown[3] - as_shown[1]) / (as_shown[2] - as_shown[0]))
    decided = abs(evidence) >= DECIDED and likeness[0 if evidence > 0 else 1] >= TEXT
    verdict: Verdict = "ambiguous" if not decided else "shown" if evidence > 0 else "canonical"
    return BoxFrame(verdict, as_shown, mapped, evidence)


def _text_likeness(pixels: np.ndarray, box: Box) -> float:
    """Log of edge strength inside a box over edge strength along its outline; negative for empty paper and for cut text."""
    height, width = pixels.shape
    x1, y1, x2, y2 = (round(v) for v in box)
    left, top = max(0, x1 - _MARGIN_PX), max(0, y1 - _MARGIN_PX)
    region = pixels[top : min(height, y2 + _MARGIN_PX), left : min(width, x2 + _MARGIN_PX)]
    edges = _edges(region)
    inner = np.zeros(edges.shape, bool)
    inner[y1 - top + 1 : y2 - top - 1, x1 - left + 1 : x2 - left - 1] = True
    if not inner.any() or inner.all():
        return 0.0
    within, outline = float(edges[inner].mean()), float(edges[~inner].mean())
    return math.log((within + _FAINT) / (outline + _FAINT)) + 0.5 * math.log((within + _FAINT) / (_typical(pixels) + _FAINT))


def _typical(pixels: np.ndarray) -> float:
    """Mean edge strength of the whole picture, from a sample of its rows."""
    step = max(1, pixels.shape[0] // 256)
    rows = pixels[::step].astype(np.int16)
    return float(np.abs(np.diff(rows, axis=1)).mean()) if rows.shape[1] > 1 else 0.0


def _edges(region: np.ndarray) -> np.ndarray:
    """Gradient magnitude per pixel, in gray levels."""
    values = region.astype(np.int16)
    across = np.abs(np.diff(values, axis=1, append=values[:, -1:]))
    down = np.abs(np.diff(values, axis=0, append=values[-1:]))
    return np.maximum(across, down)
