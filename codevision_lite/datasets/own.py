"""Bring your own pictures: rows of {image, question, answer or answers, and a box if there is one} become undamaged samples.

JSONL, JSON list, CSV, TSV or Parquet. Boxes are in pixels of the picture as it is seen upright (EXIF orientation applied).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from codevision_lite.datasets.ours import picture
from codevision_lite.datasets.record import BadRow, Record, answers, box_numbers, inside, json_object, text
from codevision_lite.records import Sample

# The first that a row has is taken. `file_name` is how image folders of Hugging Face name it.
IMAGE_FIELDS = ("image", "images", "image_path", "file_name")
ANSWER_FIELDS = ("answers", "answer")
BOX_FIELDS = ("target_box", "box", "bbox", "bbox_2d")
OWN_COLUMNS = ("id", "question", "source", "meta", *IMAGE_FIELDS, *ANSWER_FIELDS, *BOX_FIELDS)


def parse_own(row: dict[str, Any], folder: Path) -> Record:
    """A user's row. Paths are relative to the folder of the file. Raises BadRow."""
    question = text(row, "question")
    answer_field = _present(row, ANSWER_FIELDS)
    given = tuple(dict.fromkeys(answers(_text_of_list(row[answer_field]), answer_field)))
    if not given:
        raise BadRow(answer_field, f"{answer_field!r} is null or empty")
    image_field, box_field = _present(row, IMAGE_FIELDS), next((f for f in BOX_FIELDS if row.get(f) is not None), "box")
    shown = picture(row[image_field], folder, image_field)
    box = box_numbers(row.get(box_field), box_field)
    if box and (box := inside(raw := box, shown.size)) is None:
        raise BadRow(box_field, f"{box_field!r} {raw} reaches outside the picture of {shown.size[0]}x{shown.size[1]} pixels")
    name = row.get("id")
    if name is None or name == "":
        name = f"own-{content_hash(question, shown.name, *given)}"
    elif isinstance(name, bool) or not isinstance(name, str | int):
        raise BadRow("id", f"'id' must be a text or a number, got {name!r}")
    sample = Sample(
        id=str(name), question=question, image="", answers=given, required_ops=(), target_box=box, damage="none",
        source=text(row, "source", "own"), meta=json_object(row.get("meta"), "meta"),
    )  # fmt: skip
    return Record(sample, (shown,))


def content_hash(*parts: str) -> str:
    """12 hexadecimal digits: equal content, equal digits."""
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:12]


def _present(row: dict[str, Any], fields: tuple[str, ...]) -> str:
    found = next((f for f in fields if row.get(f) is not None), None)
    if found is None:
        named = next((f for f in fields if f in row), None)
        fault = f"{named!r} is null" if named else f"{' or '.join(map(repr, fields))} is missing"
        raise BadRow(named or fields[0], f"{fault} (fields: {', '.join(map(str, row)) or 'none'})")
    return found


def _text_of_list(value: Any) -> Any:
    """CSV can't hold a list: a cell that is the JSON text of a list of texts is one."""
    if isinstance(value, str) and value.startswith('["') and value.endswith('"]'):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
