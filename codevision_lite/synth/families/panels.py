"""Pages of several panels: newspaper fronts and reports (columns.py), catalogues and slides (cards.py)."""

from __future__ import annotations

import random

from codevision_lite.synth.families.cards import draw_catalogue, draw_slides
from codevision_lite.synth.families.columns import draw_columns
from codevision_lite.synth.scene import Scene


def draw(rng: random.Random) -> Scene:
    """A page with several panels and a question about one or more of them."""
    return rng.choices((draw_columns, draw_catalogue, draw_slides), (5, 4, 3))[0](rng, "panel")
