"""Our own format: one JSONL row per sample or trajectory, pictures in images/ beside it, named by their content.

{"sample": {...}, "trajectory": {...}, ...}       image paths are relative to the folder of the JSONL
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from codevision_lite.files import explain_os_errors, read_jsonl
from codevision_lite.imaging import open_image, save_png
from codevision_lite.records import Sample, Trajectory

IMAGES = "images"
_FIELDS: dict[str, tuple[type, str]] = {
    "question": (str, "a text"), "image": (str, "a path"), "answers": (list, "a list"), "required_ops": (list, "a list"),
    "meta": (dict, "an object"), "more_images": (list, "a list"),
}  # fmt: skip


@dataclass(frozen=True)
class TrainingRow:
    """A trajectory to imitate. `trained`: which of its replies are in the loss."""

    sample: Sample
    trajectory: Trajectory
    trained: tuple[bool, ...]


def sample_row(folder: Path, sample: Sample) -> dict[str, Any]:
    """The JSON row of a sample; its picture is saved under `folder`/images. Raises UserError where the disk is full."""
    with explain_os_errors(folder):
        first, *more = [f"{IMAGES}/{save_png(open_image(image), folder / IMAGES)}" for image in (sample.image, *sample.more_images)]
    return sample.to_json(first, more)


def trajectory_row(folder: Path, sample: Sample, trajectory: Trajectory, **extra: Any) -> dict[str, Any]:
    """The JSON row of a trajectory with its sample; all its pictures are saved under `folder`/images."""
    with explain_os_errors(folder):
        names = [f"{IMAGES}/{save_png(open_image(image), folder / IMAGES)}" for image in trajectory.images]
    shown = sample.to_json(names[0], names[1 : 1 + len(sample.more_images)])
    return {**extra, "sample": shown, "trajectory": trajectory.to_json(names)}


def load_samples(path: Path) -> list[Sample]:
    """Rows of {"sample": ...} or of samples themselves. Raises UserError naming file, row and field."""
    return read_jsonl(path, lambda row: _sample(row.get("sample", row), path))


def load_training_rows(path: Path) -> list[TrainingRow]:
    """Rows of trajectories to imitate. Raises UserError naming file, row and field, also where a picture is missing."""

    def parse(row: dict[str, Any]) -> TrainingRow:
        trajectory = Trajectory.from_json(row["trajectory"], path.parent)
        trained = tuple(row["trained"]) if "trained" in row else (True,) * len(trajectory.turns)
        if len(trained) != len(trajectory.turns):
            raise ValueError(f"'trained' has {len(trained)} values for {len(trajectory.turns)} replies")
        for image in trajectory.images:
            _check_picture(Path(image))
        last_of_user = len(row["sample"].get("more_images", ()))
        returned = [t.observation.image_index for t in trajectory.turns if t.observation and t.observation.image_index is not None]
        shown = [last_of_user, *returned]
        if max(shown) >= len(trajectory.images):
            raise ValueError(f"'image_index' {max(shown)} is outside the {len(trajectory.images)} 'images'")
        return TrainingRow(_sample(row["sample"], path), trajectory, trained)

    return read_jsonl(path, parse)


def _sample(row: dict[str, Any], path: Path) -> Sample:
    for key, (kind, what) in _FIELDS.items():
        if not isinstance(row.get(key, kind()), kind):
            raise ValueError(f"{key!r} must be {what}, got {row[key]!r}")
    sample = Sample.from_json(row)
    if sample.target_box and not (len(sample.target_box) == 4 and all(isinstance(v, int | float) for v in sample.target_box)):
        raise ValueError(f"'target_box' must be four numbers (x1, y1, x2, y2), got {row['target_box']!r}")
    first, *more = [path.parent / image for image in (sample.image, *sample.more_images)]
    for image in (first, *more):
        _check_picture(image)
    return replace(sample, image=str(first), more_images=tuple(map(str, more)))


def _check_picture(path: Path) -> None:
    """Raise ValueError where no picture can be opened. Reads its header only: pixels that are broken show when they are needed."""
    if not path.is_file():
        raise ValueError(f"no such image file: {path}")
    try:
        with Image.open(path):
            pass
    except (OSError, SyntaxError, Image.DecompressionBombError) as e:
        raise ValueError(f"not a readable image: {path}") from e
