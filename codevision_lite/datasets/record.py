"""What a reader gives and a writer takes: one good row with its pictures, or one refused row with its reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from codevision_lite.datasets.pictures import Picture
from codevision_lite.records import Box, Sample, Trajectory

KEY = "codevision_lite"  # where another format keeps what its own fields can't hold, as JSON


class BadRow(ValueError):
    """A row that can't be used: which `field` of it, and why. Never leaves datasets/: it becomes a Reject."""

    def __init__(self, field: str, reason: str):
        super().__init__(reason)
        self.field, self.reason = field, " ".join(reason.split())


@dataclass(frozen=True)
class Record:
    """A sample, with its trajectory where there is one. Their pictures are in `pictures`, in the order of Trajectory.images."""

    sample: Sample  # .image is empty
    pictures: tuple[Picture, ...]  # [0] is the sample's
    trajectory: Trajectory | None = None  # .images is empty
    extra: dict[str, Any] = field(default_factory=dict)  # what our JSONL row has besides: "type", "trained"

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """The row of our own JSONL; `names`: the paths to write in place of the pictures."""
        sample = self.sample.to_json(names[0])
        if self.trajectory is None and not self.extra:
            return sample
        row = {**self.extra, "sample": sample}
        return row if self.trajectory is None else {**row, "trajectory": self.trajectory.to_json(list(names))}


@dataclass(frozen=True)
class Reject:
    """A row that was left out. `row`: its number in the file, from 1; 0: the whole file."""

    file: str
    row: int
    field: str  # "" where the row as a whole can't be read
    reason: str


def text(row: dict[str, Any], key: str, default: str | None = None) -> str:
    """A text field; `default` where it is missing or null, and BadRow where there is no default."""
    value = row.get(key)
    if value is None:
        if default is None:
            raise BadRow(key, f"{key!r} is {'null' if key in row else 'missing'} (fields: {', '.join(map(str, row)) or 'none'})")
        return default
    if not isinstance(value, str):
        raise BadRow(key, f"{key!r} must be a text, got {_short(value)}")
    if not value.strip():
        raise BadRow(key, f"{key!r} is empty")
    return value


def answers(value: Any, field: str) -> tuple[str, ...]:
    """One answer, or a list of answers any of which is right; numbers become text. Empty for null and for an empty list."""
    found = []
    for answer in value if isinstance(value, list) else [] if value is None else [value]:
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            raise BadRow(field, f"{field!r} must be a text or a list of texts, got {_short(value)}")
        if not str(answer).strip():
            raise BadRow(field, f"{field!r} holds an empty answer")
        found.append(str(answer))
    return tuple(found)


def box_numbers(value: Any, field: str) -> Box | None:
    """Four finite numbers x1 < x2, y1 < y2; None for null, for an empty list and for four zeros (how some files say "no box")."""
    if isinstance(value, str):
        value = _loads(value, field) if value.strip() else None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if value is None or value == [] or value == [0, 0, 0, 0]:
        return None
    numbers = isinstance(value, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    if not numbers or len(value) != 4:
        raise BadRow(field, f"{field!r} must be four numbers [x1, y1, x2, y2], got {_short(value)}")
    x1, y1, x2, y2 = (float(v) for v in value)
    if not all(abs(v) < 1e9 for v in (x1, y1, x2, y2)):  # False for NaN as well
        raise BadRow(field, f"{field!r} has a number that is not finite: {_short(value)}")
    if x1 >= x2 or y1 >= y2:
        raise BadRow(field, f"{field!r} is empty or reversed: x1 < x2 and y1 < y2 are needed, got {_short(value)}")
    if max(x2, y2) <= 1:
        raise BadRow(field, f"{field!r} must be in pixels, got fractions: {_short(value)}")
    return x1, y1, x2, y2


def inside(box: Box, size: tuple[int, int], slack_px: float = 1.0) -> Box | None:
    """`box` cut to a picture of `size` (W, H); None where it reaches more than `slack_px` beyond an edge."""
    (x1, y1, x2, y2), (width, height) = box, size
    if min(x1, y1) < -slack_px or x2 > width + slack_px or y2 > height + slack_px:
        return None
    cut = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    return cut if cut[0] < cut[2] and cut[1] < cut[3] else None


def _loads(value: str, field: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as e:
        raise BadRow(field, f"{field!r} is not JSON: {_short(value)}") from e


def json_object(value: Any, field: str) -> dict[str, Any]:
    """An object, or the JSON text of one; empty for null and for an empty text."""
    if isinstance(value, str) and value.strip():
        value = _loads(value, field)
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise BadRow(field, f"{field!r} must be an object or the JSON text of one, got {_short(value)}")
    return value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
