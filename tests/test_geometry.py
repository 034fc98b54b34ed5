"""Frame algebra against pixels: every map is checked by moving real pixels through PIL."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codevision_lite.errors import UserError
from codevision_lite.geometry import (
    ORIENTATIONS,
    apply_op,
    area,
    clip,
    compose,
    compose_ops,
    containment,
    frame_overlap,
    inverse_op,
    iou,
    map_box,
    net_orientation,
    op_matrix,
    union_area,
)
from codevision_lite.records import Frame, Piece

GROUP = ("identity", *ORIENTATIONS, "transpose", "transverse")
PIXELS = Image.fromarray(np.arange(6 * 9, dtype=np.int32).reshape(6, 9))
NAMES = st.sampled_from(GROUP)
BOXES = st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def framed(matrix, width, height, source=0) -> Frame:
    corners = Frame.identity(width, height).pieces[0].polygon
    return Frame((Piece(corners, tuple(tuple(float(v) for v in row) for row in matrix), source),))


def oriented(name, width=90.0, height=60.0) -> Frame:
    turned = name in ("rotate_90", "rotate_270", "transpose", "transverse")
    return framed(op_matrix(name, width, height), *((height, width) if turned else (width, height)))


def rotation(degrees, sx=1.0, sy=1.0) -> list:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [[c * sx, -s * sy, 0], [s * sx, c * sy, 0], [0, 0, 1]]


@pytest.mark.parametrize("name", GROUP)
def test_matrix_leads_every_result_pixel_to_its_source_pixel(name):
    source, result = np.array(PIXELS), np.array(apply_op(PIXELS, name))
    matrix = op_matrix(name, *PIXELS.size)
    for y, x in np.ndindex(*result.shape):
        sx, sy, _ = matrix @ (x + 0.5, y + 0.5, 1)  # pixel centres
        assert result[y, x] == source[int(sy), int(sx)]


@pytest.mark.parametrize("first", GROUP)
@pytest.mark.parametrize("second", GROUP)
def test_composition_is_what_pixels_do(first, second):
    both = np.array(apply_op(apply_op(PIXELS, first), second))
    assert np.array_equal(both, np.array(apply_op(PIXELS, compose_ops([first, second]))))


@pytest.mark.parametrize("name", GROUP)
def test_inverse_restores_the_picture(name):
    assert np.array_equal(np.array(apply_op(apply_op(PIXELS, name), inverse_op(name))), np.array(PIXELS))


def test_identity_is_a_copy_and_unknown_names_say_what_was_meant():
    assert apply_op(PIXELS, "identity") is not PIXELS
    with pytest.raises(UserError, match="did you mean 'rotate_90'"):
        apply_op(PIXELS, "rotate90")
    with pytest.raises(UserError, match="use one of"):
        compose_ops(["blur"])


@pytest.mark.parametrize("name", GROUP)
def test_net_orientation_reads_back_what_was_applied(name):
    assert net_orientation(oriented(name)) == name
    crop = framed([[1, 0, 5], [0, 1, 7], [0, 0, 1]], 20, 10)
    assert net_orientation(compose(crop, oriented(name))) == name
    stretched = framed([[0.3, 0, 0], [0, 2.0, 0], [0, 0, 1]], 200, 20)
    assert net_orientation(compose(stretched, oriented(name))) == name


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (rotation(0.5), "identity"), (rotation(1.5), None), (rotation(45), None), (rotation(-90.4), "rotate_270"),
        (rotation(90.4, 0.2, 3.0), "rotate_90"), ([[1, 0, 0], [0, 1, 0], [1e-3, 0, 1]], None),
        ([[1, 0, 0], [0, 1, 0], [1e-7, 0, 1]], "identity"), ([[2, 0, 0], [0, 2, 0], [0, 0, 2]], "identity"),
        ([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "identity"), ([[1, 1, 0], [0, 1, 0], [0, 0, 1]], None),
        ([[1, 1, 0], [0, 0, 0], [0, 0, 1]], None), ([[0, 0, 0], [0, 1, 0], [0, 0, 1]], None),
    ],
)  # fmt: skip
def test_net_orientation_of_oblique_scaled_and_bent_frames(matrix, expected):
    assert net_orientation(framed(matrix, 100, 100)) == expected


def test_net_orientation_of_unknown_and_composed_frames():
    assert net_orientation(None) is None and net_orientation(Frame(())) is None
    a, b = oriented("rotate_90").pieces, oriented("rotate_180").pieces
    assert net_orientation(Frame(a + b)) is None and net_orientation(Frame(a + a)) == "rotate_90"
    assert net_orientation(framed(rotation(3), 100, 100), tolerance_deg=5.0) == "identity"


@settings(max_examples=60)
@given(st.lists(NAMES, max_size=5))
def test_composed_frames_agree_with_composed_names(names):
    frame, size = Frame.identity(90, 60), (90.0, 60.0)
    for name in names:
        frame = compose(oriented(name, *size), frame)
        size = frame.pieces[0].polygon[2]
    assert net_orientation(frame) == compose_ops(names)
    assert frame.box_in_source() == (0, 0, 90, 60)


def test_compose_crops_of_crops():
    outer = framed([[1, 0, 30], [0, 1, 10], [0, 0, 1]], 50, 40)
    inner = framed([[1, 0, 20], [0, 1, 5], [0, 0, 1]], 10, 10)
    assert compose(inner, outer).box_in_source() == (50, 15, 60, 25)
    assert compose(inner, None) is None and compose(None, outer) is None


def test_compose_clips_where_the_middle_picture_ends():
    middle = framed([[1, 0, 30], [0, 1, 10], [0, 0, 1]], 50, 40)
    beyond = framed([[1, 0, 40], [0, 1, -5], [0, 0, 1]], 20, 20)  # half of it lies outside the middle picture
    frame = compose(beyond, middle)
    assert frame.box_in_source() == (70, 10, 80, 25)
    assert area(frame.pieces[0].polygon) == pytest.approx(10 * 15)
    assert compose(framed([[1, 0, 90], [0, 1, 0], [0, 0, 1]], 5, 5), middle) is None


def test_compose_with_a_frame_for_each_picture():
    left = framed([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 50, 50, source=0)
    right = Frame((Piece(((50, 0), (100, 0), (100, 50), (50, 50)), ((1.0, 0.0, -50.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 1),))
    both = Frame(left.pieces + right.pieces)
    shifted = framed([[1, 0, 200], [0, 1, 0], [0, 0, 1]], 50, 50)
    frame = compose(both, [Frame.identity(50, 50), shifted])
    assert [p.matrix[0][2] for p in frame.pieces] == [0, 150] and {p.source for p in frame.pieces} == {0}
    assert compose(both, [Frame.identity(50, 50), None]) is None


def test_map_box_through_a_rotation_and_beyond_the_horizon():
    assert map_box(op_matrix("rotate_90", 90, 60), (0, 0, 10, 20)) == (70, 0, 90, 10)
    with pytest.raises(ValueError, match="horizon"):
        map_box([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]], (0, 0, 20, 10))


def test_boxes():
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0.0 and iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0
    assert containment((0, 0, 10, 10), (5, 0, 99, 99)) == 0.5 and containment((0, 0, 0, 0), (0, 0, 1, 1)) == 0.0


def test_clip_does_not_depend_on_the_direction_of_the_corners():
    square = [(0, 0), (10, 0), (10, 10), (0, 10)]
    diamond = [(10, 0), (20, 10), (10, 20), (0, 10)]
    for a in (square, square[::-1]):
        for b in (diamond, diamond[::-1]):
            assert area(clip(a, b)) == pytest.approx(50)
    assert len(clip(square, [(20, 20), (30, 20), (30, 30)])) < 3


@settings(max_examples=60, deadline=None)
@given(st.lists(BOXES, min_size=1, max_size=6))
def test_union_area_counts_overlaps_once(boxes):
    xs = sorted({x for b in boxes for x in (b[0], b[2])})
    ys = sorted({y for b in boxes for y in (b[1], b[3])})
    expected = 0.0
    for x1, x2 in pairwise(xs):
        for y1, y2 in pairwise(ys):
            mx, my = (x1 + x2) / 2, (y1 + y2) / 2
            if any(b[0] < mx < b[2] and b[1] < my < b[3] for b in boxes):
                expected += (x2 - x1) * (y2 - y1)
    polygons = [[(b[0], b[1]), (b[2], b[1]), (b[2], b[3]), (b[0], b[3])] for b in boxes]
    assert union_area(polygons) == pytest.approx(expected, abs=1e-5)
    assert union_area([]) == 0.0


@settings(max_examples=60, deadline=None)
@given(BOXES, BOXES)
def test_overlap_of_a_plain_crop_is_box_iou(crop, target):
    frame = framed([[1, 0, crop[0]], [0, 1, crop[1]], [0, 0, 1]], crop[2] - crop[0], crop[3] - crop[1])
    overlap = frame_overlap(frame, target)
    assert overlap.iou == pytest.approx(iou(crop, target), abs=1e-7)
    assert overlap.recall == pytest.approx(containment(target, crop), abs=1e-7)
    assert overlap.precision == pytest.approx(containment(crop, target), abs=1e-7)


def test_overlap_over_pieces_edges_and_unknown_frames():
    twice = Frame.identity(10, 10).pieces * 2
    assert frame_overlap(Frame(twice), (0, 0, 10, 10)) == (1.0, 1.0, 1.0)  # the same region twice is one region
    other = Frame.identity(10, 10, source=1)
    assert frame_overlap(other, (0, 0, 10, 10)).iou == 0.0
    assert frame_overlap(None, (0, 0, 1, 1)).iou == 0.0 and frame_overlap(Frame.identity(5, 5), (3, 3, 3, 3)).iou == 0.0
    wide = framed([[1, 0, -100], [0, 1, 0], [0, 0, 1]], 200, 10)
    assert frame_overlap(wide, (0, 0, 10, 10)).precision == pytest.approx(0.05)
    assert frame_overlap(wide, (0, 0, 10, 10), size=(100, 10)).precision == pytest.approx(0.1)
    turned = framed([[0.5**0.5, -(0.5**0.5), 50], [0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], 20, 20)
    assert frame_overlap(turned, turned.box_in_source()).recall == pytest.approx(0.5)
