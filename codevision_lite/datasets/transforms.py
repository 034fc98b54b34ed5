"""What other data sets call the damage and the operations, in our names."""

from __future__ import annotations

import ast
import re
from typing import Any

from codevision_lite.damage import undo
from codevision_lite.datasets.formats import TransformIs
from codevision_lite.datasets.record import BadRow
from codevision_lite.geometry import ORIENTATIONS, compose_ops, inverse_op

_FLIPS = {
    "flip_horizontal": ("fliph", "hflip", "fliphorizontal", "horizontalflip", "flipleftright", "fliplr", "mirror", "horizontal"),
    "flip_vertical": ("flipv", "vflip", "flipvertical", "verticalflip", "fliptopbottom", "flipud", "flip", "vertical"),
}
_NAMES = {
    **{alias: name for name, aliases in _FLIPS.items() for alias in aliases},
    **{f"{word}{degrees}": f"rotate_{degrees}" for word in ("rotate", "rotation", "rot", "r") for degrees in (90, 180, 270)},
    **dict.fromkeys(("crop", "zoom", "zoomin"), "crop"),
    **dict.fromkeys(("none", "no", "null", "original", "identity", "notransform", "rotate0", "notool"), ""),
}


def read_transform(value: Any, means: TransformIs = "damage") -> tuple[str, tuple[str, ...]]:
    """(damage, required_ops) of a `transform` field: a name, a list of names, or the text of such a list; null is no damage.

    means "damage": it names what was done to the picture (rotate_90: turned counter-clockwise), so its inverse is required, as
    the released reward has it; "ops": it names what has to be done. "crop" is what has to be done in both, and comes last.
    Raises BadRow for a name that isn't known, and for a diagonal flip, which no single operation undoes.

    >>> read_transform(["crop", "rotate_90"])
    ('rotate_90', ('rotate_270', 'crop'))
    """
    names = [_name(v) for v in _names(value)]
    turns = [name for name in names if name not in ("", "crop")]
    net = compose_ops(turns) if turns else "identity"
    if means == "ops":
        net = inverse_op(net)
    damage = "none" if net == "identity" else net
    if damage not in ("none", *ORIENTATIONS):
        raise BadRow("transform", f"'transform' {value!r} makes a diagonal flip ({net}), which no single operation undoes")
    required = tuple(turns) if means == "ops" else undo(damage)
    return damage, (*required, "crop") if "crop" in names else required


def write_transform(required_ops: tuple[str, ...]) -> list[str]:
    """The released rows' `transform`: crop first, then the inverse of what has to be done (here only orientation changes count).

    >>> write_transform(("rotate_270", "crop"))
    ['crop', 'rotate_90']
    """
    turns = [inverse_op(op) for op in reversed(required_ops) if op in ORIENTATIONS]
    return (["crop"] if "crop" in required_ops else []) + turns


def _names(value: Any) -> list[Any]:
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = ast.literal_eval(value.strip())  # JSON and Python write a list of texts alike
        except (ValueError, SyntaxError, MemoryError, RecursionError) as e:
            raise BadRow("transform", f"'transform' is not a list: {value[:80]!r}") from e
    if isinstance(value, str):
        value = re.split(r"[,+;]", value)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow("transform", f"'transform' must be a name or a list of names, got {value!r}")
    return value


def _name(value: Any) -> str:
    if value is None:
        return ""
    key = re.sub(r"[^a-z0-9]", "", value.lower()) if isinstance(value, str) else None
    key = re.sub(r"(degrees?|deg|ccw)$", "", key) if key else key
    if key is None or (key and key not in _NAMES):
        known = "rotate_90|180|270, flip_horizontal|vertical, crop, none"
        raise BadRow("transform", f"'transform' names a change that is not known, got {value!r} (known: {known})")
    return _NAMES.get(key, "")
