"""The viewer's data: entries as the JSON that view_draw.js reads, with every picture, sample and piece of code in it once.

Coordinates stay pixels of the user's picture (image 0), and of a returned picture where `target` is drawn on it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, UnidentifiedImageError

from codevision_lite.geometry import source_regions
from codevision_lite.records import Frame, Observation, Sample
from codevision_lite.report.highlight import highlight
from codevision_lite.report.load import condition_label, stage_label
from codevision_lite.report.pictures import PNG_LIMIT, TRUE_SIZE, box_outline, embed, outline_in_result
from codevision_lite.report.view_rows import Entry, Pairs

_REGIONS = 24  # outlines drawn for a composed picture; a mosaic of more says nothing

Size = tuple[int, int]


class Tables:
    """What entries share, each once. `folder`: of the page, where relative paths start; None: pictures go into the page."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self.pictures: list[list[Any]] = []  # [address, W, H]
        self.samples: list[dict[str, Any]] = []
        self.codes: list[str] = []  # highlighted HTML
        self._at: dict[tuple[str, Any], int | None] = {}

    def picture(self, path: str) -> int | None:
        """None where there is no such picture."""

        def make() -> list[Any] | None:
            if not path:
                return None
            size = _size(path)
            if size is None:
                return None
            if self._folder is None:
                address = _as_it_is(Path(path)) or (embed(path) or [None])[0]
                return [address, *size] if address else None
            return [quote(os.path.relpath(path, self._folder).replace(os.sep, "/")), *size]

        return self._once("picture", path, self.pictures, make)

    def sample(self, sample: Sample, condition: str) -> int:
        def make() -> dict[str, Any]:
            return {
                "id": sample.id, "question": sample.question, "answers": sample.answers, "needs": sample.required_ops,
                "condition": condition_label(condition), "picture": self.picture(str(sample.image)),
                "box": _points(box_outline(sample.target_box)) if sample.target_box else None,
            }  # fmt: skip

        return self._once("sample", (sample.id, condition, str(sample.image)), self.samples, make)

    def code(self, text: str) -> int:
        return self._once("code", text, self.codes, lambda: highlight(text))

    def _once(self, kind: str, key: Any, table: list[Any], make: Callable[[], Any]) -> Any:
        if (kind, key) not in self._at:
            value = make()
            self._at[kind, key] = None if value is None else len(table)
            if value is not None:
                table.append(value)
        return self._at[kind, key]


def view_data(entries: Sequence[Entry] | Pairs, folder: Path | None, on_progress: Callable[[int], None]) -> dict[str, Any]:
    """The object that the page shows: `rows` are lists of one entry, or of two that are compared."""
    paired = isinstance(entries, Pairs)
    tables = Tables(folder)
    rows = []
    for number, row in enumerate(entries.entries if paired else [(entry,) for entry in entries], 1):
        rows.append([_entry(entry, tables) for entry in row])
        on_progress(number)
    return {
        "names": [stage_label(name) for name in entries.names] if paired else None, "alone": entries.n_alone if paired else None,
        "rows": rows, "samples": tables.samples, "pictures": tables.pictures, "codes": tables.codes,
    }  # fmt: skip


def _entry(entry: Entry, tables: Tables) -> dict[str, Any]:
    trajectory = entry.trajectory
    return {
        "sample": tables.sample(entry.sample, entry.condition), "stage": stage_label(entry.stage), "step": entry.step,
        "correct": entry.correct, "why": entry.why, "total": _round(entry.total), "end": trajectory.end_reason, "answer": trajectory.answer,
        "terms": [[name, _round(value), _round(weight), reason] for name, (value, weight, reason) in entry.terms.items()],
        "turns": [_turn(turn, entry, tables) for turn in trajectory.turns],
    }  # fmt: skip


def _turn(turn: Any, entry: Entry, tables: Tables) -> dict[str, Any]:
    shown: dict[str, Any] = {"think": turn.think, "tokens": turn.n_tokens}
    if turn.call is not None:
        shown |= {"code": tables.code(turn.call.code), "on": turn.call.image_index}
    elif turn.answer is None:
        shown["raw"] = turn.text
    if turn.answer is not None:
        shown["answer"] = turn.answer
    if not turn.well_formed:
        shown["flaw"] = True
    if turn.observation is not None:
        shown["seen"] = _observation(turn.observation, entry, tables)
    return shown


def _observation(seen: Observation, entry: Entry, tables: Tables) -> dict[str, Any]:
    shown: dict[str, Any] = {"status": seen.status, "message": seen.message, "ops": [str(op) for op in seen.ops]}
    if seen.image_index is None:
        return shown
    images = entry.trajectory.images
    shown["index"] = seen.image_index
    shown["picture"] = tables.picture(str(images[seen.image_index])) if seen.image_index < len(images) else None
    if seen.frame is None:
        return shown
    shown["regions"] = [_points(region) for region in source_regions(seen.frame)[:_REGIONS]]
    if entry.sample.target_box and (outline := outline_in_result(entry.sample.target_box, seen.frame)):
        shown["target"] = _points(outline)
    if map_ := _one_map(seen.frame):
        shown["map"], shown["top"] = map_
    return shown


def _one_map(frame: Frame) -> tuple[list[float], list[list[float]]] | None:
    """For a whole picture that one affine map fills: [a, b, c, d, e, f, W, H], result -> image 0, and where its top edge lies there."""
    if len(frame.pieces) != 1 or frame.pieces[0].source != 0:
        return None
    (a, b, c), (d, e, f), last = frame.pieces[0].matrix
    if last != (0.0, 0.0, 1.0) or abs(a * e - b * d) < 1e-9:
        return None
    width, height = (max(corner[axis] for corner in frame.pieces[0].polygon) for axis in (0, 1))
    return [round(v, 5) for v in (a, b, c, d, e, f, width, height)], _points([(c, f), (a * width + c, d * width + f)])


def _size(path: str) -> Size | None:
    """(W, H) from the file's head, without decoding it; of the picture itself where the file is a smaller copy."""
    try:
        with Image.open(path) as file:
            comment = file.info.get("comment")
            true_size = TRUE_SIZE.fullmatch(comment) if isinstance(comment, bytes) else None
            return (int(true_size[1]), int(true_size[2])) if true_size else file.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _as_it_is(path: Path) -> str | None:
    """A small file as a data URI, without encoding it again; None for a large one or another format than browsers show."""
    kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}.get(path.suffix.lower())
    if kind is None or path.stat().st_size > PNG_LIMIT:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _points(polygon: Any) -> list[list[float]]:
    return [[round(x, 1), round(y, 1)] for x, y in polygon]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
