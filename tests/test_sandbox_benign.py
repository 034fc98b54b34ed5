"""Ordinary image code: runs as plain Python does, and its geometry is exact where it is claimed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from sandbox_geometry import corner_error, expected_map

from codevision_lite.sandbox import Sandbox

DATA = Path(__file__).parent / "data"
BENIGN = json.loads((DATA / "benign.json").read_text())
PROGRAMS = json.loads((DATA / "sandbox_programs.json").read_text())
WIDTH, HEIGHT = 640, 480


@pytest.fixture(scope="module")
def image():
    small = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    made = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    ImageDraw.Draw(made).rectangle((100, 100, 200, 200), fill=(255, 255, 255))
    return made


@pytest.fixture(scope="module", params=["inline", pytest.param("worker", marks=pytest.mark.slow)])
def sandbox(request):
    with Sandbox(mode=request.param) as made:
        yield made


@pytest.mark.parametrize("row", BENIGN, ids=[r["id"] for r in BENIGN])
def test_benign_snippet(sandbox, image, row):
    run, expect = sandbox.run(row["code"], [image]), row["expect"]
    if expect.get("err"):
        assert run.status in ("error", "refused")
        return
    assert run.status == "ok" or "No result" in run.message or "same as the input" in run.message, run.message
    assert expect.get("stdout", "") in run.stdout
    if "size" in expect:
        assert list(run.result.size) == expect["size"]
    if "mode" in expect:
        assert run.result.mode == expect["mode"]
    if "geom" in expect and expect["geom"] is None:
        assert run.frame is None
    elif "geom" in expect or "multi" in expect:
        check_pieces(run.frame, expect)


def check_pieces(frame, expect):
    tolerance = expect.get("tol", 1e-6)
    for ops in expect.get("multi") or [expect["geom"]]:
        matrix, (w, h) = expected_map(ops, (WIDTH, HEIGHT))
        if "multi" in expect:  # a piece lies elsewhere in the result: what it shows of the source must agree
            wanted = shown(matrix, [(0, 0), (w, 0), (w, h), (0, h)])
            assert min(np.abs(shown(np.array(p.matrix), p.polygon) - wanted).max() for p in frame.pieces) <= tolerance
        else:
            assert min(corner_error(matrix, np.array(p.matrix), p.polygon) for p in frame.pieces) <= tolerance


def shown(matrix, corners):
    points = matrix @ np.c_[np.asarray(corners, float), np.ones(len(corners))].T
    points = points[:2] / points[2]
    return np.concatenate([points.min(1), points.max(1)])


@pytest.fixture(scope="module")
def coordinates():
    """A picture whose red and green say where each pixel is."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = [(x + 0.5) / WIDTH * 240 + 5, (y + 0.5) / HEIGHT * 240 + 5, np.full((HEIGHT, WIDTH), 128.0)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


@pytest.fixture(scope="module")
def inline():
    with Sandbox("inline") as made:
        yield made


@pytest.mark.parametrize("row", PROGRAMS, ids=range(len(PROGRAMS)))
def test_frame_agrees_with_the_pixels(inline, coordinates, row):
    run = inline.run(row["code"], [coordinates])
    if not row["runs"]:
        return
    assert run.status == "ok" or "same as the input" in run.message or "No result" in run.message, run.message
    if row["frame"] == "none":
        assert run.frame is None
    elif row["frame"] == "known":
        assert run.frame is not None
    assert row.get("stdout", "") in run.stdout
    if "geom" in row:
        matrix, size = expected_map(row["geom"], (WIDTH, HEIGHT))
        assert run.result.size == size
        assert min(corner_error(matrix, np.array(p.matrix), p.polygon) for p in run.frame.pieces) <= 1e-6
    if row["colours"] and run.frame is not None:
        assert worst_error(run) < 8  # colours resolve 2.7 px; filters and rounding add some


def worst_error(run):
    """Largest difference (px) between where the frame says a pixel is from and where its colour says so; later pieces are on top."""
    pixels = np.asarray(run.result.convert("RGB")).astype(float)
    covered = np.zeros(pixels.shape[:2], bool)
    worst = 0.0
    for piece in reversed(run.frame.pieces):
        area = np.zeros(pixels.shape[:2], np.uint8)
        cv2.fillConvexPoly(area, np.round(np.array(piece.polygon) - 0.5).astype(np.int32), 1)
        inside = cv2.erode(area, np.ones((9, 9), np.uint8)).astype(bool) & ~covered
        covered |= area.astype(bool)
        ys, xs = np.nonzero(inside)
        if len(ys):
            said = np.array(piece.matrix) @ np.stack([xs + 0.5, ys + 0.5, np.ones(len(xs))])
            seen = (pixels[ys, xs, 0] - 5) / 240 * WIDTH, (pixels[ys, xs, 1] - 5) / 240 * HEIGHT
            error = np.maximum(np.abs(said[0] / said[2] - seen[0]), np.abs(said[1] / said[2] - seen[1]))
            worst = max(worst, float(np.percentile(error, 99)))
    return worst
