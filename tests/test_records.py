"""Records: what is written to JSON comes back equal, and a frame says where a picture's pixels lie."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from PIL import Image

from codevision_lite.records import Frame, Observation, Op, Piece, Sample, ToolCall, Trajectory, Turn

CROP = Frame((Piece(((0.0, 0.0), (10.0, 0.0), (10.0, 8.0), (0.0, 8.0)), ((1.0, 0.0, 5.0), (0.0, 1.0, 7.0), (0.0, 0.0, 1.0))),))
TWO = Frame((*CROP.pieces, replace(CROP.pieces[0], matrix=((0.0, -1.0, 40.5), (1.0, 0.0, -3.25), (0.0, 0.0, 1.0)))))
OPS = (Op("rotate", {"angle": 90.0, "expand": True}, 0.25), Op("crop", {"box": [1, 2, 3, 4]}))
SEEN = Observation("ok", "Image 1: 10x8 pixels.\nPrinted: ä", 1, 0, OPS, CROP, "ä\n", 0.125)
CALL = ToolCall('print("\\n")\nresult = image', "turn", 2)
RECORDS = [
    Op("flip"),
    *OPS,
    Observation("format", "The call is not valid JSON."),
    Observation("timeout", "stopped", None, 0, OPS[:1], None, "x", 10.0),
    SEEN,
    replace(SEEN, frame=TWO),
    Turn(""),
    Turn("<think>é\n</think>", "é", CALL, None, SEEN, False, 17),
    Turn("<answer>7</answer>", answer="7"),
    Turn("<answer></answer>", answer=""),
]


def through_json(value):
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_a_record_comes_back_equal_from_json(record):
    assert type(record).from_json(through_json(record.to_json())) == record


@pytest.mark.parametrize("frame", [CROP, TWO, Frame.identity(3, 2), Frame.identity(0.5, 2, source=3)])
def test_a_frame_comes_back_equal_from_json(frame):
    assert Frame.from_json(through_json(frame.to_json())) == frame


@pytest.mark.parametrize(
    "sample",
    [
        Sample("a", "What?", "p.png", ("F", "f")),
        Sample("b", "What?", "p.png", ("7",), ("rotate_90", "crop"), (1.0, 2.0, 3.5, 4.0), "rotate_270", "x", {"n": [1]}),
    ],
)
def test_a_sample_comes_back_equal_from_json(sample):
    assert Sample.from_json(through_json(sample.to_json("p.png"))) == sample


def test_a_trajectory_comes_back_equal_from_json_with_its_pictures_by_path(tmp_path):
    turns = (Turn("a", call=CALL, observation=SEEN, n_tokens=3), Turn("b", answer="F"))
    trajectory = Trajectory("s", turns, (Image.new("RGB", (2, 2)), Image.new("RGB", (3, 1))), "F", "answer", 1.5)
    loaded = Trajectory.from_json(through_json(trajectory.to_json(["images/a.png", "images/b.png"])), tmp_path)
    assert loaded == replace(trajectory, images=(str(tmp_path / "images/a.png"), str(tmp_path / "images/b.png")))


@pytest.mark.parametrize("key", ["id", "question", "image", "answers"])
def test_a_missing_field_of_a_sample_is_named(key):
    row = Sample("a", "What?", "p.png", ("F",)).to_json("p.png")
    del row[key]
    with pytest.raises(KeyError, match=key):
        Sample.from_json(row)


def test_fields_that_a_foreign_row_may_leave_out_have_defaults():
    sample = Sample.from_json({"id": 7, "question": "What?", "image": "p.png", "answers": [12]})
    assert sample == Sample("7", "What?", "p.png", ("12",))


def test_records_do_not_change():
    with pytest.raises(FrozenInstanceError):
        CALL.code = ""


def test_a_crop_box_is_where_the_crop_was_taken():
    assert CROP.box_in_source() == (5.0, 7.0, 15.0, 15.0)
    assert np.array_equal(CROP.matrix, [[1, 0, 5], [0, 1, 7], [0, 0, 1]])


def test_a_composed_picture_has_a_box_over_its_pieces_and_no_single_matrix():
    far = replace(CROP.pieces[0], matrix=((1.0, 0.0, 90.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    other = replace(far, source=1)
    frame = Frame((CROP.pieces[0], far, other))
    assert frame.box_in_source() == (5.0, 0.0, 100.0, 15.0)
    with pytest.raises(ValueError, match="3 pieces"):
        frame.matrix  # noqa: B018 a property


def test_turns_that_asked_for_the_tool_are_counted_whether_or_not_they_ran():
    error = Turn("b", observation=Observation("format", "no"))
    trajectory = Trajectory("s", (Turn("a", observation=SEEN), error, Turn("c", answer="F")), (), "F", "answer")
    assert trajectory.n_tool_turns == 2
    assert [o.status for o in trajectory.observations] == ["ok", "format"]
