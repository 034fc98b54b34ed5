"""Where scenes come from: the drawn families, by weight, and a user's own pictures.

`draw_scene(source, rng)` gives one scene. Every source is named in a recipe's `data.families`; own pictures in `data.own`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence

from codevision_lite.imaging import open_image
from codevision_lite.records import Sample
from codevision_lite.synth.families import canvases, charts, figures, handwriting, panels, receipts, scene_text, tables
from codevision_lite.synth.scene import Scene, too_small

Draw = Callable[[random.Random], Scene]

FAMILIES: dict[str, Draw] = {
    "receipt": receipts.draw, "table": tables.draw, "chart": charts.draw, "scene_text": scene_text.draw,
    "handwriting": handwriting.draw, "figure": figures.draw, "canvas": canvases.draw, "panel": panels.draw,
}  # fmt: skip
_LETTERS_IN_BOX = 0.5  # height of a letter in a box drawn around one line by hand


def weighted(families: dict[str, float], own: Sequence[Sample] = (), own_share: float = 0.0) -> Draw:
    """One draw over all sources; `own_share` of the scenes come from the user's pictures."""
    names, weights = tuple(families), tuple(families.values())

    def draw(rng: random.Random) -> Scene:
        if own and rng.random() < own_share:
            return own_scene(rng.choice(own))
        return FAMILIES[rng.choices(names, weights)[0]](rng)

    return draw


def own_scene(sample: Sample) -> Scene:
    """A user's upright picture with its question as a scene. Raises UserError where the picture can't be opened.

    Letters are taken to be half as high as the box, as in a box drawn around one line; without a box nothing is cropped.
    """
    image, box = open_image(sample.image), sample.target_box
    text_px = _LETTERS_IN_BOX * (box[3] - box[1]) if box else 0.0
    key = hashlib.sha256(f"{image.size}|{sample.question}|{sample.answers}".encode() + image.tobytes()).hexdigest()[:16]
    return Scene(
        kind=f"own/{sample.source or 'picture'}", image=image, question=sample.question, answer=sample.answers[0], target_box=box,
        needs_crop=box is not None and too_small(text_px, image.size), readable_under=(), content_key=f"own|{key}",
        facts={"text_px": text_px}, also=sample.answers[1:],
    )  # fmt: skip
