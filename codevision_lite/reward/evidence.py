"""What a trajectory really did, read from executed operations and traced geometry, once, for all reward terms.

Never reads code, comments, descriptions or thoughts: what counts is that an operation ran and what became of the
picture. Does not weigh anything (terms.py, dense.py) and does not look at pixels.
# limit: a picture that keeps its geometry while its content is painted over still counts as a view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from PIL import Image

from codevision_lite.geometry import (
    ORIENTATIONS,
    Overlap,
    area,
    compose_ops,
    frame_overlap,
    inverse_op,
    net_orientation,
    regions_overlap,
    source_regions,
)
from codevision_lite.records import Box, Frame, Observation, Op, Sample, Trajectory

MIN_CHANGE = 0.01  # mean absolute change of the picture: 2.5 of 255 grey levels, about what the eye notices on a flat area
_MIN_SCALE = 0.25  # result pixels per source pixel; smaller, and text that was readable no longer is
_MIN_SHARE = 1 / 64  # of the shown picture: an eighth of each side. A turned corner is not a turned picture
_CROPPED_BELOW = 0.98  # share of the shown picture; a shaved margin is not a crop
_WHOLE_TARGET = 0.9  # share of the target in view from which it can be read: a box has a margin
_ZOOM = 0.7  # share of its area to which a window shrinks in one step of a zoom
_MAX_PIECES = 32  # more, and exact overlap gets slow; such a mosaic earns nothing
_DESKEW_DEG = 15.0  # up to here a rotation straightens a scan; beyond, it turns the picture

_ORIENTING = frozenset(("rotate", "transpose", "mirror", "flip", "rot90", "fliplr", "flipud", "swapaxes", "exif_transpose"))
_WARPS = frozenset(("warpaffine", "warpperspective", "transform", "remap", "affine", "perspective", "quad", "mesh"))
_CROPS = frozenset(("crop", "slice", "getitem", "getrectsubpix"))
_RESAMPLES = frozenset(("resize", "thumbnail", "reduce", "pad", "fit", "contain", "cover", "scale", "expand", "pyrup", "pyrdown"))
_NAMED_TURNS = {
    "horizontal": "flip_horizontal", "vertical": "flip_vertical", "transpose": "transpose", "transverse": "transverse",
    "mirror": "flip_horizontal", "fliplr": "flip_horizontal", "flipud": "flip_vertical",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """One picture that came back from the tool."""

    turn: int  # index among the tool turns
    net: str | None  # orientation relative to image 0, as the operation applied to it; None: cannot be named
    tried: str | None  # `net`, or where the frame is unknown what the logged operations suggest; only ever held against a view
    overlap: Overlap  # with the target, in image 0's pixels; zeros where there is no target or the frame is unknown
    cropped: bool  # shows a proper part of image 0
    usable: bool  # large enough to read, and not a mere corner
    n_discarded: int  # orientation operations that ran and did not lead to this picture
    exhaustive: bool  # several orientations were produced by one piece of code
    oriented: bool  # an orientation operation ran, or the picture was turned
    effective: tuple[str, ...]  # operations other than orientation that changed the picture; "crop" where it was narrowed
    idle: bool  # the picture came back as it was given: not turned, not narrowed, not measurably changed
    crop_first: bool  # the run cropped before it turned


@dataclass(frozen=True)
class Evidence:
    """A sample, a trajectory and the facts that the terms share."""

    sample: Sample
    views: tuple[View, ...]
    whole: Overlap  # of the untouched picture with the target; zeros where its size or the target is unknown
    n_turns: int  # tool turns, failed ones included
    n_failed: int
    n_retried: int  # failed turns that a successful run followed
    answered: bool
    well_formed: bool
    accuracy: float | None  # [0, 1]; None: the judge failed
    accuracy_reason: str

    @property
    def right(self) -> bool:
        return self.accuracy is not None and self.accuracy >= 0.5

    @cached_property
    def required_orientations(self) -> tuple[str, ...]:
        names = tuple(name for name in self.sample.required_ops if name in ORIENTATIONS or name in ("transpose", "transverse"))
        return names if compose_ops(names) != "identity" else ()

    @cached_property
    def n_wrong_orientations(self) -> int:
        """Orientations that were tried and are neither the required one nor a stage on the way to it."""
        names = self.required_orientations
        good = {"identity"} | {compose_ops(names[: k + 1]) for k in range(len(names))}
        tried = {view.tried for view in self.views if view.tried is not None} - good
        unnamed = sum(view.tried is None and view.oriented for view in self.views)
        # two required operations may be reached over another stage than the listed one
        return max(0, len(tried) - max(0, len(names) - 1)) + unnamed + sum(view.n_discarded for view in self.views)

    @cached_property
    def n_zooms(self) -> int:
        """Steps of a zoom: crops with the target in them that a clearly narrower one follows, still with the target in it."""
        windows = [v.overlap for v in self.views if v.cropped and v.usable and v.overlap.recall >= _WHOLE_TARGET]
        return sum(a.precision <= _ZOOM * b.precision for a, b in pairwise(windows))

    @cached_property
    def optional_tools(self) -> tuple[str, ...]:
        """Effective operations outside the required set, except orientation ones (those have a term of their own)."""
        required = self.sample.required_ops
        names = {name for view in self.views for name in view.effective if name not in required and tail(name) not in required}
        return tuple(sorted(names))


def collect(
    sample: Sample, trajectory: Trajectory, accuracy: float | None, accuracy_reason: str, min_change: float = MIN_CHANGE
) -> Evidence:
    """Gather the facts of one trajectory; `accuracy` in [0, 1] comes from the answer alone."""
    size = picture_size(trajectory.images[0]) if trajectory.images else None
    size = size or picture_size(sample.image)
    observations = trajectory.observations
    last_ok = max((k for k, o in enumerate(observations) if o.status == "ok"), default=-1)
    target = sample.target_box
    answer = trajectory.answer
    return Evidence(
        sample=sample,
        views=_views(observations, target, size, min_change),
        whole=_whole(size, target) if size and target else Overlap(0.0, 0.0, 0.0),
        n_turns=len(observations),
        n_failed=sum(o.status != "ok" for o in observations),
        n_retried=sum(o.status != "ok" for o in observations[: last_ok + 1]),
        answered=bool(answer and answer.strip()),
        well_formed=bool(trajectory.turns) and all(turn.well_formed for turn in trajectory.turns),
        accuracy=accuracy,
        accuracy_reason=accuracy_reason,
    )


def tail(name: str) -> str:
    """The last dotted part of an operation's name, in lower case: "cv2.warpAffine" -> "warpaffine"."""
    return name.rpartition(".")[2].lower()


def op_orientation(op: Op) -> str | None:
    """The orientation that one operation applies; "identity" if it turns nothing, None if it turns in an unreadable way.

    The sandbox logs every library's spelling as rotate(angle), flip(direction) or transpose(method). Used to count tries inside
    one piece of code; what is credited is the traced frame of the result.
    """
    kind = tail(op.name)
    if kind not in _ORIENTING or op.change == 0.0:
        return "identity"
    if kind == "rotate":
        angle = op.args.get("angle")
        return _rotation(angle) if isinstance(angle, int | float) and math.isfinite(angle) else None
    spelled = {"flip": "direction", "transpose": "method"}.get(kind)
    return _NAMED_TURNS.get(str(op.args.get(spelled)) if spelled else kind)


def picture_size(image: Image.Image | str) -> tuple[float, float] | None:
    """(W, H) in pixels; of a path, from the file's header. None where the file cannot be read."""
    return image.size if isinstance(image, Image.Image) else _file_size(str(image))


@lru_cache(maxsize=4096)
def _whole(size: tuple[float, float], target: Box) -> Overlap:
    """The untouched picture as a crop; a prompt's rollouts share it."""
    return frame_overlap(Frame.identity(*size), target)


@lru_cache(maxsize=4096)
def _file_size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, Image.DecompressionBombError):
        return None


def _rotation(angle_deg: float) -> str | None:
    turned = angle_deg % 360.0
    nearest = round(turned / 90.0) % 4
    off = abs(turned - 90.0 * round(turned / 90.0))
    if nearest == 0 and off <= _DESKEW_DEG:
        return "identity"
    return ("identity", "rotate_90", "rotate_180", "rotate_270")[nearest] if off <= 1.0 else None


def _views(observations: Sequence[Observation], target: Box | None, size: tuple | None, min_change: float) -> tuple[View, ...]:
    nets: dict[int | None, str | None] = {0: "identity", None: "identity"}
    extents: dict[int | None, tuple[float | None, float | None]] = {0: (1.0, 1.0), None: (1.0, 1.0)}
    views = []
    for turn, seen in enumerate(observations):
        if seen.status != "ok" or seen.image_index is None:
            continue
        known = seen.frame is not None and len(seen.frame.pieces) <= _MAX_PIECES
        regions = source_regions(seen.frame, size=size) if known else []
        overlap, shown = regions_overlap(regions, target)
        share = shown / (size[0] * size[1]) if size and regions else None
        scale = (sum(area(p.polygon) for p in seen.frame.pieces) / shown) ** 0.5 if shown else None
        net = net_orientation(seen.frame) if known else None
        parent = nets.get(seen.source_index)
        step = compose_ops([inverse_op(parent), net]) if parent and net else None
        tries = [o for op in seen.ops if (o := op_orientation(op)) != "identity"]
        if step not in (None, "identity"):
            tries += [None for op in seen.ops if tail(op.name) in _WARPS]
        discarded, exhaustive = _discarded(tries, step)
        effective = _effective(seen.ops, extents.get(seen.source_index, (None, None)), (share, scale), min_change)
        kinds = [tail(op.name) for op in seen.ops]
        views.append(View(
            turn=turn, net=net, tried=net if known or not parent or None in tries else compose_ops([parent, *tries]),
            overlap=overlap,
            cropped=bool(regions) and (share is None or share < _CROPPED_BELOW),
            usable=bool(scale) and scale >= _MIN_SCALE and (share is None or share >= _MIN_SHARE or overlap.recall >= 0.5),
            n_discarded=discarded, exhaustive=exhaustive, oriented=bool(tries) or step not in (None, "identity"),
            effective=effective, idle=step == "identity" and not effective, crop_first=_crop_first(kinds),
        ))  # fmt: skip
        nets[seen.image_index], extents[seen.image_index] = net, (share, scale)
    return tuple(views)


def _discarded(tries: Sequence[str | None], step: str | None) -> tuple[int, bool]:
    """How many orientation operations of one run did not lead to its result, and whether the run was a search.

    Two operations reach every orientation. Three or more that are not one operation repeated, or that do not add up to
    the result, are a search: the code cannot see, so it had no reason to make them.
    """
    net = compose_ops(tries) if None not in tries else None
    if len(tries) >= 3:
        exhaustive = net is None or len(set(tries)) >= 3 or net != step
        return (len(tries) - 1 if exhaustive else 0), exhaustive
    if len(tries) == 2 and net is not None and step is not None and net != step:
        return 1, False
    return 0, False


def _crop_first(kinds: Sequence[str]) -> bool:
    crops = [k for k, kind in enumerate(kinds) if kind in _CROPS]
    turns = [k for k, kind in enumerate(kinds) if kind in _ORIENTING]
    return bool(crops and turns) and crops[0] < turns[0]


def _effective(ops: Sequence[Op], before: tuple, after: tuple, min_change: float) -> tuple[str, ...]:
    (share_before, scale_before), (share, scale) = before, after
    names = []
    if share is not None and share_before is not None and share < 0.9 * share_before:
        names.append("crop")
    rescaled = bool(scale and scale_before) and not 0.9 < scale / scale_before < 1.1
    for op in ops:
        kind = tail(op.name)
        if kind in _ORIENTING or kind in _CROPS:
            continue
        geometric = kind in _RESAMPLES or kind in _WARPS
        if (geometric and rescaled) or (not geometric and op.change is not None and op.change > min_change):
            names.append(op.name)
    return tuple(names)
