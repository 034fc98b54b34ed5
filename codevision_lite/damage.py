"""What is done to a picture before the model sees it, and what undoes it.

A damage is a short text, kept in Sample.damage: "none", or parts joined by "+" in the order in which they were done, as in
"low_light:2+rotate_90". A part is
- an orientation of geometry.ORIENTATIONS, exact and exactly invertible ("rotate_90" turns counter-clockwise, as PIL);
- "tilt:<degrees>", a small turn, -20..20, counter-clockwise; the picture grows so that all of it stays in view, as PIL's expand;
- a corruption of CORRUPTIONS with a severity 1..5 ("noise:3").

The same (damage, seed, picture size) does the same to the same pixels. How pixels are corrupted is in corruptions.py; pictures
are not opened or stored here.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

import cv2
import numpy as np
from PIL import Image

from codevision_lite import corruptions
from codevision_lite.corruptions import SEVERITIES
from codevision_lite.errors import UserError
from codevision_lite.geometry import ORIENTATIONS, apply_op, compose_ops, inverse_op, map_box, op_matrix
from codevision_lite.imaging import open_image
from codevision_lite.records import Box

DAMAGES = ("none", *ORIENTATIONS)  # those that can be undone exactly
CORRUPTIONS = (*corruptions.CORRUPTIONS, "perspective")
MAX_TILT_DEG = 20.0
_SLANT = (0.02, 0.045, 0.075, 0.11, 0.15)  # by severity: how far a corner of the far side moves in, of the picture's sides

Size = tuple[int, int]  # (W, H)
Part = tuple[str, float | None]  # a name; its degrees or severity, None for an orientation

# What helps against a part that has no inverse, under the names that the sandbox logs (docs/SANDBOX.md); nothing helps against
# an occlusion. All of them are optional: what is required is what undo() says.
_BRIGHTEN = ("enhance.brightness", "autocontrast", "point", "convertScaleAbs", "LUT")
_STRETCH = ("autocontrast", "enhance.contrast", "equalize", "point", "convertScaleAbs", "LUT")
_SHARPEN = ("filter", "enhance.sharpness", "filter2D", "addWeighted")
_SMOOTH = ("filter", "medianBlur", "bilateralFilter", "GaussianBlur")
_REMEDIES = {
    "tilt": ("rotate", "warp.affine"), "perspective": ("transform.perspective", "warp.perspective"),
    "noise": (*_SMOOTH, "fastNlMeansDenoisingColored"), "jpeg": _SMOOTH,
    "blur": _SHARPEN, "motion": _SHARPEN, "low_resolution": (*_SHARPEN, "resize"),
    "low_light": _BRIGHTEN, "overexposure": ("enhance.brightness", *_STRETCH), "low_contrast": _STRETCH, "haze": _STRETCH,
}  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """One part at its place: the picture's size before and after it, and where it moves points (3x3, before -> after)."""

    name: str
    value: float | None
    rng: np.random.Generator
    before: Size
    after: Size
    matrix: np.ndarray


def parse_damage(text: str) -> tuple[Part, ...]:
    """The parts of a damage, in the order in which they were done. Raises UserError saying what is wrong.

    >>> parse_damage("low_light:2+tilt:-3.5+rotate_90"), parse_damage("none")
    ((('low_light', 2), ('tilt', -3.5), ('rotate_90', None)), ())
    """
    if not isinstance(text, str) or not text:
        raise UserError(f"damage {text!r}: expected a text such as 'none', 'rotate_90' or 'low_light:2+rotate_90'")
    return () if text == "none" else tuple(_parse_part(part, text) for part in text.split("+"))


def damage_image(image: Image.Image, damage: str, seed: int = 0, *, keep: Box | None = None) -> Image.Image:
    """A damaged copy; parts other than orientations need RGB and turn other modes into it.

    `keep`: a box in pixels of `image` that occlusions leave visible. Raises UserError for a damage that can't be read."""
    result, so_far = image.copy(), np.eye(3)
    for step in _steps(damage, image.size, seed):
        if step.name in ORIENTATIONS:
            result = apply_op(result, step.name)
        else:
            seen = keep and _inside(map_box(so_far, keep), step.before)
            result = Image.fromarray(_damage_pixels(np.asarray(open_image(result)), step, seen))
        so_far = step.matrix @ so_far
    return result


def damage_size(damage: str, size: Size) -> Size:
    """(W, H) of the damaged picture."""
    for step in _steps(damage, size, 0):
        size = step.after
    return size


def damage_matrix(damage: str, size: Size, seed: int = 0) -> np.ndarray:
    """(3, 3) float64: where a point of the undamaged picture of `size` (W, H) lies in the damaged one, pixel corners."""
    matrix = np.eye(3)
    for step in _steps(damage, size, seed):
        matrix = step.matrix @ matrix
    return matrix


def damage_box(box: Box, damage: str, size: Size, seed: int = 0) -> Box:
    """Bounding box, in pixels of the damaged picture and cut to it, of a box of the undamaged picture of `size` (W, H)."""
    return box if damage == "none" else _inside(map_box(damage_matrix(damage, size, seed), box), damage_size(damage, size))


def undo(damage: str) -> tuple[str, ...]:
    """The fewest operations of geometry.ORIENTATIONS, in order, that undo all orientations of a damage; by group algebra.

    Tilt and corruptions require nothing. One that was done before the orientations is as it was once these are undone; after
    a flip, a tilt hangs to the other side.

    >>> undo("rotate_90"), undo("noise:2+flip_vertical"), undo("rotate_90+flip_vertical"), undo("none")
    (('rotate_270',), ('flip_vertical',), ('rotate_90', 'flip_vertical'), ())
    """
    net = _net(damage)
    candidates = itertools.chain.from_iterable(itertools.product(ORIENTATIONS, repeat=n) for n in range(3))
    return next(ops for ops in candidates if compose_ops([net, *ops]) == "identity")


def has_exact_inverse(damage: str) -> bool:
    """Whether `restore` gives the undamaged picture back, pixel by pixel."""
    return all(name in ORIENTATIONS for name, _ in parse_damage(damage))


def restore(image: Image.Image, damage: str) -> Image.Image:
    """Undo the orientations of a damage, without resampling. Where `has_exact_inverse`, this is the undamaged picture.

    # limit: tilt and perspective stay. Their geometry is the inverse of `damage_matrix`, but warping back resamples pixels
    # a second time, so it comes near the undamaged picture and never gives it back.
    """
    return apply_op(image, inverse_op(_net(damage)))


def remedies(damage: str) -> tuple[str, ...]:
    """Names of operations, as the sandbox logs them, that help against the parts that `undo` leaves; () where nothing does.

    >>> remedies("tilt:4+rotate_90")
    ('rotate', 'warp.affine')
    """
    return tuple(dict.fromkeys(op for name, _ in parse_damage(damage) for op in _REMEDIES.get(name, ())))


def _parse_part(part: str, damage: str) -> Part:
    name, colon, value = part.partition(":")
    where = f"damage {damage[:80]!r}"
    if name in ORIENTATIONS and not colon:
        return name, None
    if name == "tilt":
        if re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]{1,6})?", value) and abs(float(value)) <= MAX_TILT_DEG:
            return name, float(value)
        raise UserError(f"{where}: 'tilt' takes degrees, -{MAX_TILT_DEG:g} to {MAX_TILT_DEG:g}, such as 'tilt:3.5'; got {value[:20]!r}")
    if name in CORRUPTIONS:
        if value in [str(s) for s in SEVERITIES]:
            return name, int(value)
        raise UserError(f"{where}: {name!r} takes a severity, 1 to 5, such as '{name}:3'; got {value[:20]!r}")
    if name in ORIENTATIONS:
        raise UserError(f"{where}: {name!r} takes no value; remove ':{value[:20]}'")
    if name == "none":
        raise UserError(f"{where}: 'none' stands alone; remove it")
    names = (*ORIENTATIONS, "tilt", *CORRUPTIONS)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}"
    raise UserError(f"{where}: unknown part {part[:40]!r}; {hint}")


def _net(damage: str) -> str:
    """The one orientation that the orientations of a damage add up to."""
    return compose_ops([name for name, _ in parse_damage(damage) if name in ORIENTATIONS])


def _steps(damage: str, size: Size, seed: int) -> Iterator[_Step]:
    for place, (name, value) in enumerate(parse_damage(damage)):
        # not the value: a higher severity is more of the same
        key = hashlib.sha256(f"{seed}/{place}/{name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
        after, matrix = size, np.eye(3)
        if name in ORIENTATIONS:
            after = size if name in ("rotate_180", "flip_horizontal", "flip_vertical") else size[::-1]
            matrix = op_matrix(inverse_op(name), *after)
        elif name == "tilt":
            after, matrix = _tilt(value, size)
        elif name == "perspective":
            matrix = _slant(int(value), size, rng)
        yield _Step(name, value, rng, size, after, matrix)
        size = after


def _tilt(degrees: float, size: Size) -> tuple[Size, np.ndarray]:
    """(W, H) and (3, 3) source -> result of Pillow's rotate(degrees, expand=True)."""
    width, height = size
    cos, sin = round(math.cos(math.radians(degrees)), 15), round(math.sin(math.radians(degrees)), 15)
    linear, middle = np.array([[cos, sin], [-sin, cos]]), np.array([width, height]) / 2
    corners = (np.array([(0, 0), (width, 0), (width, height), (0, height)]) - middle) @ linear.T + middle
    low, high = np.floor(np.round(corners.min(axis=0), 9)), np.ceil(np.round(corners.max(axis=0), 9))
    after = int(high[0] - low[0]), int(high[1] - low[1])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, np.array(after) / 2 - linear @ middle
    return after, matrix


def _slant(severity: int, size: Size, rng: np.random.Generator) -> np.ndarray:
    """(3, 3) source -> result of a page seen at a slant: one side is farther, and no corner leaves the picture."""
    far, inward = rng.integers(4), rng.uniform(0.1, 0.45, (4, 2))  # near corners move a little too
    inward[far] = inward[(far + 1) % 4] = rng.uniform(0.6, 1.0, 2)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float)
    moved = corners + (1 - 2 * corners) * inward * _SLANT[severity - 1]
    scale = np.diag([*size, 1.0])
    return scale @ _homography(corners, moved) @ np.linalg.inv(scale)


def _homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) that maps four points (4, 2) to four others; the last entry is 1."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1.0).reshape(3, 3)


def _damage_pixels(pixels: np.ndarray, step: _Step, keep: Box | None) -> np.ndarray:
    """(H, W, 3) uint8 RGB after a part that is no orientation; `keep` in pixels of this picture."""
    if step.name in ("tilt", "perspective"):
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        fill = [round(float(v)) for v in np.median(edge, axis=0)]  # the ground goes on beyond the edge
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # cv2's maps are between pixel centres
        centres = np.linalg.inv(half) @ step.matrix @ half
        if step.name == "tilt":
            return cv2.warpAffine(pixels, centres[:2], step.after, borderValue=fill)
        return cv2.warpPerspective(pixels, centres, step.after, borderValue=fill)
    more = {"keep": keep} if step.name == "occlusion" else {}
    return corruptions.CORRUPTIONS[step.name](pixels, int(step.value), step.rng, **more)


def _inside(box: Box, size: Size) -> Box:
    (x1, y1, x2, y2), (width, height) = box, size
    return max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)

