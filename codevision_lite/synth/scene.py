"""Scene: one upright picture with a question, its exact answer, and everything that the drawing knows about it.

The families that draw scenes are signs.py (the tiny model's world) and families/ (pages, charts, photographs and the rest).
samples.py damages a scene and makes a Sample of it; trajectories.py scripts how it is solved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from codevision_lite.records import Box

VIEW_PIXELS = 512 * 28 * 28  # what a model on one GPU sees of a picture: 512 visual tokens of 28x28 pixels
READABLE_PX = 9.0  # letters lower than this in the model's view can't be read


@dataclass(frozen=True)
class Scene:
    """Boxes are (x1, y1, x2, y2) in pixels of `image`, upright."""

    kind: str  # what is asked: "sign", "label"; of families/: "<family>/<question kind>", such as "receipt/compute"
    image: Image.Image  # RGB
    question: str
    answer: str
    target_box: Box | None  # the region that must be seen to answer, where there is one
    needs_crop: bool  # the region can't be read in the model's view of the whole picture
    readable_under: tuple[str, ...] | None  # orientation changes that leave the answer readable; None: any (nothing to turn)
    content_key: str  # equal keys = equal content; splits never share one
    facts: dict[str, Any] = field(default_factory=dict)  # JSON values; what is where, for heads, windows and words
    also: tuple[str, ...] = ()  # further spellings of the answer that are right
    subject: str = ""  # what the picture shows, as a noun phrase: "a receipt of the Corner Bakery"
    evidence: str = ""  # what the answer is read from: "the line Milk 2.49"
    working: str = ""  # how the answer follows from it, where it is not just read: "2.49 + 3.10 = 5.59"


def too_small(text_px: float, size: tuple[int, int]) -> bool:
    """Whether letters `text_px` pixels high in a picture of `size` (W, H) are unreadable in the model's view of the whole.

    >>> too_small(12, (800, 600)), too_small(12, (2400, 1800))
    (False, True)
    """
    return text_px * min(1.0, math.sqrt(VIEW_PIXELS / (size[0] * size[1]))) < READABLE_PX
