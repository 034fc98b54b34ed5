"""Trajectories as the sandbox would record them, without running code: operations and frames by the geometry of each step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL import Image

from codevision_lite.geometry import compose, op_matrix
from codevision_lite.records import Frame, Observation, Op, Piece, Sample, ToolCall, Trajectory, Turn

W, H = 400, 300
TARGET = (200.0, 120.0, 280.0, 150.0)
PIL_CALLS = {
    "rotate_90": Op("rotate", {"angle": 90, "expand": True}),
    "rotate_180": Op("rotate", {"angle": 180}),
    "rotate_270": Op("rotate", {"angle": 270, "expand": True}),
    "flip_horizontal": Op("flip", {"direction": "horizontal"}),
    "flip_vertical": Op("flip", {"direction": "vertical"}),
    "transpose": Op("transpose", {"method": "transpose"}),
    "transverse": Op("transpose", {"method": "transverse"}),
}
TURN = Turn("<think>t</think><answer>a</answer>")


def sample(*required: str, target: tuple | None = TARGET, answers: tuple[str, ...] = ("F7",), **more: Any) -> Sample:
    return Sample("s", "What is written?", Image.new("RGB", (W, H)), answers, required, target_box=target, **more)


def step_frame(step: Any, size: tuple[float, float]) -> tuple[Frame, tuple[float, float], Op]:
    """Frame (result -> picture before), new size and operation of one step: a name, ("crop", box) or ("resize", (w, h))."""
    width, height = size
    if isinstance(step, str):
        turned = step in ("rotate_90", "rotate_270", "transpose", "transverse")
        new = (height, width) if turned else size
        return _frame(op_matrix(step, width, height).tolist(), new), new, PIL_CALLS[step]
    kind, value = step
    if kind == "crop":
        x1, y1, x2, y2 = value
        new = (x2 - x1, y2 - y1)
        return _frame([[1, 0, x1], [0, 1, y1], [0, 0, 1]], new), new, Op("crop", {"box": list(value)})
    if kind == "resize":
        return _frame([[width / value[0], 0, 0], [0, height / value[1], 0], [0, 0, 1]], value), value, Op("resize")
    return Frame.identity(*size), size, Op(kind, {}, value)  # photometric: value is the change


def _frame(matrix: list, size: tuple[float, float]) -> Frame:
    corners = Frame.identity(*size).pieces[0].polygon
    return Frame((Piece(corners, tuple(tuple(float(v) for v in row) for row in matrix)),))


class Play:
    """Builds a trajectory turn by turn. Pictures are numbered as in the trajectory; 0 is the user's."""

    def __init__(self, size: tuple[int, int] = (W, H)):
        self.picture = Image.new("RGB", size)
        self.turns: list[Turn] = []
        self.known: list[tuple[Frame | None, tuple[float, float]]] = [(Frame.identity(*size), size)]

    def run(self, *steps: Any, on: int = -1, also: tuple = (), code: str = "", description: str = "") -> Play:
        """One successful call: `steps` lead to the result, `also` are operations that ran and were thrown away."""
        on = on % len(self.known)
        frame, size = self.known[on]
        ops = []
        for name in also:
            ops.append(PIL_CALLS[name])
        for step in steps:
            inner, size, op = step_frame(step, size)
            frame = compose(inner, frame)
            ops.append(op)
        return self.show(frame, size, ops, on=on, code=code, description=description)

    def show(self, frame: Frame | None, size: tuple = (W, H), ops: Any = (), on: int = 0, code: str = "", description: str = "") -> Play:
        self.known.append((frame, size))
        seen = Observation("ok", "", len(self.known) - 1, on, tuple(ops), frame)
        self.turns.append(replace(TURN, text=code, call=ToolCall(code, description, on), observation=seen))
        return self

    def fail(self, *ops: Op, status: str = "error", code: str = "") -> Play:
        self.turns.append(replace(TURN, text=code, call=ToolCall(code), observation=Observation(status, "", None, 0, ops)))
        return self

    def answer(self, text: str | None = "F7") -> Trajectory:
        turns = (*self.turns, replace(TURN, answer=text)) if text is not None else tuple(self.turns)
        end = "answer" if text is not None else "max_turns"
        return Trajectory("s", turns, (self.picture,) * len(self.known), text, end)


def box_in(frame_steps: tuple[str, ...], box: tuple, size: tuple = (W, H)) -> tuple:
    """A box of image 0 in the pixels of the picture after `frame_steps`."""
    from codevision_lite.geometry import map_box

    for step in frame_steps:
        inner, new, _ = step_frame(step, size)
        box, size = map_box(_inverse(inner), box), new
    return box


def _inverse(frame: Frame) -> list:
    import numpy as np

    return np.linalg.inv(frame.matrix).tolist()
