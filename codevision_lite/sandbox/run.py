"""The record that one run of the sandbox hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from codevision_lite.records import Frame, Op

RunStatus = Literal["ok", "refused", "error", "timeout", "memory", "output"]


@dataclass(frozen=True)
class Run:
    """What happened when the code ran.

    `status`: "ok" (a new picture came back), "refused" (the policy), "error" (the code, or no new picture), "timeout", "memory",
    "output" (the result or the printed text was too large).
    `result`: the picture, or None. For an unchanged picture it is that picture, with status "error".
    `frame`: maps result pixels to pixels of images[image_index] (pixel corners; a piece's `source` is the index of its picture);
    None where that is not known. `ops`: the operations that ran, in order. `seconds`: wall time of the code alone.
    """

    status: RunStatus
    message: str
    result: Image.Image | None = None
    stdout: str = ""
    ops: tuple[Op, ...] = ()
    frame: Frame | None = None
    seconds: float = 0.0
