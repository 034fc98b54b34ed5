"""The two records that everything reads: a Sample goes in, a Trajectory comes out.

Frozen dataclasses with a JSON round trip; pictures are kept as PNG files beside the JSONL, named by their content.
Coordinates are pixel corners (x right, y down, origin at the top-left corner), boxes are (x1, y1, x2, y2), PIL sizes are (W, H).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]
Status = Literal["ok", "refused", "error", "timeout", "memory", "output", "format"]
EndReason = Literal["answer", "max_turns", "length", "no_action", "too_many_images"]


@dataclass(frozen=True)
class Op:
    """One image operation that really ran. `change`: mean absolute change of the picture in [0, 1], None where not measured."""

    name: str  # "crop", "rotate", "transpose", "flip", "resize", "enhance.contrast", ...
    args: dict[str, Any] = field(default_factory=dict)  # JSON values only
    change: float | None = None

    def __str__(self) -> str:
        """As people read it, at most 80 characters: crop(0, 0, 40, 30)."""
        values = [f"{v:g}" if isinstance(v, float) else str(v) for v in self.args.values()]
        text = f"{self.name}({', '.join(values)})"
        return text if len(text) <= 80 else f"{text[:79]}…"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "args": self.args, "change": self.change}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Op:
        return cls(row["name"], row["args"], row["change"])


@dataclass(frozen=True)
class Piece:
    """A convex region of a result and where its pixels came from."""

    polygon: tuple[tuple[float, float], ...]  # corners in result pixels
    matrix: tuple[tuple[float, float, float], ...]  # 3x3, result pixels -> source pixels, column vectors
    source: int = 0  # index of the source picture


@dataclass(frozen=True)
class Frame:
    """Where a picture's pixels come from: one or more pieces (more than one where the picture was composed)."""

    pieces: tuple[Piece, ...]

    @classmethod
    def identity(cls, width: float, height: float, source: int = 0) -> Frame:
        corners = ((0.0, 0.0), (float(width), 0.0), (float(width), float(height)), (0.0, float(height)))
        return cls((Piece(corners, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), source),))

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64 of the only piece, result -> source pixels. Raises ValueError for a composed picture."""
        if len(self.pieces) != 1:
            raise ValueError(f"a frame of {len(self.pieces)} pieces has no single matrix; read .pieces")
        return np.array(self.pieces[0].matrix, dtype=np.float64)

    def box_in_source(self) -> Box:
        """(x1, y1, x2, y2): bounding box, in source pixels, of the whole result (all its pieces of the first piece's source)."""
        source = self.pieces[0].source
        mapped = np.concatenate([_apply(p.matrix, p.polygon) for p in self.pieces if p.source == source])
        (x1, y1), (x2, y2) = mapped.min(axis=0), mapped.max(axis=0)
        return float(x1), float(y1), float(x2), float(y2)

    def to_json(self) -> list[dict[str, Any]]:
        return [{"polygon": p.polygon, "matrix": p.matrix, "source": p.source} for p in self.pieces]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> Frame:
        return cls(tuple(Piece(_tuples(r["polygon"]), _tuples(r["matrix"]), r["source"]) for r in rows))


class StoredPicture(Protocol):
    """A picture that stays in its file, encoded, until it is needed: a benchmark of 8K pictures doesn't fit into memory."""

    def decode(self) -> Image.Image: ...


@dataclass(frozen=True)
class Sample:
    """A question about one picture, as the model is shown it (already damaged)."""

    id: str
    question: str
    image: str | Image.Image | StoredPicture  # a path, or a picture in memory; imaging.open_image opens all of them
    answers: tuple[str, ...]  # any of them is right
    required_ops: tuple[str, ...] = ()  # what undoes the damage and reaches the target, in order: rotate_90, flip_horizontal, crop, ...
    target_box: Box | None = None  # in pixels of `image`
    damage: str = "none"  # what was done to the picture: rotate_90, flip_vertical, ...
    source: str = ""  # which generator or dataset it came from
    meta: dict[str, Any] = field(default_factory=dict)  # JSON values; kind of question, content key, ...
    more_images: tuple[str | Image.Image | StoredPicture, ...] = ()  # the user's further pictures: images 1, 2, ... of the trajectory

    def to_json(self, image: str, more_images: Sequence[str] = ()) -> dict[str, Any]:
        """A JSON row; `image` and `more_images` are the paths to write in place of the pictures."""
        more = {"more_images": list(more_images)} if more_images else {}
        return {
            "id": self.id, "question": self.question, "image": image, "answers": list(self.answers),
            "required_ops": list(self.required_ops), "target_box": self.target_box, "damage": self.damage,
            "source": self.source, "meta": self.meta, **more,
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Sample:
        """Raises KeyError naming a missing field (datasets/ turns it into file, row and fix)."""
        box = row.get("target_box")
        return cls(
            id=str(row["id"]), question=row["question"], image=row["image"], answers=tuple(str(a) for a in row["answers"]),
            required_ops=tuple(row.get("required_ops", ())), target_box=tuple(box) if box else None,
            damage=row.get("damage", "none"), source=row.get("source", ""), meta=row.get("meta", {}),
            more_images=tuple(row.get("more_images", ())),
        )  # fmt: skip


@dataclass(frozen=True)
class ToolCall:
    """A parsed `code_image_tool` call."""

    code: str
    description: str = ""
    image_index: int = 0


@dataclass(frozen=True)
class Observation:
    """What came back for one reply that was not a final answer: the tool's result, or what was wrong with the reply."""

    status: Status  # "format": the reply itself could not be read (bad JSON, unknown tool, no action)
    message: str  # what the model reads
    image_index: int | None = None  # index in Trajectory.images of the picture that came back
    source_index: int | None = None  # index of the picture that the code was run on
    ops: tuple[Op, ...] = ()
    frame: Frame | None = None  # maps the picture that came back to image 0, composed over the turns; None: unknown
    stdout: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status, "message": self.message, "image_index": self.image_index, "source_index": self.source_index,
            "ops": [op.to_json() for op in self.ops], "frame": self.frame and self.frame.to_json(),
            "stdout": self.stdout, "seconds": self.seconds,
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Observation:
        frame = Frame.from_json(row["frame"]) if row["frame"] else None
        return cls(**{**row, "ops": tuple(Op.from_json(o) for o in row["ops"]), "frame": frame})


@dataclass(frozen=True)
class Turn:
    """One reply of the model and, unless it ended the trajectory, the observation that followed."""

    text: str  # the raw reply, without the end-of-turn token
    think: str = ""
    call: ToolCall | None = None
    answer: str | None = None
    observation: Observation | None = None
    well_formed: bool = True  # <think>...</think> then exactly one <tool_call> or <answer>, nothing else
    n_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.text, "think": self.think, "call": self.call and vars(self.call), "answer": self.answer,
            "observation": self.observation and self.observation.to_json(), "well_formed": self.well_formed,
            "n_tokens": self.n_tokens,
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Turn:
        call = ToolCall(**row["call"]) if row["call"] else None
        observation = Observation.from_json(row["observation"]) if row["observation"] else None
        return cls(**{**row, "call": call, "observation": observation})


@dataclass(frozen=True)
class Trajectory:
    """Everything that happened for one sample. `images[0]` is the user's picture, followed by the sample's `more_images`; every
    tool result is appended."""

    sample_id: str
    turns: tuple[Turn, ...]
    images: tuple[Image.Image | str, ...]  # paths after loading from JSONL, until opened
    answer: str | None
    end_reason: EndReason
    seconds: float = 0.0

    @property
    def observations(self) -> tuple[Observation, ...]:
        return tuple(t.observation for t in self.turns if t.observation is not None)

    @property
    def n_tool_turns(self) -> int:
        """Turns that asked for the tool, whether or not the call could be read or run."""
        return sum(t.observation is not None for t in self.turns)

    def to_json(self, images: list[str]) -> dict[str, Any]:
        """A JSON row; `images` are the paths to write in place of the pictures."""
        return {
            "sample_id": self.sample_id, "turns": [t.to_json() for t in self.turns], "images": images,
            "answer": self.answer, "end_reason": self.end_reason, "seconds": self.seconds,
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: dict[str, Any], folder: str | Path = ".") -> Trajectory:
        """`folder`: where relative image paths start (the folder of the JSONL)."""
        images = tuple(str(Path(folder) / p) for p in row["images"])
        return replace(cls(**{**row, "turns": ()}), turns=tuple(Turn.from_json(t) for t in row["turns"]), images=images)


def _apply(matrix: Any, points: Any) -> np.ndarray:
    """Map (N, 2) points by a 3x3 matrix, with the projective division."""
    homogeneous = np.c_[np.asarray(points, dtype=np.float64), np.ones(len(points))] @ np.asarray(matrix, dtype=np.float64).T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def _tuples(rows: Any) -> Any:
    return tuple(tuple(float(v) for v in row) for row in rows)
