"""Rows of our own JSONL as Records, and rows of Hugging Face Parquet files that we wrote. The format itself: rows.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codevision_lite.datasets.pictures import Picture, read_picture
from codevision_lite.datasets.record import BadRow, Record, answers, box_numbers, inside, text
from codevision_lite.records import Sample, Trajectory

HF_COLUMNS = (
    "id", "question", "image", "answers", "required_ops", "target_box", "damage", "source", "meta", "tool_images", "trajectory", "extra",
)  # fmt: skip


def parse_ours(row: dict[str, Any], folder: Path) -> Record:
    """A row of our JSONL. Raises BadRow."""
    if "sample" not in row:
        sample, extra = row, {}
    else:
        sample = row["sample"]
        extra = {key: value for key, value in row.items() if key not in ("sample", "trajectory")}
    if not isinstance(sample, dict):
        raise BadRow("sample", f"'sample' must be an object, got {type(sample).__name__}")
    trajectory = row.get("trajectory") if "sample" in row else None
    if trajectory is None:
        text(sample, "image")
        return build_record(sample, [picture(sample["image"], folder, "image")], None, extra)
    paths = trajectory.get("images") if isinstance(trajectory, dict) else None
    if not isinstance(paths, list) or not paths:
        raise BadRow("trajectory", "'trajectory' must be an object with 'images', a list of paths")
    return build_record(sample, [picture(path, folder, "images") for path in paths], trajectory, extra)


def parse_hf(row: dict[str, Any], folder: Path) -> Record:
    """A row of a Parquet file written by parquet.py. Raises BadRow."""
    sample = {**row, "meta": _json(row, "meta") or {}, "required_ops": row.get("required_ops") or []}
    pictures = [picture(row.get("image"), folder, "image"), *(picture(p, folder, "tool_images") for p in row.get("tool_images") or [])]
    return build_record(sample, pictures, _json(row, "trajectory"), _json(row, "extra") or {})


def picture(value: Any, folder: Path | None, field: str) -> Picture:
    """`read_picture`, with BadRow that names the field."""
    try:
        return read_picture(value, folder)
    except ValueError as e:
        raise BadRow(field, str(e)) from e


def build_record(sample: dict[str, Any], pictures: Sequence[Picture], trajectory: Any, extra: dict[str, Any]) -> Record:
    """Check the JSON of a sample and of its trajectory against each other and against their pictures. Raises BadRow."""
    built = _sample(sample, pictures[0])
    if trajectory is None:
        return Record(built, tuple(pictures), None, extra)
    try:
        held = replace(Trajectory.from_json({**trajectory, "images": []}), images=())
    except KeyError as e:
        raise BadRow("trajectory", f"'trajectory' lacks the field {e.args[0]!r}") from e
    except (TypeError, ValueError, AttributeError) as e:
        raise BadRow("trajectory", f"'trajectory' can't be read: {e}") from e
    check_trajectory(held, len(pictures))
    trained = extra.get("trained", [])
    if not isinstance(trained, list) or ("trained" in extra and len(trained) != len(held.turns)):
        raise BadRow("trained", f"'trained' must be a list of {len(held.turns)} values, one a reply")
    return Record(built, tuple(pictures), held, extra)


def check_trajectory(trajectory: Trajectory, n_pictures: int) -> None:
    """Raises BadRow where turns are missing or name pictures that aren't there."""
    if not trajectory.turns:
        raise BadRow("trajectory", "the trajectory has no replies")
    for number, turn in enumerate(trajectory.turns):
        if not isinstance(turn.text, str):
            raise BadRow("trajectory", f"the text of reply {number} must be a text")
        seen = turn.observation
        if seen is not None and not isinstance(seen.message, str):
            raise BadRow("trajectory", f"the message after reply {number} must be a text")
        if seen is not None and seen.image_index is not None and not 0 <= seen.image_index < n_pictures:
            raise BadRow("trajectory", f"'image_index' {seen.image_index} is outside the {n_pictures} pictures")
    if trajectory.turns[-1].observation is not None and trajectory.answer is not None:
        raise BadRow("trajectory", "the trajectory has an answer but ends with an observation")


def _sample(row: dict[str, Any], shown: Picture) -> Sample:
    given = answers(row.get("answers"), "answers")
    if not given:
        raise BadRow("answers", "'answers' is missing, null or empty")
    ops, meta = row.get("required_ops") or [], row.get("meta") or {}
    if row.get("more_images"):
        raise BadRow("more_images", "a question about several pictures: other formats hold one")
    if not isinstance(ops, list) or not all(isinstance(op, str) for op in ops):
        raise BadRow("required_ops", f"'required_ops' must be a list of names, got {ops!r}")
    if not isinstance(meta, dict):
        raise BadRow("meta", f"'meta' must be an object, got {meta!r}")
    target = box_numbers(row.get("target_box"), "target_box")
    if target and inside(target, shown.size) is None:
        raise BadRow("target_box", f"'target_box' {target} reaches outside the picture of {shown.size[0]}x{shown.size[1]} pixels")
    name, source = row.get("id"), row.get("source") or ""
    if not isinstance(source, str):
        raise BadRow("source", f"'source' must be a text, got {source!r}")
    return Sample(
        id=str(name) if isinstance(name, int) and not isinstance(name, bool) else text(row, "id"), question=text(row, "question"),
        image="", answers=given, required_ops=tuple(ops), target_box=target, damage=text(row, "damage", "none"),
        source=source, meta=meta,
    )  # fmt: skip


def _json(row: dict[str, Any], key: str) -> Any:
    value = row.get(key)
    if value is None or value == "":
        return None
    try:
        loaded = json.loads(value)
    except (TypeError, ValueError, RecursionError) as e:
        raise BadRow(key, f"{key!r} is not the JSON text of an object") from e
    if not isinstance(loaded, dict):
        raise BadRow(key, f"{key!r} is not the JSON text of an object")
    return loaded
