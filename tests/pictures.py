"""Small pictures and samples for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.records import Sample


def picture(width: int = 84, height: int = 84, seed: int = 0) -> Image.Image:
    """Coarse random blocks: no two seeds, orientations or crops look alike, also after the model's resize."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def sample(width: int = 84, height: int = 84, seed: int = 0, **more: Any) -> Sample:
    fields = {"id": f"s{seed}", "question": "What is written here?", "image": picture(width, height, seed), "answers": ("F",)}
    return Sample(**fields | more)


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()
