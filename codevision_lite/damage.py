"""What is done to a picture before the model sees it, and what undoes it.

Today: the five orientation changes of the paper (section 5), exact and exactly invertible. Names are those of
geometry.ORIENTATIONS; "none" leaves the picture as it is. `rotate_90` turns it counter-clockwise, as PIL.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from codevision_lite.geometry import ORIENTATIONS, apply_op, inverse_op, map_box, op_matrix
from codevision_lite.records import Box

DAMAGES = ("none", *ORIENTATIONS)


def damage_image(image: Image.Image, damage: str) -> Image.Image:
    """A damaged copy. Raises UserError for an unknown name."""
    return apply_op(image, "identity" if damage == "none" else damage)


def damage_box(box: Box, damage: str, size: tuple[int, int]) -> Box:
    """Where a box of the undamaged picture of `size` (W, H) lies in the damaged one, in pixels."""
    if damage == "none":
        return box
    return map_box(np.linalg.inv(op_matrix(damage, *size)), box)


def undo(damage: str) -> tuple[str, ...]:
    """The operations that restore the picture, from group algebra.

    >>> undo("rotate_90"), undo("flip_vertical"), undo("none")
    (('rotate_270',), ('flip_vertical',), ())
    """
    return () if damage == "none" else (inverse_op(damage),)
